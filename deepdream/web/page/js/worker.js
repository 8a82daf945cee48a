// The worker that dreams, so that the page stays awake. It answers the messages that `dreamer.js` sends.

import {contents, moduleUrl} from "./assets.js";
import {deepdream, endlessZoom} from "./dream.js";
import {toRgba} from "./pixels.js";
import {Stepper} from "./step.js";

const state = {loaded: null, ort: null, runtime: null, session: null, job: 0, running: null, stopped: false, wake() {}};

// Load onnxruntime-web. runtime: {module, wasm: sources, threads, provider: "wasm" or "webgpu"}.
async function load(runtime) {
  const [url, wasm] = await Promise.all([moduleUrl(runtime.module), contents(runtime.wasm)]);
  const ort = await import(url);
  Object.assign(ort.env.wasm, {wasmBinary: wasm, numThreads: runtime.threads, proxy: false});
  ort.env.logLevel = "error";
  Object.assign(state, {ort, runtime});
}

// Return the session of a step graph; only the last one is kept. net: {graph, weights: sources, key}.
async function session({graph, weights, key}) {
  await state.loaded;
  if (state.session?.key === key) return state.session.made;
  await state.session?.made.release();
  state.session = null;
  const [model, data] = await Promise.all([contents(graph), contents(weights)]);
  const made = await state.ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: [state.runtime.provider], enableMemPattern: false, graphOptimizationLevel: "all",
    logSeverityLevel: 3, externalData: [{path: "weights", data: new Uint8Array(data)}]});
  state.session = {key, made};
  return made;
}

// Let messages in, and wait while the dream is stopped.
async function pause(job) {
  await new Promise(resolve => setTimeout(resolve));
  while (state.stopped && state.job === job) {
    postMessage({kind: "stopped", job});
    await new Promise(resolve => { state.wake = resolve; });
  }
}

// Post the picture after a step, or at the end of a frame.
function show(job, {picture, finished, ...report}) {
  const rgb = finished ?? picture(), rgba = toRgba(rgb);
  postMessage({kind: finished ? "frame" : "step", job, ...report, h: rgb.h, w: rgb.w, rgba}, [rgba.buffer]);
}

async function steps(job, {net, rgb, settings, endless}) {
  const made = await session(net), makeStepper = async input => new Stepper(state.ort, made, input);
  const all = (endless ? endlessZoom : deepdream)(net, rgb, settings, makeStepper);
  while (state.job === job) {
    const {done, value} = await all.next();
    if (done) return postMessage({kind: "finished", job, rgb: value}, [value.data.buffer]);
    show(job, value);
    await pause(job);
  }
}

const ANSWERS = {
  load({runtime}) { return (state.loaded = load(runtime)); },
  async dream(message) {      // a dream before this one ends first
    const {job} = message, before = state.running;
    Object.assign(state, {job, stopped: false});
    state.wake();
    await before?.catch(() => {});
    if (state.job === job) await (state.running = steps(job, message));
  },
  stop() { state.stopped = true; },
  resume() {
    state.stopped = false;
    state.wake();
  },
};

self.onmessage = async ({data: {kind, ...message}}) => {
  try {
    await ANSWERS[kind](message);
  } catch (error) {
    postMessage({kind: "failed", reason: String(error?.message ?? error)});
  }
};
