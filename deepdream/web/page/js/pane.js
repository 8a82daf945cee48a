// One net's side of the page: a canvas with its dream, a caption, and the worker that dreams.

import {Dreamer} from "./dreamer.js";
import {toRgba} from "./pixels.js";
import {png} from "./png.js";

export class Pane {
  // net: from the page's description; dreamer: a function (on) => Dreamer; on: called with (pane, message).
  constructor(net, makeDreamer, on) {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.label = document.createElement("b");
    this.note = document.createElement("span");
    caption.append(this.label, this.note);
    figure.append(this.canvas, caption);
    Object.assign(this, {net, figure, state: "idle", base: null, shown: null, meta: null, end: null});
    this.label.textContent = net.name;
    this.dreamer = makeDreamer(message => {
      this.answer(message);
      on(this, message);
    });
  }

  // Show the picture that the next dream starts from. rgb: its pixels.
  rest(rgb) {
    this.state = "idle";
    this.base = rgb;
    this.original = {h: rgb.h, w: rgb.w, rgba: toRgba(rgb)};
    this.draw(this.original);
    this.note.textContent = "";
    this.describe("the picture before the dream");
  }

  dream(job, end, meta) {
    Object.assign(this, {state: "dreaming", end, meta});
    this.dreamer.dream(job);
  }

  answer(message) {
    if (message.kind === "step" || message.kind === "frame") this.draw(message);
    if (message.kind === "step") {
      const {octave, i, frame} = message;
      this.note.textContent = `${frame === undefined ? "" : `frame ${frame + 1}, `}octave ${octave + 1}, step ${i + 1}`;
      if (frame !== undefined) this.meta.frame = frame;
    }
    const states = {stopped: "stopped", failed: "failed", finished: "finished"};
    this.state = states[message.kind] ?? this.state;
    if (message.kind === "finished") {
      this.base = message.rgb;
      this.note.textContent = "done";
      this.describe(`as ${this.net.name} dreams it at ${this.end}`);
    }
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

  file() { return png(this.shown.rgba, this.shown.h, this.shown.w, this.meta); }
}
