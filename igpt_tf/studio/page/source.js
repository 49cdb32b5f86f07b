// The picture that is worked on: a file, a photograph of the program's, a candidate that was kept, or nothing.

import { getFile, getPhoto, sendFile } from "./api.js";
import { $ } from "./dom.js";
import { Cropper } from "./cropper.js";
import { paint } from "./pixels.js";

export class Source {
  // `changed` is called when there is another picture; `failed` with what went wrong.
  constructor(changed, failed) {
    this.changed = changed;
    this.failed = failed;
    this.model = null;
    this.file = null;
    this.tokens = null;
    this.turn = 0;
    this.cropper = new Cropper($("crop"), $("crop-scale"), (crop) => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.read(crop), 150);
    });
  }

  // How a command names the picture: by its own file, if the model sees the central square of that.
  get picture() {
    return this.path && this.isCentral ? this.path : "picture.png";
  }

  async choosePhoto({ name, path }) {
    try {
      await this.chooseFile(await getPhoto(name), path);
    } catch (error) { this.failed(error); }
  }

  async chooseFile(file, path = file.name || null) {
    const before = [this.file, this.path];
    [this.file, this.path] = [file, path];
    if (!(await this.read(null))) [this.file, this.path] = before;
  }

  // A picture of the model's own, such as a candidate.
  async keep(model, tokens) {
    await this.chooseFile(await getFile("png", { model: model.name, images: [tokens], scale: 1 }), null);
  }

  chooseNothing() {
    this.next();
    this.file = this.path = this.tokens = null;
    this.show();
    this.changed();
  }

  async setModel(model) {
    const isOther = this.model?.name !== model.name;
    this.model = model;
    if (this.file && isOther) await this.read(this.cropper.crop ?? null);
    else { this.show(); this.changed(); }
  }

  // What was asked for before no longer counts.
  next() {
    clearTimeout(this.timer);
    return ++this.turn;
  }

  // Has the server read the file; returns whether it could.
  async read(crop) {
    const turn = this.next(), { model, file } = this;
    const [left, top, side] = crop ?? [];
    try {
      const query = { model: model.name, ...(crop && { left, top, side }) };
      const seen = await sendFile("picture", file, query);
      const image = crop && this.cropper.image ? this.cropper.image : new Image();
      if (!image.src) {
        image.src = seen.preview;
        await image.decode();
      }
      if (turn !== this.turn) return true;
      this.tokens = seen.tokens;
      this.cropper.set(image, seen.width, seen.height, seen.crop);
      // Of what the model sees: the crop may have been moved on since.
      this.isCentral = this.cropper.isCentral;
      this.show();
      this.changed();
      return true;
    } catch (error) {
      if (turn === this.turn) this.failed(error);
      return false;
    }
  }

  show() {
    const isGiven = this.tokens !== null, { model } = this;
    $("crop-box").hidden = $("scale-field").hidden = !isGiven;
    $("nothing").setAttribute("aria-pressed", String(!isGiven));
    if (!isGiven) return;
    paint($("seen"), this.tokens, model);
    $("crop-text").textContent = `${this.cropper.width} \u00d7 ${this.cropper.height}: move or scale the crop`;
    $("seen-text").textContent = `what the model sees: ${model.n_px} \u00d7 ${model.n_px}, ${
      model.palette ? model.n_vocab : "all"} colours`;
  }
}
