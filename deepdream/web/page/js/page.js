// The page: what its controls do.

import {contents} from "./assets.js";
import {chosenProvider, comparison, dreamtOnce} from "./backend.js";
import {netChips, onDrop, sceneButtons} from "./controls.js";
import {Dreamer} from "./dreamer.js";
import {Pane} from "./pane.js";
import {fitted, fromBlob, fromCamera, pixelsOf} from "./picture.js";
import {Progress, inWords} from "./progress.js";
import {checkSize, metadata, readSettings} from "./settings.js";
import {config, newWorker, sourceOf} from "./sources.js";
import {setUpTheme} from "./theme.js";
import {zoom} from "./zoom.js";

const $ = id => document.getElementById(id);
const SIDES = [256, 384, 512, 640, 800, 1024], SIDE = 512;
const HINTS = {low: "Low: strokes, edges and textures", middle: "Middle: patterns and parts of things",
               high: "High: whole things and places"};
const page = {picture: null, panes: [], progress: null, endless: false, again: 0, preparing: false};
const providers = new Map();      // graph -> the provider that was chosen for it, if the graphics processor is wanted

// ---- the panes

const chosenNets = () => [...$("nets").querySelectorAll("input:checked")].map(input => config.nets[input.value]);

const endOf = net => config.rows[$("layer").value].ends[net.name] ?? null;

function threadsEach() {
  return crossOriginIsolated ? Math.max(1, Math.floor(Math.min(8, navigator.hardwareConcurrency) / page.panes.length)) : 1;
}

function runtimeOf(provider) {
  const {module, wasm} = config.runtime[provider];
  return {module: sourceOf(module), wasm: sourceOf(wasm), threads: threadsEach(), provider};
}

function layoutPanes() {
  page.panes.forEach(pane => pane.dreamer?.end());
  page.panes = chosenNets().map(net => new Pane(net, heard));
  $("panes").replaceChildren(...page.panes.map(pane => pane.figure));
  $("panes").dataset.count = page.panes.length;
  showLayer();
  rest();
}

function showLayer() {
  const {level, ends} = config.rows[$("layer").value];
  const names = [...new Set(page.panes.map(pane => ends[pane.net.name]).filter(Boolean))].join(" · ");
  $("layer-name").textContent = names || "no such layer in this net";
  $("hint").textContent = HINTS[level];
  $("controls").dataset.level = level;
  $("layer").setAttribute("aria-valuetext", `${HINTS[level]}: ${names}`);
}

// ---- the picture

// The size [h, w, exact] at which a net dreams the picture.
function sizeFor(net) {
  const {width, height} = page.picture.image, [h, w, exact] = net.ends[endOf(net)]?.min ?? [1, 1, false];
  return exact ? [h, w, true] : [...fitted(height, width, Number($("side").value), config.limit), false];
}

// Show the picture in all panes, ready for a new dream.
function rest() {
  if (!page.picture) return;
  page.again = 0;
  page.progress = null;
  for (const pane of page.panes) pane.rest(pixelsOf(page.picture.image, ...sizeFor(pane.net)));
  const [h, w, exact] = sizeFor(page.panes[0].net), {width, height} = page.picture.image;
  const why = exact ? ", the only size that this net takes" : width * height > config.limit ?
    "; the page dreams at most 1024 x 768" : "";
  say(`${page.picture.name}, ${w} x ${h} pixels` + (w === width && h === height ? "." :
      `, scaled from ${width} x ${height}${why}.`));
  complain("");
  update();
}

async function take(promise) {
  try {
    const picture = await promise;
    if (!picture) return;
    halt();
    page.picture = picture;
    rest();
  } catch (error) {
    complain(error.message);
  }
}

async function sceneOf({file, name}) {
  return fromBlob(new Blob([await contents(sourceOf(file))], {type: "image/webp"}), name, {start: name});
}

// ---- dreaming

const busy = () => page.preparing || page.panes.some(pane => pane.state === "dreaming");
const stopped = () => page.panes.some(pane => pane.state === "stopped");
const finished = () => page.panes.length > 0 && page.panes.every(pane => pane.state === "finished");

// Begin a dream of what the panes show.
async function begin(endless) {
  const settings = readSettings($("controls"));
  if (!settings) return;
  complain("");
  try {
    for (const {net, base} of page.panes) {
      if (!endOf(net)) throw new Error(`${net.name} has no such layer; choose another one.`);
      checkSize(base.h, base.w, settings, endOf(net), net.ends[endOf(net)].min);
    }
    say("Getting ready…");
    page.preparing = true;
    update();
    for (const pane of page.panes) await prepare(pane, settings);
    page.endless = endless;
    page.progress = endless ? null : new Progress(page.panes.map(({base: {h, w}}) => [h, w]), settings);
    for (const pane of page.panes) start(pane, settings, endless);
  } catch (error) {
    complain(error.message);
  }
  page.preparing = false;
  update();
}

function jobOf({net, base}, settings, provider, rgb = base) {
  const end = endOf(net), file = net.ends[end][provider === "webgpu" ? "plain" : "graph"];
  return {net: {mean: net.mean, swap: net.swap, end, key: file, graph: sourceOf(file),
                weights: sourceOf(net.weights)}, rgb, settings};
}

