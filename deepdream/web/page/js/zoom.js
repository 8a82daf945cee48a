// Scaling pictures as SciPy does: ndimage.zoom and ndimage.affine_transform of order 1, with zeros outside.
// A picture is {data: Float32Array, channels, h, w}, channel by channel. Sums are taken in double precision.

// For each position of one axis: the two neighbours, and their weights.
function taps(length, size, at) {
  const first = new Int32Array(size), second = new Int32Array(size);
  const near = new Float64Array(size), far = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const x = at(i);
    if (x < 0 || x > length - 1) continue;      // outside: the weights stay 0
    const low = Math.floor(x);
    first[i] = low;
    second[i] = Math.min(low + 1, length - 1);
    near[i] = 1 - (x - low);
    far[i] = x - low;
  }
  return {first, second, near, far};
}

function resampled(picture, h, w, rows, columns) {
  const {data, channels} = picture, result = new Float32Array(channels * h * w);
  for (let c = 0, k = 0; c < channels; c++) {
    const start = c * picture.h * picture.w;
    for (let y = 0; y < h; y++) {
      const top = start + rows.first[y] * picture.w, bottom = start + rows.second[y] * picture.w;
      const a = rows.near[y], b = rows.far[y];
      for (let x = 0; x < w; x++, k++) {
        const i = columns.first[x], j = columns.second[x], p = columns.near[x], q = columns.far[x];
        result[k] = data[top + i] * a * p + data[top + j] * a * q + data[bottom + i] * b * p + data[bottom + j] * b * q;
      }
    }
  }
  return {data: result, channels, h, w};
}

// Round to the nearest whole number, and halves to the even one, as Python does.
export function rounded(x) {
  const low = Math.floor(x), rest = x - low;
  return rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
}

// scipy.ndimage.zoom(picture, (1, h / picture.h, w / picture.w), order=1)
export function zoom(picture, h, w) {
  const step = (from, to) => (to > 1 ? (from - 1) / (to - 1) : 1);
  const axis = (from, to) => taps(from, to, i => step(from, to) * i);
  return resampled(picture, h, w, axis(picture.h, h), axis(picture.w, w));
}

// The picture of the next frame of an endless zoom: see `zoomed` in deepdream/zoom.py.
export function zoomed(picture, scale) {
  const factor = 1 - scale;
  const axis = n => taps(n, n, i => factor * (i + (n * scale / 2) / factor));
  return resampled(picture, picture.h, picture.w, axis(picture.h), axis(picture.w));
}
