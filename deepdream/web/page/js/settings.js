// The settings that the form has, and whether a dream with them is possible.

import {octaveSizes} from "./octaves.js";

const NUMBERS = ["octave_n", "iter_n", "step_size", "jitter", "seed"];
export const FIXED = {octave_scale: 1.4, scale: 0.05};      // octaves, and each frame of an endless zoom

// Returns the settings of a form's fields; null, and shows what is wrong, if a number is not allowed.
export function readSettings(form) {
  if (!form.reportValidity()) return null;
  return {...FIXED, ...Object.fromEntries(NUMBERS.map(name => [name, Number(form.elements[name].value)]))};
}

// Throws an Error if a picture of h x w pixels is too small for a layer. smallest: [h, w, exact].
export function checkSize(h, w, settings, layer, [minH, minW, exact]) {
  const [[a, b]] = octaveSizes(h, w, settings.octave_n, settings.octave_scale);
  if (a >= minH && b >= minW && !(exact && (a !== minH || b !== minW))) return;
  const needs = exact ? `takes only pictures of ${minW}x${minH} pixels: 1 octave` :
    `needs at least ${minW}x${minH} pixels: fewer octaves, a larger picture or a lower layer`;
  throw new Error(`The smallest of ${settings.octave_n} octaves has ${b}x${a} pixels, and ${layer} ${needs}.`);
}

// The metadata of a dream, with the keys that the Python program writes.
export function metadata({software, net, end, settings, facts, size, endless, frame, provider, threads}) {
  const {octave_n, iter_n, step_size, jitter, seed, octave_scale, scale} = settings;
  return {software, model: net.name, checksum: net.checksum, end, iter_n, octave_n, octave_scale, step_size, jitter,
          clip: true, seed, ...(size ? {size} : {}), ...facts, ...(net.pixels ? {pixels: net.pixels} : {}),
          ...(endless ? {scale, legacy_affine: false, frame} : {}), device: provider, threads};
}
