// The playground: turns each element [data-playground] of the page from a still picture into something to try.
//
// Texts of readers, file names among them, enter the page as text only. A picture that is dropped in stays in the page.

import { addNoise, alpha, randn, sigma } from './diffusion.mjs';
import { manifest } from './model.mjs';
import { PromptError, tokenise } from './tokenise.mjs';

const here = new URL('.', import.meta.url);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const slider = (text, properties, shown = (value) => value) => {
  const range = make('input', { type: 'range', ...properties });
  const value = make('output', { ariaLive: 'off' });
  const show = () => {
    value.textContent = shown(range.valueAsNumber);
    range.setAttribute('aria-valuetext', value.textContent);
  };
  range.addEventListener('input', show);
  show();
  return { range, show, element: make('div', { className: 'ld-row' }, make('label', {}, `${text} `, range), value) };
};

// ---- pictures

// A picture (C, H, W) in [-1, 1] on a canvas of its own size.
function paint(canvas, picture, [channels, height, width]) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = 127.5 * (picture[(channels === 1 ? 0 : c) * width * height + i] + 1);
    image.data[4 * i + 3] = 255;
  }
  Object.assign(canvas, { width, height });
  canvas.getContext('2d').putImageData(image, 0, 0);
}

// Any picture that the browser can draw, as (3, side, side) in [-1, 1]: its largest middle square.
function pixels(source, side) {
  const least = Math.min(source.width, source.height);
  const g = make('canvas', { width: side, height: side }).getContext('2d');
  g.drawImage(source, (source.width - least) / 2, (source.height - least) / 2, least, least, 0, 0, side, side);
  const { data } = g.getImageData(0, 0, side, side);
  return Float32Array.from({ length: 3 * side * side }, (_, i) => data[4 * (i % (side * side)) + Math.floor(i / (side * side))] / 127.5 - 1);
}

async function fetched(name) {
  const image = make('img', { src: new URL(`models/${name}`, here).href });
  await image.decode();
  return image;
}

// The walk from noise to picture under a slider: x_t and what the model makes of it, side by side.
function film() {
  const canvases = ['x_t', 'x0_hat'].map((name) => Object.assign(make('canvas'), { title: name }));
  canvases.forEach((canvas) => canvas.setAttribute('role', 'img'));
  const frames = [];
  const shown = (i) => (frames[i] ? `${i} of ${frames.length - 1}, t = ${frames[i].t.toFixed(2)}` : '');
  const { range, show, element } = slider('step', { min: 0, max: 0, value: 0 }, shown);
  let shape;
  let alt;
  const draw = () => {
    const frame = frames[range.valueAsNumber];
    canvases.forEach((canvas, k) => {
      paint(canvas, k ? frame.x0 : frame.x, shape);
      canvas.dataset.frame = range.value;
      canvas.setAttribute('aria-label', `${alt}: ${canvas.title}, step ${shown(range.valueAsNumber)}`);
    });
  };
  range.addEventListener('input', draw);
  const views = canvases.map((canvas) => make('div', {}, make('div', {}, canvas.title), canvas));
  return {
    element: make('div', { className: 'ld-film' }, make('div', { className: 'ld-views' }, ...views), element),
    begin(size, words) { [shape, alt, frames.length] = [size, words, 0]; },
    add(frame) {
      frames.push(frame);
      Object.assign(range, { max: frames.length - 1, value: frames.length - 1 });
      show();
      draw();
    },
  };
}

// ---- the model, in a thread of its own

const waiting = new Map(); // what to do with the answers to each wish
let worker;
let wishes = 0; // counted over all parts: the number of a wish is its name

function send(message, key, answer) {
  if (!worker) {
    worker = new Worker(new URL('worker.mjs', here), { type: 'module' });
    worker.onmessage = ({ data }) => {
      if (data.error) return stopped(data.error);
      waiting.get(data.loaded ?? data.draw)?.(data);
    };
    worker.onerror = () => stopped('this browser could not start it');
  }
  waiting.set(key, answer);
  worker.postMessage(message);
}

