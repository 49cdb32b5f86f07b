// The square of a picture that the model sees, which the user moves and scales.

const LEAST = 8;

export class Cropper {
  // `changed` is called with [left, top, side] in the picture's pixels when a movement has ended.
  constructor(canvas, slider, changed) {
    this.canvas = canvas;
    this.slider = slider;
    this.changed = changed;
    this.image = null;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.release());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    slider.addEventListener("input", () => { this.scale(Number(slider.value) / 100); this.changed(this.crop); });
  }

  // Shows a picture (an image, or null for none) of width x height pixels, and its crop.
  set(image, width, height, crop) {
    Object.assign(this, { image, width, height, crop });
    this.show();
  }

  get most() { return Math.min(this.width, this.height); }

  get isCentral() {
    const [left, top, side] = this.crop;
    const middle = (length) => Math.floor((length - this.most) / 2);
    return side === this.most && left === middle(this.width) && top === middle(this.height);
  }

  // Moves the crop's corner to (left, top), as far as there is picture.
  move(left, top) {
    const side = this.crop[2];
    const within = (place, length) => Math.round(Math.min(Math.max(place, 0), length - side));
    this.crop = [within(left, this.width), within(top, this.height), side];
    this.show();
  }

  // Scales the crop around its middle to a part of the largest one.
  scale(part) {
    const [left, top, side] = this.crop;
    const next = Math.round(Math.min(Math.max(part * this.most, Math.min(LEAST, this.most)), this.most));
    this.crop = [left, top, next];
    this.move(left + (side - next) / 2, top + (side - next) / 2);
  }

  press(event) {
    if (!this.image) return;
    try { this.canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
    this.grip = [event.clientX, event.clientY, this.crop[0], this.crop[1]];
  }

  drag(event) {
    if (!this.grip) return;
    const [x, y, left, top] = this.grip;
    const unit = this.canvas.clientWidth / this.canvas.width * this.unit;
    this.move(left + (event.clientX - x) / unit, top + (event.clientY - y) / unit);
  }

  release() {
    if (this.grip) this.changed(this.crop);
    this.grip = null;
  }

  wheel(event) {
    if (!this.image || event.ctrlKey) return;
    event.preventDefault();
    this.scale(this.crop[2] / this.most * (event.deltaY > 0 ? 1.06 : 1 / 1.06));
    this.changed(this.crop);
  }

  key(event) {
    const step = Math.max(1, Math.round(this.most / 50));
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const scales = { "+": 1.06, "=": 1.06, "-": 1 / 1.06 };
    if (!this.image || !(event.key in moves || event.key in scales)) return;
    event.preventDefault();
    if (event.key in moves) this.move(this.crop[0] + moves[event.key][0], this.crop[1] + moves[event.key][1]);
    else this.scale(this.crop[2] / this.most * scales[event.key]);
    this.changed(this.crop);
  }

  show() {
    const { canvas } = this, context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.image) return;
    const unit = this.unit = Math.min(canvas.width / this.width, canvas.height / this.height);
    const [wide, high] = [this.width * unit, this.height * unit];
    const [x, y] = [(canvas.width - wide) / 2, (canvas.height - high) / 2];
    const [left, top, side] = this.crop.map((length) => length * unit);
    context.imageSmoothingEnabled = unit < 3;
    context.drawImage(this.image, x, y, wide, high);
    context.fillStyle = "rgb(20 18 16 / 0.55)";
    context.beginPath();
    context.rect(x, y, wide, high);
    context.rect(x + left, y + top, side, side);
    context.fill("evenodd");
    context.lineWidth = 3;
    context.strokeStyle = "#fff";
    context.strokeRect(x + left + 1.5, y + top + 1.5, side - 3, side - 3);
    this.slider.value = Math.round((100 * this.crop[2]) / this.most);
  }
}
