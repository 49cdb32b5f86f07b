// Tokens to pixels: small canvases, which styles enlarge without smoothing.

export const VEIL = [150, 150, 150];
const VEIL_SHARE = 0.8;
// From no surprise to much: dark violet, red, yellow; brighter all the way.
const HEAT = [[13, 8, 45], [84, 15, 109], [187, 55, 84], [249, 142, 9], [252, 255, 164]];

// Red, green and blue of a token, which is a number of the palette's, or is a colour itself.
export const colorOf = (model, token) =>
  model.palette ? model.palette[token] : [token >> 16, (token >> 8) & 255, token & 255];

const share = (from, to, part) => from.map((value, i) => Math.round(value + (to[i] - value) * part));

// Paints tokens on a canvas; where `shown` is 0, the pixel is left blank.
export function paint(canvas, tokens, model, shown = null) {
  const n = model.n_px;
  if (canvas.width !== n || canvas.height !== n) canvas.width = canvas.height = n;
  const image = new ImageData(n, n);
  for (let i = 0; i < n * n; i++) {
    const isShown = shown === null || shown[i];
    image.data.set(isShown ? colorOf(model, tokens[i]) : VEIL, 4 * i);
    image.data[4 * i + 3] = isShown ? 255 : 60;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// A picture under a grey veil where it is to be drawn; without tokens, the veil alone.
export function veiled(tokens, known, model) {
  const n = model.n_px;
  const image = new ImageData(n, n);
  for (let i = 0; i < n * n; i++) {
    const color = tokens ? colorOf(model, tokens[i]) : VEIL;
    image.data.set(known[i] ? color : share(color, VEIL, VEIL_SHARE), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  return image;
}

export const heatColor = (part) => {
  const place = Math.min(Math.max(part, 0), 1) * (HEAT.length - 1);
  const low = Math.min(Math.floor(place), HEAT.length - 2);
  return share(HEAT[low], HEAT[low + 1], place - low);
};

// Paints nats per pixel; returns the number that the brightest colour stands for.
export function paintHeat(canvas, nats) {
  const n = Math.round(Math.sqrt(nats.length));
  canvas.width = canvas.height = n;
  const most = Math.max(1, [...nats].sort((a, b) => a - b)[Math.floor(0.99 * nats.length)]);
  const image = new ImageData(n, n);
  nats.forEach((value, i) => {
    image.data.set(heatColor(value / most), 4 * i);
    image.data[4 * i + 3] = 255;
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return most;
}

export const sum = (numbers, which = () => true) => numbers.reduce((total, x, i) => total + (which(i) ? x : 0), 0);