// A runtime that failed once does not recover: the next wish starts a new one, which loads what it needs.
function stopped(error) {
  worker?.terminate();
  worker = undefined;
  const told = [...waiting.values()];
  waiting.clear();
  for (const tell of told) tell({ error });
}

// A part with a model: its button says what it downloads; then its controls appear, and it draws at once.
//   wish()     what to draw: {y, scale, steps, ...}, or throws a PromptError
//   controls   elements whose changes draw again
function live(root, name, info, { controls, wish, alt }) {
  const still = root.querySelector('[data-still]');
  const status = make('p', { className: 'ld-status' });
  status.setAttribute('role', 'status');
  const runtime = info.runtime.bytes;
  const button = make('button', { type: 'button' }, `Load the model: ${megabytes(info[name].bytes + runtime)}`);
  const seed = make('input', { type: 'number', min: 0, max: 9999, value: 1 });
  const another = make('button', { type: 'button' }, 'Other noise');
  const seeds = make('div', { className: 'ld-row' }, make('label', {}, 'seed ', seed), another);
  const panel = make('div', { className: 'ld-panel', hidden: true }, ...controls, seeds);
  const walk = film();
  let latest; // this part's wish that is being drawn
  root.append(panel, make('div', { className: 'ld-row' }, button), status);

  const draw = () => {
    let asked;
    try {
      asked = wish();
    } catch (error) {
      if (!(error instanceof PromptError)) throw error;
      status.textContent = error.message;
      root.dataset.state = 'refused';
      return;
    }
    waiting.delete(latest);
    const id = latest = ++wishes;
    const shape = info[name].shape;
    const size = shape[0] * shape[1] * shape[2];
    const message = { draw: id, model: name, seed: seed.valueAsNumber || 0, ...asked };
    if (!walk.element.isConnected) (still ?? panel).before(walk.element);
    still?.remove();
    walk.begin(shape, alt());
    walk.add({ t: 1, x: randn(size, message.seed), x0: new Float32Array(size) });
    root.dataset.state = 'drawing';
    status.textContent = 'drawing ...';
    send(message, id, (data) => {
      if (data.error) {
        status.textContent = `The model stopped: ${data.error}.`;
        root.dataset.state = 'failed';
      } else if (data.done) {
        status.textContent = `Drawn in ${(data.ms / 1000).toFixed(1)} s: ${asked.steps} steps. The slider goes back through them.`;
        Object.assign(root.dataset, { state: 'done', ms: data.ms });
      } else walk.add(data);
      if (data.done || data.error) waiting.delete(id);
    });
  };
  button.onclick = () => {
    button.disabled = true;
    status.textContent = 'loading ...';
    send({ load: name }, name, (data) => {
      waiting.delete(name);
      if (data.error) {
        button.disabled = false;
        root.dataset.state = 'failed';
        status.textContent = `The model did not load: ${data.error}. The picture above is one that it drew.`;
        return;
      }
      root.dataset.loaded = data.ms;
      button.parentElement.remove();
      panel.hidden = false;
      draw();
    });
  };
  another.onclick = () => { seed.value = (seed.valueAsNumber + 1 || 0) % 10000; draw(); };
  panel.addEventListener('change', draw);
  root.dataset.state = 'ready';
  return draw;
}

// ---- the four parts

function digits(root, info) {
  const choices = Array.from({ length: info.digits.classes }, (_, i) => make('option', { value: i }, i));
  const digit = make('select', {}, ...choices);
  digit.value = 3;
  const scale = slider('guidance', { min: 0, max: 6, step: 0.5, value: 2 });
  const steps = slider('steps', { min: 1, max: 50, value: 20 });
  live(root, 'digits', info, {
    controls: [make('label', {}, 'digit ', digit), scale.element, steps.element],
    wish: () => ({ y: [+digit.value], scale: scale.range.valueAsNumber, steps: steps.range.valueAsNumber }),
    alt: () => `A handwritten ${digit.value}`,
  });
}

