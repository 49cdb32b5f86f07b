// What the page asks of its server, and of nobody else.

const bytes = crypto.getRandomValues(new Uint8Array(8));
const headers = { "x-igpt-studio": [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("") };
const token = new URLSearchParams(location.search).get("token");
if (token !== null) headers["x-igpt-token"] = token;

const MOST_BYTES = 10_000_000;

const gone = (error) => {
  throw error.name === "AbortError" ? error : new Error("the studio does not answer: start it again, and load this page anew");
};

async function ask(path, options = {}) {
  const answer = await fetch(`/api/${path}`, { ...options, headers: { ...headers, ...options.headers } }).catch(gone);
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error ?? `the studio answered ${answer.status}`);
  }
  return answer;
}

const json = (fields, signal) => ({
  method: "POST", body: JSON.stringify(fields), signal, headers: { "content-type": "application/json" },
});

export const getState = async () => (await ask("state")).json();
export const getPhoto = async (name) => (await ask(`photo/${encodeURIComponent(name)}`)).blob();
export const post = async (path, fields) => (await ask(path, json(fields))).json();
export const getFile = async (path, fields) => (await ask(path, json(fields))).blob();

// Sends a file; `query` has the model, and perhaps a crop.
export async function sendFile(path, file, query) {
  if (file.size > MOST_BYTES) {
    throw new Error(`expected a file of at most 10 MB, got ${Math.round(file.size / 1e6)} MB: shrink the picture`);
  }
  return (await ask(`${path}?${new URLSearchParams(query)}`, { method: "POST", body: file })).json();
}

// Draws, and calls `onEvent` with each line of the answer as it comes.
export async function stream(fields, signal, onEvent) {
  const answer = await ask("draw", json(fields, signal));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch(gone);
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.error) throw new Error(event.error);
      onEvent(event);
    }
  }
}
