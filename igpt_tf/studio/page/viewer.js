// The dialog that shows one picture: itself, before and after, and how surprised the model is by each pixel.

import { getFile, post } from "./api.js";
import { $, complain, make, save, thousands } from "./dom.js";
import { heatColor, paint, paintHeat, sum } from "./pixels.js";
import { likelihood, nameOf } from "./results.js";

// Times that a picture is enlarged, as `igpt complete` does; larger ones to about this many pixels.
const TIMES = 16, ENLARGED = 512;

export function bars(classes) {
  return classes.map(({ name, probability }) => {
    const per = `${(100 * probability).toFixed(probability < 0.0995 ? 1 : 0)} %`;
    const bar = make("meter", { min: 0, max: 1, value: probability, "aria-label": `${name}: ${per}` });
    return make("div", { className: "bar" }, make("span", {}, name), bar, make("span", { className: "number" }, per));
  });
}

export async function savePng(model, tokens, scale, name) {
  save(await getFile("png", { model: model.name, images: [tokens], scale }), `${name}.png`);
}

export class Viewer {
  // `keep` and `copy` are called with a run and one of its candidates.
  constructor(keep, copy) {
    this.dialog = $("viewer");
    this.keep = keep;
    this.copy = copy;
  }

  // Shows a candidate of a run.
  showCandidate(run, candidate) {
    const isDrawn = (i) => !run.known[i];
    const n = sum(run.known.map((x) => 1 - x));
    const facts = [["Model", run.model.name], ["Seed", `${run.fields.seed}, no. ${candidate.number + 1}`]];
    if (candidate.nats) {
      const each = (sum(candidate.nats, isDrawn) / n).toFixed(2);
      facts.push(["Log-likelihood", `${thousands(likelihood(candidate))} nats`]);
      facts.push(["Drawn pixels", `${n}, ${each} nats each`]);
    }
    const keep = () => { this.dialog.close(); this.keep(run, candidate); };
    const actions = [this.action("Keep and go on", keep, "primary")];
    if (run.command) actions.push(this.action("Copy command", () => this.copy(run)));
    const name = `studio-${run.fields.seed}-${candidate.number + 1}`;
    this.show(run.model, candidate.tokens, { title: "Candidate", facts, actions, before: run.before, name });
    this.nats = candidate.nats;
  }

  // Shows a picture with its surprise.
  showSurprise(model, tokens, nats) {
    const facts = [
      ["Model", model.name],
      ["Log-likelihood", `${thousands(-sum(nats))} nats`],
      ["Surprise", `${(sum(nats) / nats.length).toFixed(2)} nats per pixel`],
    ];
    this.show(model, tokens, { title: "The picture", facts, actions: [], before: null, name: "picture" });
    this.nats = nats;
    this.look("surprise");
  }

