// The candidates of the present drawing, and everything that was made since the page was opened.

import { $, make, thousands } from "./dom.js";
import { paint, sum } from "./pixels.js";

// A drawing and its candidates: what was asked for, and what came of it.
export function newRun(fields, model, before, label) {
  const known = fields.known ?? new Array(model.n_px ** 2).fill(0);
  const candidates = Array.from({ length: fields.n }, (_, number) => ({ number, tokens: null, nats: null, row: 0 }));
  return { fields, model, known, before, label, candidates, command: null, isDone: false };
}

export const nameOf = (run, candidate) => `seed ${run.fields.seed}, no. ${candidate.number + 1}`;
export const likelihood = (candidate) => -sum(candidate.nats);

export class Results {
  // `open` and `keep` are called with a run and one of its candidates.
  constructor(open, keep) {
    this.open = open;
    this.keep = keep;
    this.run = null;
    this.cards = [];
  }

  begin(run) {
    this.run = run;
    $("empty").hidden = true;
    $("results-tools").hidden = true;
    $("results-about").textContent = run.label;
    this.cards = run.candidates.map((candidate) => this.card(run, candidate));
    $("cards").replaceChildren(...this.cards.map((card) => card.box));
    $("cards").dataset.n = run.candidates.length > 4 ? "many" : run.candidates.length;
    for (const card of this.cards) this.blank(card);
  }

  card(run, candidate) {
    const canvas = make("canvas", { className: "pixels", width: 1, height: 1, "aria-hidden": "true" });
    const text = make("span", { className: "about" }, `${run.fields.seed} \u00b7 ${candidate.number + 1}`);
    const button = make("button", {
      type: "button", className: "picture", disabled: true, "aria-label": `${nameOf(run, candidate)}: being drawn`,
      onclick: () => this.open(run, candidate),
    }, canvas);
    const keep = make("button", {
      type: "button", className: "small", disabled: true, title: "Go on from this picture",
      "aria-label": `Keep ${nameOf(run, candidate)} and go on`, onclick: () => this.keep(run, candidate),
    }, "Keep");
    const box = make("div", { className: "card" }, button, make("div", { className: "under" }, text, keep));
    return { box, canvas, text, button, keep, candidate };
  }

  blank({ canvas }) {
    const { before, model, known } = this.run;
    paint(canvas, before ?? new Array(known.length).fill(0), model, known);
  }

  follow(event) {
    const { run } = this;
    if (event.tokens) {
      event.tokens.forEach((tokens, i) => {
        const card = this.cards[event.candidates[0] + i];
        Object.assign(card.candidate, { tokens, row: event.row, provisional: event.provisional });
        const end = event.row * run.model.n_px;
        paint(card.canvas, tokens, run.model, run.known.map((known, at) => known || at < end));
        card.box.classList.toggle("provisional", event.provisional);
        card.box.classList.toggle("drawn", event.row >= run.model.n_px);
      });
    } else if (event.command !== undefined) {
      event.nats?.forEach((nats, i) => { run.candidates[i].nats = nats; });
      run.command = event.command;
      this.finish();
    }
  }

  finish() {
    const { run } = this;
    run.isDone = true;
    const best = run.model.has_likelihood ? Math.max(...run.candidates.map(likelihood)) : null;
    for (const { box, button, text, keep, candidate } of this.cards) {
      button.disabled = keep.disabled = false;
      button.setAttribute("aria-label", `${nameOf(run, candidate)}: open`);
      if (best === null) continue;
      const number = likelihood(candidate);
      button.setAttribute("aria-label", `${nameOf(run, candidate)}, log-likelihood ${Math.round(number)} nats: open`);
      text.textContent = `${run.fields.seed} \u00b7 ${candidate.number + 1}`;
      const isBest = number === best && run.candidates.length > 1;
      text.append(make("span", {
        className: "nats", title: `log-likelihood of the picture in nats${isBest ? ", the highest" : ""}`,
      }, `${thousands(number)} nats`));
      box.classList.toggle("best", isBest);
    }
    $("results-tools").hidden = false;
    $("copy").hidden = !run.command;
    this.addToGallery(run);
  }

  // Unfinished pictures stay as they are, without likelihoods.
  stopped() {
    $("results-about").textContent = `${this.run.label}, stopped`;
    for (const { button } of this.cards) button.setAttribute("aria-label", "stopped before it was finished");
  }

  addToGallery(run) {
    $("gallery-panel").hidden = false;
    for (const candidate of [...run.candidates].reverse()) {
      const canvas = make("canvas", { className: "pixels", width: 1, height: 1, "aria-hidden": "true" });
      paint(canvas, candidate.tokens, run.model);
      $("gallery").prepend(make("button", {
        type: "button", className: "picture", title: nameOf(run, candidate),
        "aria-label": `${run.model.name}, ${nameOf(run, candidate)}: open`, onclick: () => this.open(run, candidate),
      }, canvas));
    }
  }
}
