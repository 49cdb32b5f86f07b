// The page: connects the picture, the mask, the form and the results.

import { getFile, getPhoto, getState, post, sendFile } from "./api.js";
import { $, complain, make, save, tell } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Editor } from "./editor.js";
import { connectKeys } from "./keys.js";
import { Results, newRun } from "./results.js";
import { Source } from "./source.js";
import { Viewer, bars } from "./viewer.js";

const STATES = {
  waiting: "not loaded yet", loading: "loading", compiling: "compiling", ready: "ready", failed: "cannot be loaded",
};
const BUSY = ["loading", "compiling"];
let models = [], model = null;

const drawing = new Drawing();
const editor = new Editor($("mask"), showMask);
const source = new Source(showPicture, complain);
const viewer = new Viewer(keep, showCommand);
const results = new Results((run, candidate) => viewer.showCandidate(run, candidate), keep);

function showPicture() {
  const isGiven = source.tokens !== null;
  editor.setPicture(model, source.tokens);
  $("surprise").disabled = $("classify").disabled = !isGiven;
  $("classes-found").replaceChildren();
  for (const button of document.querySelectorAll(".photos button")) {
    button.setAttribute("aria-pressed", String(isGiven && button.dataset.path === source.path));
  }
}

function showMask() {
  const { n_px } = model, mask = editor.mask, n = mask.reduce((total, x) => total + 1 - x, 0);
  const isRows = editor.tool === "rows";
  $("rows-field").hidden = !isRows || !editor.enabled;
  $("size-field").hidden = editor.tool !== "brush" && editor.tool !== "eraser";
  $("rows").max = n_px - 1;
  if (editor.rows !== null) $("rows").value = $("rows-out").value = editor.rows;
  else $("rows-out").value = "\u2013";
  $("undo").disabled = !editor.past.length;
  $("redo").disabled = !editor.future.length;
  for (const control of document.querySelectorAll(".tools button, #rows, #size")) {
    if (!["undo", "redo"].includes(control.id)) control.disabled = !editor.enabled;
  }
  const share = Math.round((100 * n) / n_px ** 2);
  const what = `${n} of ${n_px ** 2} pixels are to be drawn, ${share} %`;
  $("mask-text").textContent = !editor.enabled ? "Starting from nothing: the model draws the whole picture."
    : n ? what : "Nothing is wiped away yet: paint on the picture.";
  $("draw").disabled = !n;
}

function chooseTool(tool) {
  editor.tool = tool;
  editor.corner = null;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
  showMask();
  editor.show();
}

function showModel() {
  const isReady = model.state === "ready", chip = $("model-state");
  if (chip.dataset.state !== model.state || chip.dataset.model !== model.name) {
    chip.textContent = STATES[model.state];
    chip.title = model.problem;
    if (model.state === "failed") complain(model.problem);
  }
  Object.assign(chip.dataset, { state: model.state, model: model.name });
  chip.classList.toggle("ok", isReady);
}

async function chooseModel(name) {
  model = models.find((one) => one.name === name);
  showModel();
  $("classify").hidden = !model.can_classify;
  $("surprise").hidden = !model.has_likelihood;
  $("class-fields").hidden = !model.classes.length;
  const options = model.classes.map((one) => make("option", { value: one }, one));
  $("class").replaceChildren(make("option", { value: "" }, "any"), ...options);
  $("top-k").max = model.n_vocab;
  $("size").max = Math.max(2, Math.round(model.n_px / 2.5));
  showGuidance();
  await source.setModel(model);
  if (model.state === "waiting") {
    await post("warm", { model: model.name });
    watch();
  }
}

function showGuidance() {
  $("guidance-field").hidden = !$("class").value;
}

