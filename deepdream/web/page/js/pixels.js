// Pixels to the input of a net and back, as in deepdream/net/pixels.py.
// net: {mean: [one number a channel], swap: [the channel of the picture, 0 red, for each channel of the net]}.

const GREY = [0.299, 0.587, 0.114];

// rgb: a picture with 3 channels. Returns the input of the net.
export function preprocess(net, rgb) {
  const size = rgb.h * rgb.w, channels = net.mean.length, data = new Float32Array(channels * size);
  for (let c = 0; c < channels; c++) {
    const from = net.swap[c] * size, mean = Math.fround(net.mean[c]);
    for (let i = 0; i < size; i++) {
      const value = channels > 1 ? rgb.data[from + i] :
        Math.fround(GREY.reduce((sum, part, k) => sum + Math.fround(part) * rgb.data[k * size + i], 0));
      data[c * size + i] = value - mean;
    }
  }
  return {data, channels, h: rgb.h, w: rgb.w};
}

// Returns the picture with 3 channels.
export function deprocess(net, input) {
  const size = input.h * input.w, channels = net.mean.length, data = new Float32Array(3 * size);
  for (let c = 0; c < 3; c++) {
    const from = channels > 1 ? c : 0, to = channels > 1 ? net.swap[c] : c, mean = Math.fround(net.mean[from]);
    for (let i = 0; i < size; i++) data[to * size + i] = input.data[from * size + i] + mean;
  }
  return {data, channels: 3, h: input.h, w: input.w};
}

// The pixels of a canvas, without their alpha, as a picture with 3 channels.
export function fromRgba(rgba, h, w) {
  const size = h * w, data = new Float32Array(3 * size);
  for (let i = 0; i < size; i++) for (let c = 0; c < 3; c++) data[c * size + i] = rgba[4 * i + c];
  return {data, channels: 3, h, w};
}

// A picture with 3 channels as pixels for a canvas: clipped and truncated, as the notebook did.
export function toRgba(rgb) {
  const size = rgb.h * rgb.w, rgba = new Uint8ClampedArray(4 * size);
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = Math.floor(rgb.data[c * size + i]);
    rgba[4 * i + 3] = 255;
  }
  return rgba;
}
