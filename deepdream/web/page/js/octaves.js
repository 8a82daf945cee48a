// The sizes of a dream, and the picture at each of them, as in deepdream/dream.py.

import {rounded, zoom} from "./zoom.js";

// The sizes [h, w] of the octaves, smallest first.
export function octaveSizes(h, w, octaveN, scale) {
  const sizes = [[h, w]];
  for (let i = 1; i < octaveN; i++) sizes.push(sizes.at(-1).map(n => Math.max(1, rounded(n * (1 / scale)))));
  return sizes.reverse();
}

// The input of the net at the size of each octave, smallest first.
export function octaves(base, octaveN, scale) {
  const found = [base];
  for (const [h, w] of octaveSizes(base.h, base.w, octaveN, scale).reverse().slice(1)) found.push(zoom(found.at(-1), h, w));
  return found.reverse();
}
