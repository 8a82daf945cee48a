// The page: what its controls do.

import {Dreamer} from "./dreamer.js";
import {Pane} from "./pane.js";
import {contents} from "./assets.js";
import {fitted, fromBlob, fromCamera, pixelsOf} from "./picture.js";
import {Progress, inWords} from "./progress.js";
import {checkSize, metadata, readSettings} from "./settings.js";
import {config, newWorker, sourceOf} from "./sources.js";
import {setUpTheme} from "./theme.js";

const $ = id => document.getElementById(id);
const SIDES = [256, 384, 512, 640, 800, 1024], AT_ONCE = 2;
const HINTS = {low: "Low: strokes, edges and textures", middle: "Middle: patterns and parts of things",
               high: "High: whole things and places"};
const page = {picture: null, panes: [], progress: null, endless: false, again: 0};

// ---- the panes

function chosenNets() {
  return [...$("nets").querySelectorAll("input:checked")].map(input => config.nets[input.value]);
}

function threadsEach() {
  return crossOriginIsolated ? Math.max(1, Math.floor(Math.min(8, navigator.hardwareConcurrency) / page.panes.length)) : 1;
}

function makeDreamer(on) {
  const {module, wasm} = config.runtime.wasm;
  return new Dreamer(newWorker, {module: sourceOf(module), wasm: sourceOf(wasm), threads: threadsEach(),
                                  provider: "wasm"}, on);
}

function layoutPanes() {
  page.panes.forEach(pane => pane.dreamer.end());
  const nets = chosenNets();
  page.panes = nets;      // its length decides how many threads each gets
  page.panes = nets.map(net => new Pane(net, makeDreamer, heard));
  $("panes").replaceChildren(...page.panes.map(pane => pane.figure));
  $("panes").dataset.count = page.panes.length;
  showLayer();
  rest();
}