// Asks for the models' states until they are loaded.
let watching = false;
async function watch() {
  if (watching) return;
  watching = true;
  try {
    do {
      await new Promise((done) => { setTimeout(done, 700); });
      models = (await getState()).models;
      model = models.find((one) => one.name === model.name);
      showModel();
    } while (models.some((one) => BUSY.includes(one.state)) || model.state === "waiting");
  } catch (error) {
    $("model-state").textContent = "gone";
    $("model-state").dataset.state = "failed";
    complain(error);
  } finally { watching = false; }
}

function fieldsNow() {
  const fields = {
    model: model.name, n: Number($("n").value), seed: Number($("seed").value),
    temperature: Number($("temperature").value),
  };
  if (source.tokens) {
    Object.assign(fields, { tokens: source.tokens, known: [...editor.mask], picture: source.picture });
  }
  if ($("top-p").value < 1) fields.top_p = Number($("top-p").value);
  if ($("top-k").value) fields.top_k = Number($("top-k").value);
  Object.assign(fields, { method: $("method").value, particles: Number($("particles").value) });
  if (!$("class-fields").hidden && $("class").value) {
    Object.assign(fields, { class_name: $("class").value, guidance: Number($("guidance").value) });
  }
  return fields;
}

async function draw(fields, before = source.tokens, of = model) {
  if (drawing.isRunning) return;
  const words = [`seed ${fields.seed}`, fields.class_name, of.name === models[0].name ? null : of.name];
  const run = newRun(fields, of, before, words.filter(Boolean).join(", "));
  results.begin(run);
  const running = drawing.run(fields, (event) => results.follow(event));
  if (matchMedia("(max-width: 700px)").matches) $("stop").scrollIntoView();
  try {
    if (!(await running)) results.stopped();
    else tell(`${fields.n === 1 ? "The picture is" : `${fields.n} candidates are`} drawn`);
  } catch (error) {
    results.stopped();
    complain(error);
  }
  watch();
}

async function keep(run, candidate) {
  try {
    if (run.model.name !== model.name) {
      $("model").value = run.model.name;
      await chooseModel(run.model.name);
    }
    await source.keep(run.model, candidate.tokens);
    tell("Kept: wipe another part away");
    $("mask").focus({ preventScroll: !matchMedia("(max-width: 700px)").matches });
  } catch (error) { complain(error); }
}

function showCommand(run) {
  const { command, fields } = run, name = { model: run.model.name };
  const files = [];
  if (/ picture\.png /.test(command)) {
    files.push(["picture.png", () => getFile("png", { ...name, images: [run.before] })]);
  }
  if (/ mask\.png /.test(command)) files.push(["mask.png", () => getFile("mask.png", { ...name, known: fields.known })]);
  const copy = make("button", { type: "button", className: "primary", onclick: async () => {
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = "Copied";
    } catch { complain("the browser does not let the page copy: select the line, and copy it yourself"); }
  } }, "Copy");
  const saves = files.map(([file, get]) => make("button", { type: "button", onclick: async () => {
    try { save(await get(), file); } catch (error) { complain(error); }
  } }, `Save ${file}`));
  const close = make("button", {
    type: "button", className: "quiet round close", "aria-label": "Close", onclick: () => $("command").close(),
  }, "\u2715");
  $("command").replaceChildren(
    close, make("h2", { id: "command-title" }, "The command that draws the same"),
    make("pre", { tabIndex: 0, id: "command-line" }, command),
    make("p", { className: "note" }, files.length ? "It reads the files below: save them where you call it."
      : fields.tokens ? "Call it where the picture's file is." : "It writes its pictures to the folder out."),
    make("div", { className: "row" }, copy, ...saves),
  );
  $("command").showModal();
}

// Saves all candidates in one file, each about `side` pixels wide.
async function saveAll(path, name, side) {
  const { run } = results, scale = Math.min(32, Math.max(1, Math.floor(side / run.model.n_px)));
  const images = run.candidates.map((candidate) => candidate.tokens);
  const fields = { model: run.model.name, images, known: run.known.map(Number), scale };
  try { save(await getFile(path, fields), name); } catch (error) { complain(error); }
}