  show(model, tokens, { title, facts, actions, before, name }) {
    Object.assign(this, { model, tokens, before, title, nats: null, cell: [0, 0] });
    this.canvas = make("canvas", { className: "pixels", width: 1, height: 1, role: "img", "aria-label": title });
    this.over = make("canvas", { className: "pixels over", width: 1, height: 1, hidden: true, "aria-hidden": "true" });
    this.line = make("div", { className: "cut", hidden: true });
    this.slider = make("input", {
      type: "range", min: 0, max: 100, value: 50, hidden: true, "aria-label": "Before and after",
      oninput: () => this.cut(),
    });
    this.legend = make("p", { className: "note legend", hidden: true });
    this.tabs = make("div", { className: "segments", role: "group", "aria-label": "View" });
    const views = { picture: "Picture", ...(before && { compare: "Before / after" }), ...(model.has_likelihood && { surprise: "Surprise" }) };
    for (const [view, label] of Object.entries(views)) {
      const button = make("button", { type: "button", "aria-pressed": "false", onclick: () => this.look(view) }, label);
      button.dataset.view = view;
      this.tabs.append(button);
    }
    const times = model.palette ? TIMES : Math.max(1, Math.floor(ENLARGED / model.n_px));
    const found = make("div", { className: "bars", "aria-live": "polite" });
    const more = [
      ...actions,
      this.action(`Save PNG, ${model.n_px} px`, () => savePng(model, tokens, 1, name)),
      this.action(`Save PNG, ${model.n_px * times} px`, () => savePng(model, tokens, times, name)),
    ];
    if (model.can_classify) {
      more.push(this.action("Name it", async () => {
        found.replaceChildren(...bars((await post("classify", { model: model.name, tokens })).classes));
      }));
    }
    const close = make("button", {
      type: "button", className: "quiet round close", "aria-label": "Close", onclick: () => this.dialog.close(),
    }, "\u2715");
    const frame = make("div", { className: "frame" }, this.canvas, this.over, this.line);
    frame.addEventListener("pointermove", (event) => this.point(event, frame));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    const list = make("dl", { className: "facts" });
    for (const [term, value] of facts) list.append(make("dt", {}, term), make("dd", {}, value));
    this.dialog.replaceChildren(
      close,
      make("div", { className: "view" }, this.tabs, frame, this.slider, this.legend),
      make("div", { className: "side" }, make("h2", { id: "viewer-title" }, title), list,
        make("div", { className: "actions" }, ...more), found),
    );
    paint(this.canvas, tokens, model);
    if (before) paint(this.over, before, model);
    this.look("picture");
    if (!this.dialog.open) this.dialog.showModal();
  }

  action(label, run, kind = "") {
    return make("button", { type: "button", className: kind, onclick: async () => {
      try { await run(); } catch (error) { complain(error); }
    } }, label);
  }

  look(view) {
    this.view = view;
    for (const button of this.tabs.children) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    const isCompare = view === "compare";
    this.over.hidden = this.line.hidden = this.slider.hidden = !isCompare;
    this.legend.hidden = view !== "surprise";
    // Arrow keys read the surprise of one pixel after the other.
    this.canvas.tabIndex = view === "surprise" ? 0 : -1;
    this.canvas.setAttribute("role", view === "surprise" ? "application" : "img");
    this.canvas.setAttribute("aria-label", view === "surprise" ? "Surprise: arrow keys go from pixel to pixel" : this.title);
    if (view === "surprise") {
      const most = paintHeat(this.canvas, this.nats);
      const scale = make("canvas", { width: 100, height: 1, "aria-hidden": "true" });
      const context = scale.getContext("2d");
      for (let i = 0; i < 100; i++) {
        context.fillStyle = `rgb(${heatColor(i / 99).join(" ")})`;
        context.fillRect(i, 0, 1, 1);
      }
      this.reading = make("span", { className: "number", role: "status" }, "point at a pixel");
      this.legend.replaceChildren("0", scale, `${most.toFixed(1)} nats per pixel `, this.reading);
    } else paint(this.canvas, this.tokens, this.model);
    if (isCompare) this.cut();
  }

  cut() {
    const part = Number(this.slider.value);
    this.over.style.clipPath = `inset(0 ${100 - part}% 0 0)`;
    this.line.style.left = `${part}%`;
  }

  point(event, frame) {
    const box = frame.getBoundingClientRect(), n = this.model.n_px;
    if (this.view === "compare" && event.buttons) {
      this.slider.value = (100 * (event.clientX - box.left)) / box.width;
      this.cut();
    } else if (this.view === "surprise") {
      this.read([event.clientX - box.left, event.clientY - box.top].map((at) => Math.floor((at / box.width) * n)));
    }
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (this.view !== "surprise" || !(event.key in steps)) return;
    event.preventDefault();
    this.read(this.cell.map((at, i) => at + steps[event.key][i]));
  }

  // Tells the surprise of the pixel in a column and a row.
  read(cell) {
    const n = this.model.n_px;
    const [x, y] = this.cell = cell.map((at) => Math.min(Math.max(at, 0), n - 1));
    this.reading.textContent = `column ${x + 1}, row ${y + 1}: ${this.nats[y * n + x].toFixed(2)} nats`;
  }
}