function endOf(net) {
  const row = config.rows[$("layer").value].ends;
  return row[net.name] ?? null;
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

function sizeFor(net) {
  const {width, height} = page.picture.image, [h, w, exact] = net.ends[endOf(net)]?.min ?? [1, 1, false];
  return exact ? [h, w, true] : [...fitted(height, width, Number($("side").value), config.limit), false];
}

// Show the picture in all panes, ready for a new dream.
function rest() {
  if (!page.picture) return;
  page.again = 0;
  for (const pane of page.panes) pane.rest(pixelsOf(page.picture.image, ...sizeFor(pane.net)));
  const [h, w] = sizeFor(page.panes[0].net), {width, height, name} = {...page.picture, ...page.picture.image};
  page.progress = null;
  say(`${page.picture.name}, ${w} x ${h} pixels` + (Math.max(page.picture.image.width, page.picture.image.height) >
      Math.max(w, h) ? `, scaled from ${page.picture.image.width} x ${page.picture.image.height}.` : "."));
  complain("");
  update();
}

async function take(promise) {
  try {
    const picture = await promise;
    if (!picture) return;
    stopAll();
    page.picture = picture;
    rest();
  } catch (error) {
    complain(error.message);
  }
}

async function scene({file, name}) {
  const blob = new Blob([await contents(sourceOf(file))], {type: "image/webp"});
  return fromBlob(blob, name, {start: name});
}

// ---- dreaming

const busy = () => page.panes.some(pane => pane.state === "dreaming");
const stopped = () => page.panes.some(pane => pane.state === "stopped");
const finished = () => page.panes.length > 0 && page.panes.every(pane => pane.state === "finished");

// Begin a dream of what the panes show.
function begin(endless) {
  const settings = readSettings($("controls"));
  if (!settings) return;
  try {
    for (const {net, base} of page.panes) {
      if (!endOf(net)) throw new Error(`${net.name} has no such layer; choose another one.`);
      checkSize(base.h, base.w, settings, endOf(net), net.ends[endOf(net)].min);
    }
  } catch (error) {
    return complain(error.message);
  }
  complain("");
  page.endless = endless;
  page.progress = endless ? null : new Progress(page.panes.map(({base: {h, w}}) => [h, w]), settings);
  for (const pane of page.panes) start(pane, settings, endless);
  say("Getting ready…");
  update();
}

function start(pane, settings, endless) {
  const {net, base} = pane, end = endOf(net), {graph} = net.ends[end];
  const {width, height} = page.picture.image, scaled = width !== base.w || height !== base.h || page.picture.facts.start;
  const facts = page.again ? {picture: `${page.picture.name}, dreamt ${page.again} times before`} : page.picture.facts;
  const meta = metadata({software: config.software, net, end, settings, facts, endless, frame: endless ? 0 : undefined,
                         size: scaled ? [base.w, base.h] : null, provider: "wasm", threads: threadsEach()});
  const job = {net: {mean: net.mean, swap: net.swap, end, key: graph, graph: sourceOf(graph),
                     weights: sourceOf(net.weights)}, rgb: base, settings, endless};
  pane.dream(job, end, meta);
}

// A message from the worker of a pane.
function heard(pane, message) {
  if (message.kind === "step" && page.progress) page.progress.step(message);
  if (message.kind === "step" && pane === page.panes[0]) {
    $("details").textContent = `objective ${message.objective.toPrecision(4)} · ${(message.ms / 1000).toFixed(2)} s a step`;
  }
  if (message.kind === "failed") complain(`${pane.net.name}: ${message.reason}`);
  if (finished()) page.again++;
  update();
}

function stopAll() {
  for (const pane of page.panes) pane.dreamer.stop();
}

function goOn() {
  for (const pane of page.panes.filter(p => p.state === "stopped")) {
    pane.state = "dreaming";
    pane.dreamer.resume();
  }
  update();
}

function press() {
  if (busy()) stopAll();
  else if (stopped()) goOn();
  else begin(false);
}

function anew() {
  rest();
  begin(page.endless);
}

async function save() {
  for (const pane of page.panes) {
    const link = document.createElement("a"), stem = page.picture.name.replace(/\.\w+$/, "");
    link.href = URL.createObjectURL(await pane.file());
    link.download = `${stem}-${pane.net.name}-${pane.end.replaceAll("/", ".")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
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
  $("endless").disabled = running || stopped();
  for (const id of ["anew", "save", "before"]) $(id).disabled = running || !dreamt;
  $("stage").dataset.state = running ? "dreaming" : "still";
  const {progress} = page;
  $("progress").hidden = !progress;
  if (progress) {
    $("progress").value = progress.share;
    const left = progress.left(Math.min(page.panes.length, AT_ONCE));
    if (running && left !== null) say(`${Math.floor(progress.share * 20) * 5} percent, about ${inWords(left)} left`);
  }
  if (running && page.endless) say("Falling into the picture, until you stop it.");
  if (!running && stopped()) say("Stopped. It can go on.");
  if (!running && finished()) say("The dream is done.");
}

// ---- setting up

function chip(net, index) {
  const label = document.createElement("label"), input = document.createElement("input"), text = document.createElement("span");
  Object.assign(input, {type: "checkbox", value: index, checked: index === 0});
  label.className = "chip";
  text.textContent = net.dreams ? `${net.name}: ${net.dreams}` : net.name;
  label.title = net.title;
  label.append(input, text);
  input.onchange = () => {
    const others = [...$("nets").querySelectorAll("input:checked")].filter(other => other !== input);
    if (!input.checked && !others.length) input.checked = true;
    others.slice(0, Math.max(0, others.length - 1)).forEach(other => { other.checked = false; });
    layoutPanes();
  };
  return label;
}

function sceneButton(entry) {
  const button = document.createElement("button"), image = document.createElement("img");
  Object.assign(button, {type: "button", title: `A ${entry.name}, made by a formula`});
  Object.assign(image, {alt: entry.name, src: entry.thumb, width: 96, height: 60});
  button.append(image);
  button.onclick = () => take(scene(entry));
  return button;
}

function setUpPictures() {
  $("scenes").replaceChildren(...config.scenes.map(sceneButton));
  $("file").onchange = () => $("file").files[0] && take(fromBlob($("file").files[0], $("file").files[0].name));
  $("camera").onclick = () => take(fromCamera($("booth"), $("video"), $("shoot"), $("close")));
  addEventListener("dragover", event => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  addEventListener("dragleave", () => $("drop").classList.remove("over"));
  addEventListener("drop", event => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) take(fromBlob(file, file.name));
  });
}

function setUpControls() {
  $("nets").replaceChildren(...config.nets.map(chip));
  $("layer").max = config.rows.length - 1;
  $("layer").value = config.start;
  $("side").replaceChildren(...SIDES.map(side => new Option(`${side} pixels`, side, false, side === 512)));
  $("layer").oninput = showLayer;
  $("layer").onchange = () => { if (!busy() && !stopped()) rest(); };
  $("side").onchange = () => {
    stopAll();
    rest();
  };
  $("controls").onsubmit = event => event.preventDefault();
  $("dream").onclick = press;
  $("endless").onclick = () => begin(true);
  $("anew").onclick = anew;
  $("save").onclick = save;
  $("before").onclick = () => {
    const pressed = $("before").ariaPressed !== "true";
    $("before").ariaPressed = String(pressed);
    for (const pane of page.panes) pressed ? pane.paint(pane.original) : pane.paint(pane.shown);
  };
  addEventListener("keydown", event => { if (event.key === "Escape" && busy()) stopAll(); });
  $("about").textContent = `${config.software}, with ONNX Runtime Web ${config.runtime.version} (MIT licence). ` +
    config.nets.map(net => `${net.name}: ${net.title}${net.licence ? ` (${net.licence})` : ""}.`).join(" ");
  setUpTheme($("theme"));
}

setUpControls();
setUpPictures();
layoutPanes();
await take(scene(config.scenes[0]));
globalThis.deepdream = page;      // for the console
