// Small helpers: elements by their ids, new elements, messages, files to save.

export const $ = (id) => document.getElementById(id);

// A new element with properties, which may be listeners such as onclick, attributes (aria-...), and children.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

// Kept here, as a dialog may be emptied while one of them is inside.
const boxes = { toast: $("toast"), alert: $("alert") }, timers = {};

function show(id, text, milliseconds) {
  const box = boxes[id];
  // In a dialog, what lies outside of it is hidden; the last one lies above the others.
  const home = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if (box.parentElement !== home) home.append(box);
  box.textContent = text;
  box.hidden = false;
  clearTimeout(timers[id]);
  timers[id] = setTimeout(() => { box.hidden = true; }, milliseconds);
}

export const tell = (text) => show("toast", text, 4000);
// An error is one sentence of the server's; the backticks around names are for terminals.
export const complain = (error) => show("alert", String(error.message ?? error).replaceAll("`", ""), 9000);

export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = make("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// Calls a function when it has not been called again for a while.
export function later(milliseconds, callback) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => callback(...values), milliseconds);
  };
}

export const thousands = (number) => Math.round(number).toLocaleString("en").replaceAll(",", "\u202f").replace("-", "\u2212");
