// One drawing at a time: asks for it, follows its rows, and can stop it.

import { stream } from "./api.js";
import { $ } from "./dom.js";

export class Drawing {
  constructor() {
    this.abort = null;
  }

  get isRunning() { return this.abort !== null; }

  stop() { this.abort?.abort(); }

  // Draws what `fields` say; `onEvent` sees each event. Returns whether it came to its end.
  async run(fields, onEvent) {
    this.abort = new AbortController();
    this.begun = null;
    this.busy(true);
    this.report(0, "waiting for the studio");
    try {
      await stream(fields, this.abort.signal, (event) => {
        this.follow(event);
        onEvent(event);
      });
      return true;
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      return false;
    } finally {
      this.abort = null;
      this.busy(false);
    }
  }

  busy(isBusy) {
    const hadFocus = [$("draw"), $("stop")].includes(document.activeElement);
    $("draw").hidden = isBusy;
    $("stop").hidden = $("progress-box").hidden = $("results-progress").hidden = !isBusy;
    if (hadFocus) (isBusy ? $("stop") : $("draw")).focus();
  }

  report(part, text) {
    $("progress").value = part;
    $("progress-text").textContent = $("results-progress").textContent = text;
  }

  follow(event) {
    if (event.place) {
      this.report(0, event.place === 1 ? "1 drawing before yours" : `${event.place} drawings before yours`);
    } else if (event.compiling) {
      this.report(0, "first drawing of this kind: compiling, which takes some seconds");
    } else if (event.progress !== undefined) {
      // Compiling is over when the first row is there.
      if (event.progress > 0) this.begun ??= [performance.now(), event.progress];
      this.report(event.progress, event.progress > 0 ? this.left(event) : $("progress-text").textContent);
    } else if (event.command !== undefined) this.report(1, "done");
  }

  left(event) {
    const [start, first] = this.begun;
    const seconds = (performance.now() - start) / 1000;
    const rows = event.stages ? `stage ${event.stage} of ${event.stages}`
      : `row ${event.row}${event.provisional ? ", provisional" : ""}`;
    if (event.progress <= first) return rows;
    const left = (seconds / (event.progress - first)) * (1 - event.progress);
    return `${rows}, ${left < 1.5 ? "about a second" : `about ${Math.round(left)} s`} left`;
  }
}
