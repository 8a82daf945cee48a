// Which runtime dreams: WebGPU only where its first step is the same as that of wasm.

import {Dreamer} from "./dreamer.js";
import {octaveSizes} from "./octaves.js";

const SAME = 0.05;      // levels by which the two pictures may differ on average; a step changes them by 1.5
const COMPARED = 192;       // pixels of the longest side of the picture on which they are compared

// The mean difference of two pictures after one step, in levels.
export function difference(a, b) {
  return a.data.reduce((sum, value, i) => sum + Math.abs(value - b.data[i]), 0) / a.data.length;
}

// Returns {provider, reason}. firstStep(provider): a promise of the picture after one step.
export async function chosenProvider(firstStep) {
  const wasm = await firstStep("wasm");
  try {
    const off = difference(await firstStep("webgpu"), wasm);
    return off <= SAME ? {provider: "webgpu", reason: ""} :
      {provider: "wasm", reason: `its first step differs from the processor's by ${off.toPrecision(2)} levels`};
  } catch (error) {
    return {provider: "wasm", reason: error.message};
  }
}

// The settings and the size [h, w] of the comparison: one step at a small octave.
export function comparison(h, w, settings, smallest) {
  const sizes = octaveSizes(h, w, settings.octave_n, settings.octave_scale);
  const fits = ([a, b]) => Math.max(a, b) <= COMPARED && a >= smallest[0] && b >= smallest[1];
  return {size: sizes.filter(fits).at(-1) ?? sizes[0], settings: {...settings, octave_n: 1, iter_n: 1}};
}

// Dream with a worker of its own, and return a promise of the result. runtime: see `load` in worker.js.
export function dreamtOnce(newWorker, runtime, job) {
  return new Promise((resolve, reject) => {
    const dreamer = new Dreamer(newWorker, runtime, ({kind, rgb, reason}) => {
      if (kind === "finished") resolve(rgb);
      if (kind === "failed") reject(new Error(reason));
      if (kind !== "step") dreamer.end();
    });
    dreamer.dream(job);
  });
}
