// The mask, painted on the picture's own pixels: what is 0 in `known` is to be drawn.

import { $ } from "./dom.js";
import { veiled } from "./pixels.js";

const MOST_STEPS = 200;

export class Editor {
  // `changed` is called with the mask whenever it changes.
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.tool = "rows";
    this.size = 4;
    this.cursor = null;
    this.corner = null;
    this.hover = null;
    this.enabled = true;
    this.model = null;
    this.small = document.createElement("canvas");
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.release());
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.show(); });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => { this.cursor = null; this.corner = null; this.show(); });
    new ResizeObserver(() => this.fit()).observe(canvas);
  }

  // Another picture or model; tokens null: nothing is given. The mask stays if it fits.
  setPicture(model, tokens) {
    const isNew = this.model?.n_px !== model.n_px;
    this.model = model;
    this.tokens = tokens;
    this.enabled = tokens !== null;
    if (isNew) {
      this.past = [];
      this.future = [];
      this.fill(Math.floor(model.n_px / 2));
    }
    this.show();
    this.changed();
  }

  // What is given; nothing, if there is no picture.
  get mask() {
    return this.enabled ? this.known : new Uint8Array(this.model.n_px ** 2);
  }

  fill(rows) {
    const n = this.model.n_px;
    this.known = Uint8Array.from({ length: n * n }, (_, i) => Number(i < rows * n));
    this.isRows = true;
  }

  // Rows that are given, if the mask is one of rows.
  get rows() {
    return this.isRows ? this.known.reduce((total, x) => total + x, 0) / this.model.n_px : null;
  }

  setRows(rows) {
    const most = this.model.n_px - 1;
    this.fill(Math.min(Math.max(rows, 0), most));
    this.finish();
  }

  setMask(known) {
    this.remember();
    this.known = Uint8Array.from(known);
    this.isRows = false;
    this.finish();
  }

  clear() { this.setMask(this.known.map(() => 1)); }
  invert() { this.setMask(this.known.map((x) => 1 - x)); }

  remember() {
    this.past.push([this.known.slice(), this.isRows]);
    if (this.past.length > MOST_STEPS) this.past.shift();
    this.future = [];
  }

  step(from, to) {
    if (!from.length || !this.enabled) return;
    to.push([this.known, this.isRows]);
    [this.known, this.isRows] = from.pop();
    this.finish();
  }

  undo() { this.step(this.past, this.future); }
  redo() { this.step(this.future, this.past); }

  finish() {
    this.show();
    this.changed();
  }

  cell(event) {
    const box = this.canvas.getBoundingClientRect();
    const n = this.model.n_px;
    const at = (place, from, length) => Math.min(Math.max(Math.floor(((place - from) / length) * n), 0), n - 1);
    return [at(event.clientX, box.left, box.width), at(event.clientY, box.top, box.height)];
  }

  press(event) {
    if (!this.enabled || event.button !== 0) return;
    try { this.canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
    this.begin(this.cell(event));
    this.isPressed = true;
  }

  move(event) {
    if (!this.enabled) return;
    this.hover = this.cell(event);
    if (!this.isPressed) return this.show();
    // A fast brush jumps over pixels: those between are painted, too.
    const [x, y] = this.last;
    const [toX, toY] = this.hover;
    const steps = Math.max(Math.abs(toX - x), Math.abs(toY - y), 1);
    for (let i = 1; i <= steps; i++) {
      this.go([Math.round(x + ((toX - x) * i) / steps), Math.round(y + ((toY - y) * i) / steps)]);
    }
    this.show();
  }

  release() {
    if (!this.isPressed) return;
    this.isPressed = false;
    this.base = null;
    this.finish();
  }

  begin(cell) {
    this.remember();
    // The half that is wiped at first makes way for what is painted by hand.
    if (this.isRows && (this.tool === "box" || this.tool === "brush")) this.known.fill(1);
    if (this.tool !== "rows") this.isRows = false;
    this.base = this.known.slice();
    this.from = this.last = cell;
    this.go(cell);
    this.show();
  }

  go([x, y]) {
    const n = this.model.n_px;
    this.last = [x, y];
    if (this.tool === "rows") this.fill(Math.min(y, n - 1));
    else if (this.tool === "box") {
      this.known = this.base.slice();
      const [fromX, fromY] = this.from;
      for (let row = Math.min(y, fromY); row <= Math.max(y, fromY); row++) {
        this.known.fill(0, row * n + Math.min(x, fromX), row * n + Math.max(x, fromX) + 1);
      }
    } else for (const i of this.touched(x, y)) this.known[i] = Number(this.tool === "eraser");
  }

  // Numbers of the pixels under the brush: a disc of `size` pixels across.
  touched(x, y) {
    const n = this.model.n_px, found = [];
    const shift = this.size % 2 ? 0 : 0.5, radius = this.size / 2;
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        if ((column + shift - x) ** 2 + (row + shift - y) ** 2 < radius ** 2) found.push(row * n + column);
      }
    }
    return found.length ? found : [y * n + x];
  }

  wheel(event) {
    // With Ctrl, the wheel zooms the page.
    if (event.ctrlKey || (this.tool !== "brush" && this.tool !== "eraser")) return;
    event.preventDefault();
    this.setSize(this.size - Math.sign(event.deltaY));
  }

  setSize(size) {
    this.size = Math.min(Math.max(size, 1), Number($("size").max));
    $("size").value = this.size;
    $("size-out").value = this.size;
    this.show();
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const n = this.model.n_px;
    if (event.key in steps && this.enabled) {
      event.preventDefault();
      const [x, y] = this.cursor ?? [Math.floor(n / 2), Math.floor(n / 2)];
      const [right, down] = steps[event.key];
      this.cursor = [Math.min(Math.max(x + right, 0), n - 1), Math.min(Math.max(y + down, 0), n - 1)];
      if (this.corner) this.go(this.cursor);
      $("mask-text").textContent = `column ${this.cursor[0] + 1}, row ${this.cursor[1] + 1}`;
      this.show();
    } else if (event.key === " " && this.enabled) {
      event.preventDefault();
      this.cursor ??= [Math.floor(n / 2), Math.floor(n / 2)];
      if (this.corner) this.corner = null;
      else {
        this.begin(this.cursor);
        if (this.tool === "box") this.corner = this.cursor;
      }
      this.finish();
    }
  }

  fit() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (side && side !== this.canvas.width) {
      this.canvas.width = this.canvas.height = side;
      this.show();
    }
  }

  show() {
    if (!this.model) return;
    const n = this.model.n_px, side = this.canvas.width, cell = side / n;
    const context = this.canvas.getContext("2d");
    this.small.width = this.small.height = n;
    this.small.getContext("2d").putImageData(veiled(this.tokens, this.mask, this.model), 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.small, 0, 0, side, side);
    if (cell > 6) this.lines(context, n, cell);
    context.lineWidth = Math.max(2, cell / 8);
    const marks = this.cursor ? [this.cursor] : this.hover && this.enabled && this.tool !== "rows" ? [this.hover] : [];
    for (const [x, y] of marks) this.mark(context, x, y, n, cell);
  }

  lines(context, n, cell) {
    context.fillStyle = "rgb(128 128 128 / 0.16)";
    for (let i = 1; i < n; i++) {
      context.fillRect(Math.round(i * cell), 0, 1, n * cell);
      context.fillRect(0, Math.round(i * cell), n * cell, 1);
    }
  }

  // Outlines what the tool would touch, in white on black, which is seen on any picture.
  mark(context, x, y, n, cell) {
    const isBrush = this.tool === "brush" || this.tool === "eraser";
    const touched = new Set(isBrush ? this.touched(x, y) : [y * n + x]);
    const path = new Path2D();
    for (const i of touched) {
      const column = i % n, row = Math.floor(i / n);
      const [left, top, right, bottom] = [column * cell, row * cell, (column + 1) * cell, (row + 1) * cell];
      const edge = (isFree, ...line) => { if (isFree) { path.moveTo(line[0], line[1]); path.lineTo(line[2], line[3]); } };
      edge(!column || !touched.has(i - 1), left, top, left, bottom);
      edge(column === n - 1 || !touched.has(i + 1), right, top, right, bottom);
      edge(!touched.has(i - n), left, top, right, top);
      edge(!touched.has(i + n), left, bottom, right, bottom);
    }
    for (const [color, width] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = color;
      context.lineWidth = width * devicePixelRatio;
      context.stroke(path);
    }
  }
}
