// The page's side of a worker that dreams.

// Why a dream failed, in words. Runtimes report a lack of memory in many ways.
function explained(reason) {
  const memory = /memory|alloc|out of bounds|abort|unreachable|RangeError|^\d+$/i.test(reason);
  return memory ? `The dream needs more memory than this device gives to the page (${reason}). Take a smaller picture.`
                : reason;
}

// newWorker: makes the worker; runtime: see `load` in worker.js; on: called with each message.
export class Dreamer {
  constructor(newWorker, runtime, on) {
    Object.assign(this, {newWorker, runtime, on, worker: null, job: 0});
  }

  // Begin a dream. job: {net, rgb, settings, endless}.
  dream(job) {
    if (!this.worker) this.start();
    this.worker.postMessage({kind: "dream", ...job, job: ++this.job});
  }

  start() {
    this.worker = this.newWorker();
    this.worker.onmessage = ({data}) => {
      if (data.kind === "failed") {
        this.end();      // its memory may be damaged
        this.on({...data, reason: explained(data.reason)});
      } else if (data.job === this.job) {      // not from a dream that was given up
        this.on(data);
      }
    };
    this.worker.onerror = event => {
      this.end();
      this.on({kind: "failed", reason: explained(event.message || "the worker could not be started")});
    };
    this.worker.postMessage({kind: "load", runtime: this.runtime});
  }

  stop() { this.worker?.postMessage({kind: "stop"}); }

  resume() { this.worker?.postMessage({kind: "resume"}); }

  end() {
    this.worker?.terminate();
    this.worker = null;
  }
}
