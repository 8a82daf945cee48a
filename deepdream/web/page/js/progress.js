// Progress and time left. Steps count by their pixels, so that the time left is realistic.

import {octaveSizes} from "./octaves.js";

// How long, in words.
export function inWords(seconds) {
  const s = Math.round(seconds);
  return s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
}

export class Progress {
  // sizes: [h, w] of the picture of each dream; settings: see dream.js.
  constructor(sizes, settings) {
    const work = ([h, w]) => octaveSizes(h, w, settings.octave_n, settings.octave_scale)
      .reduce((sum, [a, b]) => sum + a * b * settings.iter_n, 0);
    this.total = sizes.reduce((sum, size) => sum + work(size), 0);
    this.done = 0;
    this.milliseconds = 0;      // of the steps so far
  }

  step({h, w, ms}) {
    this.done += h * w;
    this.milliseconds += ms;
  }

  get share() { return Math.min(1, this.done / this.total); }

  // Seconds that are left if `atOnce` dreams run side by side.
  left(atOnce) {
    return this.done ? this.milliseconds / this.done * (this.total - this.done) / atOnce / 1000 : null;
  }
}