// Choose the provider of a pane's dream, and make its worker.
async function prepare(pane, settings) {
  const {net, base} = pane, {graph, min} = net.ends[endOf(net)];
  if ($("gpu").checked && !providers.has(graph)) {
    say(`Comparing the first step of ${net.name} with that of the graphics processor…`);
    const {size, settings: one} = comparison(base.h, base.w, settings, min), rgb = zoom(base, ...size);
    const choice = await chosenProvider(
      provider => dreamtOnce(newWorker, runtimeOf(provider), jobOf(pane, one, provider, rgb)));
    providers.set(graph, choice.provider);
    if (choice.reason) complain(`${net.name} dreams without the graphics processor: ${choice.reason}`);
  }
  const provider = $("gpu").checked ? providers.get(graph) : "wasm";
  pane.use(provider, on => new Dreamer(newWorker, runtimeOf(provider), on));
}

function start(pane, settings, endless) {
  const {net, base} = pane, {image: {width, height}, name, facts} = page.picture;
  const scaled = width !== base.w || height !== base.h;
  const origin = page.again ? {picture: `${name}, dreamt ${page.again} times before`} :
    facts.start && scaled ? {picture: `the scene ${name}, scaled`} : facts;      // Python makes scenes at their size
  pane.dream({...jobOf(pane, settings, pane.provider), endless}, endOf(net), metadata({
    software: config.software, net, end: endOf(net), settings, facts: origin, endless,
    size: scaled || facts.start ? [base.w, base.h] : null, provider: pane.provider, threads: threadsEach()}));
}

// A message from the worker of a pane.
function heard(pane, message) {
  if (message.kind === "step" && page.progress) page.progress.step(message);
  if (message.kind === "step" && pane === page.panes[0]) {
    $("details").textContent = `objective ${message.objective.toPrecision(4)} · ${(message.ms / 1000).toFixed(2)} s a step`;
  }
  if (message.kind === "failed") complain(`${pane.net.name}: ${message.reason}`);
  if (message.kind === "finished" && finished()) page.again++;
  update();
}

const halt = () => page.panes.forEach(pane => pane.dreamer?.stop());

function goOn() {
  page.panes.forEach(pane => pane.resume());
  update();
}

function press() {
  if (busy()) halt();
  else if (stopped()) goOn();
  else begin(false);
}

function anew() {
  rest();
  begin(page.endless);
}

async function save() {
  for (const pane of page.panes) {
    const stem = page.picture.name.replace(/\.\w+$/, ""), link = document.createElement("a");
    link.href = URL.createObjectURL(await pane.file());
    link.download = `${stem}-${pane.net.name}-${pane.end.replaceAll("/", ".")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
}

function compareBefore() {
  const pressed = $("before").getAttribute("aria-pressed") !== "true";
  $("before").setAttribute("aria-pressed", pressed);
  page.panes.forEach(pane => pane.paint(pressed ? pane.original : pane.shown));
}

// ---- what the page says

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function update() {
  const running = busy(), dreamt = page.panes.some(pane => pane.meta && pane.state !== "idle");
  $("dream").textContent = running ? "Stop" : stopped() ? "Go on" : finished() ? "Dream on" : "Dream";
  $("dream").disabled = page.preparing;
  $("endless").disabled = running || stopped();
  for (const id of ["anew", "save", "before"]) $(id).disabled = running || !dreamt;
  $("before").setAttribute("aria-pressed", false);
  showProgress(running);
  if (running && page.endless && !page.preparing) say("Falling into the picture, until you stop it.");
  if (!running && stopped()) say("Stopped. It can go on.");
  if (!running && finished()) say("The dream is done.");
}

function showProgress(running) {
  const {progress, panes} = page;
  $("progress").hidden = !progress;
  if (!progress) return;
  const left = progress.left(panes.filter(pane => pane.state === "dreaming").length || 1);
  $("progress").value = progress.share;
  if (running && left !== null) say(`${Math.floor(progress.share * 20) * 5} percent, about ${inWords(left)} left`);
}

// ---- setting up

function setUpPictures() {
  $("scenes").replaceChildren(...sceneButtons(config.scenes, scene => take(sceneOf(scene))));
  const takeFile = file => take(fromBlob(file, file.name));
  $("file").onchange = () => $("file").files[0] && takeFile($("file").files[0]);
  $("camera").onclick = () => take(fromCamera($("booth"), $("video"), $("shoot"), $("close")));
  onDrop($("drop"), takeFile);
}

function setUpForm() {
  $("nets").replaceChildren(...netChips(config.nets, layoutPanes));
  $("layer").max = config.rows.length - 1;
  $("layer").value = config.start;
  $("side").replaceChildren(...SIDES.map(side => new Option(`${side} pixels`, side, false, side === SIDE)));
  $("gpu-row").hidden = !config.runtime.webgpu || !navigator.gpu;
  $("layer").oninput = showLayer;
  $("layer").onchange = () => { if (!busy() && !stopped() && !finished()) rest(); };
  $("side").onchange = () => {
    halt();
    rest();
  };
  $("controls").onsubmit = event => event.preventDefault();
}

function setUpButtons() {
  $("dream").onclick = press;
  $("endless").onclick = () => begin(true);
  $("anew").onclick = anew;
  $("save").onclick = save;
  $("before").onclick = compareBefore;
  addEventListener("keydown", event => { if (event.key === "Escape" && busy()) halt(); });
  $("about").textContent = `${config.software}, with ONNX Runtime Web ${config.runtime.version} (MIT licence). ` +
    config.nets.map(({name, title, licence}) => `${name}: ${title}${licence ? ` (${licence})` : ""}.`).join(" ");
  setUpTheme($("theme"));
}

setUpForm();
setUpPictures();
setUpButtons();
layoutPanes();
await take(sceneOf(config.scenes[0]));
globalThis.deepdream = page;      // for the console
