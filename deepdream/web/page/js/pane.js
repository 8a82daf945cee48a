// One net's side of the page: a canvas with its dream, a caption, and the worker that dreams.

import {toRgba} from "./pixels.js";
import {png} from "./png.js";

const STATES = {stopped: "stopped", failed: "failed", finished: "finished"};      // after these messages

// net: from the page's description; on: called with (pane, message) after each message of the worker.
export class Pane {
  constructor(net, on) {
    const caption = document.createElement("figcaption");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.note = document.createElement("span");
    caption.append(Object.assign(document.createElement("b"), {textContent: net.name}), this.note);
    this.figure = document.createElement("figure");
    this.figure.append(this.canvas, caption);
    Object.assign(this, {net, on, state: "idle", dreamer: null, provider: null, base: null, original: null, shown: null,
                         meta: null, end: null});
  }

  // Dream with a provider from now on. make: returns a Dreamer that calls the function that it is passed.
  use(provider, make) {
    if (this.provider === provider) return;
    this.dreamer?.end();
    this.provider = provider;
    this.dreamer = make(message => {
      this.answer(message);
      this.on(this, message);
    });
  }

  // Show the picture that the next dream starts from. rgb: its pixels.
  rest(rgb) {
    this.state = "idle";
    this.base = rgb;
    this.original = {h: rgb.h, w: rgb.w, rgba: toRgba(rgb)};
    this.draw(this.original);
    this.note.textContent = "";
    this.describe("before the dream");
  }

  dream(job, end, meta) {
    Object.assign(this, {state: "dreaming", end, meta});
    this.dreamer.dream(job);
  }

  resume() {
    if (this.state !== "stopped") return;
    this.state = "dreaming";
    this.dreamer.resume();
  }

  answer(message) {
    if (this.state === "idle") return;      // from a dream that was given up
    this.state = STATES[message.kind] ?? this.state;
    if (message.rgba) this.draw(message);
    if (message.kind === "step") this.report(message);
    if (message.kind === "finished") {
      this.base = message.rgb;
      this.note.textContent = "done";
      this.describe(`as ${this.net.name} dreams it at ${this.end}`);
    }
  }

  report({octave, i, frame}) {
    const endless = frame !== undefined;
    this.note.textContent = `${endless ? `frame ${frame + 1}, ` : ""}octave ${octave + 1}, step ${i + 1}`;
    if (endless) this.meta.frame = frame;
    this.describe(`while ${this.net.name} dreams it at ${this.end}`);
  }

  draw({h, w, rgba}) {
    this.shown = {h, w, rgba};
    this.paint(this.shown);
  }

  paint({h, w, rgba}) {
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, {width: w, height: h});
    this.canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(rgba), w, h), 0, 0);
  }

  describe(text) { this.canvas.setAttribute("aria-label", `The picture, ${text}`); }

  // The picture as a PNG file with its settings.
  file() { return png(this.shown.rgba, this.shown.h, this.shown.w, this.meta); }
}
