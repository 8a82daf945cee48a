// One step of a dream, by the step graph of deepdream/engine/graphs.py.

// The index that each row or column of the shifted picture is taken from.
function shifted(length, by) {
  return BigInt64Array.from({length}, (_, i) => BigInt((((i + by) % length) + length) % length));
}

// Runs the steps of one octave. The picture stays shifted between two steps, as the graph expects it.
//   ort: onnxruntime-web; session: of a step graph; input: the input of the net, {data, channels, h, w}.
export class Stepper {
  constructor(ort, session, input) {
    Object.assign(this, {ort, session, input, shift: [0, 0]});
  }

  // Take one step. ox, oy: the jitter. Returns {objective, meanAbs}, both before the step.
  async step(ox, oy, stepSize) {
    const {ort, input: {data, channels, h, w}, shift: [y, x]} = this;
    const index = values => new ort.Tensor("int64", values, [values.length]);
    const feeds = {picture: new ort.Tensor("float32", data, [1, channels, h, w]),
                   rows: index(shifted(h, y - oy)), columns: index(shifted(w, x - ox)),
                   step_size: new ort.Tensor("float32", [stepSize], [])};
    const results = await this.session.run(feeds);
    const read = name => results[name].getData();
    this.input = {data: await read("next_picture"), channels, h, w};
    this.shift = [oy, ox];
    return {objective: (await read("objective"))[0], meanAbs: (await read("mean_abs"))[0]};
  }

  // The picture as the net's input, shifted back.
  picture() {
    const {data, channels, h, w} = this.input, [y, x] = this.shift, result = new Float32Array(data.length);
    for (let c = 0; c < channels; c++) {
      for (let row = 0; row < h; row++) {
        const from = (c * h + ((row + y) % h + h) % h) * w, to = (c * h + row) * w, split = (x % w + w) % w;
        result.set(data.subarray(from + split, from + w), to);
        result.set(data.subarray(from, from + split), to + w - split);
      }
    }
    return {data: result, channels, h, w};
  }
}
