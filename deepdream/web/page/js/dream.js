// The notebook's `deepdream`, and its endless zoom, as generators: what they yield is shown, and then they go on.
//   net: {mean, swap, name of the layer: end}; settings: {iter_n, octave_n, octave_scale, step_size, jitter, seed};
//   makeStepper(input): returns a promise of a Stepper.

import {RandomState} from "./jitter.js";
import {octaves} from "./octaves.js";
import {deprocess, preprocess} from "./pixels.js";
import {Stepper} from "./step.js";
import {zoom, zoomed} from "./zoom.js";

function plus(a, b, sign) {
  return {...a, data: a.data.map((value, i) => value + sign * b.data[i])};
}

function checkGradient(mean, end) {
  if (mean > 0 && Number.isFinite(mean)) return;
  throw new Error(mean === 0 ? `the gradient at ${end} is zero everywhere: there is nothing here to increase`
                             : `the gradient at ${end} is not a finite number: the net's numbers overflow`);
}

// Yields {octave, i, objective, meanAbs, jitter, h, w, ms, picture()} after each step; returns the picture.
export async function* deepdream(net, rgb, settings, makeStepper, random = new RandomState(settings.seed)) {
  const bases = octaves(preprocess(net, rgb), settings.octave_n, settings.octave_scale), {jitter} = settings;
  let detail = null, result = null;
  for (const [octave, base] of bases.entries()) {
    const start = detail ? plus(base, zoom(detail, base.h, base.w), 1) : base;
    const stepper = await makeStepper(start);
    for (let i = 0; i < settings.iter_n; i++) {
      const ox = random.randint(-jitter, jitter + 1), oy = random.randint(-jitter, jitter + 1);
      const before = performance.now(), values = await stepper.step(ox, oy, settings.step_size);
      checkGradient(values.meanAbs, net.end);
      yield {octave, i, ...values, jitter: [ox, oy], h: base.h, w: base.w, ms: performance.now() - before,
             picture: () => deprocess(net, stepper.picture())};
    }
    result = stepper.picture();
    if (!result.data.every(Number.isFinite)) throw new Error("the picture's numbers overflow: take a smaller step");
    detail = plus(result, base, -1);
  }
  return deprocess(net, result);
}

// The endless zoom: dream, zoom in, dream again. Yields the same, with the number of the frame; never returns.
export async function* endlessZoom(net, rgb, settings, makeStepper, first = 0) {
  for (let frame = first; ; frame++) {
    const random = new RandomState([settings.seed, frame]), steps = deepdream(net, rgb, settings, makeStepper, random);
    let next = await steps.next();
    for (; !next.done; next = await steps.next()) yield {...next.value, frame};
    yield {frame, finished: next.value};
    rgb = zoomed(next.value, settings.scale);
  }
}
