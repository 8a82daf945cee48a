// The parts of the form that depend on the page's contents.

function element(kind, properties, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

// Boxes to choose nets: at least one, at most two. onChange is called after each change.
export function netChips(nets, onChange) {
  const inputs = nets.map((_, index) => element("input", {type: "checkbox", value: index, checked: index === 0}));
  for (const input of inputs) {
    input.onchange = () => {
      const others = inputs.filter(other => other.checked && other !== input);
      if (!input.checked && !others.length) input.checked = true;
      if (input.checked) others.slice(1).forEach(other => { other.checked = false; });
      onChange();
    };
  }
  return nets.map(({name, title, dreams}, i) => element("label", {className: "chip", title}, inputs[i],
    element("span", {}, element("b", {textContent: name}), dreams ? `: ${dreams}` : "")));
}

// Buttons with the scenes. onChoose is called with a scene.
export function sceneButtons(scenes, onChoose) {
  return scenes.map(scene => element("button", {type: "button", title: `${scene.name}, made by a formula`,
                                                onclick: () => onChoose(scene)},
                                     element("img", {alt: scene.name, src: scene.thumb, width: 192, height: 120})));
}

// Call onFile with a file that is dropped anywhere on the page. target: what lights up meanwhile.
export function onDrop(target, onFile) {
  const light = on => event => {
    event.preventDefault();
    target.classList.toggle("over", on);
  };
  addEventListener("dragover", light(true));
  addEventListener("dragleave", light(false));
  addEventListener("drop", event => {
    light(false)(event);
    const [file] = event.dataTransfer.files;
    if (file) onFile(file);
  });
}
