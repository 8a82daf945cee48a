// Where the page's files are: in the page itself, or next to it on a server.

// The description of the page's contents.
export const config = JSON.parse(document.getElementById("config").textContent);

let workerUrl = null;

// The source of a file, as `contents` in assets.js takes it.
export function sourceOf(name) {
  const element = document.getElementById(`asset:${name}`);
  return element ? {text: element.textContent} : {url: new URL(name, document.baseURI).href};
}

// Returns a new worker that dreams.
export function newWorker() {
  const element = document.getElementById("worker");
  if (!element) return new Worker(new URL("js/worker.js", document.baseURI), {type: "module"});
  workerUrl ??= URL.createObjectURL(new Blob([JSON.parse(element.textContent)], {type: "text/javascript"}));
  return new Worker(workerUrl);      // not as a module, which browsers do not start from a page on disk
}