async function loadMask(file) {
  try {
    const { known, notice } = await sendFile("mask", file, { model: model.name });
    editor.setMask(known);
    if (notice) tell(notice);
  } catch (error) { complain(error); }
}

async function classify() {
  try {
    const { classes } = await post("classify", { model: model.name, tokens: source.tokens });
    $("classes-found").replaceChildren(...bars(classes));
  } catch (error) { complain(error); }
}

async function surprise() {
  $("surprise").disabled = true;
  try {
    const { tokens } = source, of = model;
    viewer.showSurprise(of, tokens, (await post("surprise", { model: of.name, tokens })).nats);
  } catch (error) { complain(error); } finally { $("surprise").disabled = source.tokens === null; }
}

function connect() {
  $("model").addEventListener("change", () => chooseModel($("model").value).catch(complain));
  $("nothing").addEventListener("click", () => source.chooseNothing());
  $("surprise").addEventListener("click", surprise);
  $("classify").addEventListener("click", classify);
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => chooseTool(button.dataset.tool));
  }
  // One step of undo from where a movement of the slider begins to where it ends.
  let isMoving = false;
  $("rows").addEventListener("input", () => {
    if (!isMoving) editor.remember();
    isMoving = true;
    editor.setRows(Number($("rows").value));
  });
  $("rows").addEventListener("change", () => { isMoving = false; });
  $("size").addEventListener("input", () => editor.setSize(Number($("size").value)));
  for (const name of ["undo", "redo", "invert", "clear"]) $(name).addEventListener("click", () => editor[name]());
  for (const output of document.querySelectorAll("#form output")) {
    const input = $(output.htmlFor.value);
    input.addEventListener("input", () => { output.value = input.value; });
  }
  $("class").addEventListener("change", showGuidance);
  $("dice").addEventListener("click", () => { $("seed").value = Math.floor(Math.random() * 1e6); });
  // A field of the folded part could not say what is wrong.
  $("form").addEventListener("invalid", () => { document.querySelector("#form details").open = true; }, true);
  $("form").addEventListener("submit", (event) => { event.preventDefault(); draw(fieldsNow()); });
  $("stop").addEventListener("click", () => drawing.stop());
  $("again").addEventListener("click", () => draw(results.run.fields, results.run.before, results.run.model));
  $("more").addEventListener("click", () => {
    const { fields, before, model: of } = results.run;
    $("seed").value = fields.seed + 1;
    draw({ ...fields, seed: fields.seed + 1 }, before, of);
  });
  $("save-grid").addEventListener("click", () => saveAll("png", "studio-grid.png", 256));
  $("save-gif").addEventListener("click", () => saveAll("gif", "studio.gif", 192));
  $("copy").addEventListener("click", () => showCommand(results.run));
  connectKeys({ editor, source, drawing, chooseTool, loadMask });
}

async function start() {
  const state = await getState();
  models = state.models;
  $("model").append(...models.map(({ name }) => make("option", { value: name }, name.split("/").at(-1) || name)));
  $("photos").append(...state.photos.map((photo) => {
    const image = make("img", { alt: "", width: 40, height: 40 });
    getPhoto(photo.name).then((file) => { image.src = URL.createObjectURL(file); }, complain);
    const button = make("button", {
      type: "button", "aria-pressed": "false", "aria-label": photo.name.replace(/\.\w+$/, ""), title: photo.name,
      onclick: () => source.choosePhoto(photo),
    }, image);
    button.dataset.path = photo.path;
    return button;
  }));
  connect();
  source.model = model = models[0];
  editor.setPicture(model, null);
  await chooseModel(model.name);
  if (state.photos.length) {
    await source.choosePhoto(state.photos.find(({ name }) => name.startsWith("cat")) ?? state.photos[0]);
  }
  document.body.dataset.ready = "yes";
  watch();
}

start().catch(complain);