// The controls that the two parts with a sentence share.
function sentence(root, name, info, prompt, more = () => ({})) {
  const text = make('input', { type: 'text', value: prompt, maxLength: 200, spellcheck: false, autocomplete: 'off' });
  const scale = slider('guidance', { min: 0, max: 6, step: 0.5, value: 2 });
  const steps = slider('steps', { min: 5, max: 50, value: 20 });
  const { words, length } = info[name];
  const vocabulary = make('details', {}, make('summary', {}, `the ${words.length} words it knows`), words.join(', '));
  return live(root, name, info, {
    controls: [make('label', { className: 'ld-wide' }, 'sentence ', text), scale.element, steps.element, vocabulary],
    wish: () => ({
      y: tokenise(text.value, words, length),
      scale: scale.range.valueAsNumber,
      steps: steps.range.valueAsNumber,
      ...more(),
    }),
    alt: () => text.value,
  });
}

const scenes = (root, info) => sentence(root, 'scenes', info, 'a cat wearing sunglasses on the moon');

async function repair(root, info) {
  const [, height, width] = info.repair.shape;
  const known = pixels(await fetched('scene.png'), width);
  const { key, mask: start } = JSON.parse(root.querySelector('.ld-painter').dataset.painter);
  const box = make('input', { type: 'text', value: start }); // where the painter writes; see widgets/painter.js
  root.append(make('div', { className: key, hidden: true }, box));
  const draw = sentence(root, 'repair', info, info.repair.prompt, () => {
    const hole = [...box.value].flatMap((digit) => [8, 4, 2, 1].map((bit) => (parseInt(digit, 16) & bit) > 0));
    const mask = Float32Array.from({ length: 3 * height * width }, (_, i) => +!hole[i % (height * width)]);
    return { known, mask };
  });
  box.onchange = () => { if (!root.querySelector('.ld-panel').hidden) draw(); };
}

async function noise(root) {
  const side = 128;
  const still = root.querySelector('[data-still]');
  const canvas = make('canvas');
  canvas.setAttribute('role', 'img');
  const file = make('input', { type: 'file', accept: 'image/*' });
  const status = make('p', { className: 'ld-status' });
  status.setAttribute('role', 'status');
  const eps = randn(3 * side * side, 1);
  const shown = (t) => `t = ${t.toFixed(2)}: ${alpha(t).toFixed(2)} of the picture + ${sigma(t).toFixed(2)} of the noise`;
  const level = slider('t', { min: 0, max: 1, step: 0.01, value: 0.3 }, shown);
  let picture = pixels(await fetched('scene.png'), side);
  let what = 'A scene';
  const draw = () => {
    paint(canvas, addNoise(picture, eps, level.range.valueAsNumber), [3, side, side]);
    canvas.setAttribute('aria-label', `${what} under noise, ${shown(level.range.valueAsNumber)}`);
  };
  const read = async (chosen) => {
    try {
      const bitmap = await createImageBitmap(chosen);
      picture = pixels(bitmap, side);
      bitmap.close();
      what = 'Your picture';
      status.textContent = `${chosen.name}: it stays on this machine.`;
      root.dataset.state = 'own';
      draw();
    } catch {
      status.textContent = `${chosen.name} could not be read as a picture. Try a PNG, JPEG or WebP file.`;
      root.dataset.state = 'refused';
    }
  };
  level.range.addEventListener('input', draw);
  file.onchange = () => file.files[0] && read(file.files[0]);
  root.ondragover = (event) => event.preventDefault();
  root.ondrop = (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
  };
  still.remove();
  root.append(
    make('div', { className: 'ld-views' }, canvas),
    make('div', { className: 'ld-panel' }, level.element, make('label', {}, 'your picture ', file)),
    status,
  );
  draw();
  root.dataset.state = 'ready';
}

const parts = { digits, scenes, repair, noise };
const roots = [...document.querySelectorAll('[data-playground]')];
try {
  const info = await manifest();
  await Promise.all(roots.map((root) => parts[root.dataset.playground](root, info)));
} catch (error) {
  for (const root of roots.filter((one) => !one.dataset.state)) {
    root.dataset.state = 'failed';
    root.append(make('p', { className: 'ld-status' }, `Nothing to try here: ${error.message}. The picture is one that the model drew.`));
  }
}
