// The playground: turns each element [data-playground] of the page from a still picture into something to try.
//
// Texts of readers, file names among them, enter the page as text only. A picture that is dropped in stays in the page.

import { make, slider } from './controls.mjs';
import { addNoise, alpha, randn, sigma } from './diffusion.mjs';
import { manifest } from './model.mjs';
import { PromptError, tokenise } from './tokenise.mjs';

const here = new URL('.', import.meta.url);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

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
  g.fillStyle = 'white'; // behind what is transparent
  g.fillRect(0, 0, side, side);
  g.imageSmoothingQuality = 'high';
  g.drawImage(source, (source.width - least) / 2, (source.height - least) / 2, least, least, 0, 0, side, side);
  const { data } = g.getImageData(0, 0, side, side);
  return Float32Array.from({ length: 3 * side * side }, (_, i) => data[4 * (i % (side * side)) + Math.floor(i / (side * side))] / 127.5 - 1);
}

async function fetched(name) {
  const image = make('img', { src: new URL(`models/${name}`, here).href });
  await image.decode();
  return image;
}

const canvasOf = (title) => {
  const canvas = make('canvas', { title });
  canvas.setAttribute('role', 'img');
  return canvas;
};

// For each word a map of where the network reads it, white where most, and its share of all that is read. `tokens` is
// what the attention (tokens * pixels) is for: the words, and what fills a caption up.
function wordMaps(words, tokens) {
  const maps = words.map((word) => ({ word, canvas: canvasOf(word), label: make('div') }));
  const element = make('div', { className: 'ld-maps' }, ...maps.map(({ canvas, label }) => make('div', {}, canvas, label)));
  const show = (attention) => {
    const pixels = attention.length / tokens;
    const side = Math.sqrt(pixels);
    for (const [i, { word, canvas, label }] of maps.entries()) {
      const weights = attention.subarray(i * pixels, (i + 1) * pixels);
      const most = Math.max(...weights);
      paint(canvas, weights.map((weight) => (2 * weight) / most - 1), [1, side, side]);
      label.textContent = `${word} ${((100 / pixels) * weights.reduce((a, b) => a + b)).toFixed(1)} %`;
      canvas.setAttribute('aria-label', `Where the network reads ${label.textContent}`);
    }
  };
  return { element, show };
}

// The walks from noise to pictures under one slider: x_t, and beside it what the model believes the picture to be, there.
function film() {
  let lanes = []; // of each walk: its canvases, what it shows in words, and its frames {t, x, x0, attention}
  const shown = (i) => {
    const frames = lanes[0]?.frames ?? [];
    return frames[i] ? `${i} of ${frames.length - 1}, t = ${frames[i].t.toFixed(2)}` : '';
  };
  const { range, show, element } = slider('step', { min: 0, max: 0, value: 0 }, shown);
  const views = make('div', { className: 'ld-views' });
  const change = canvasOf('difference');
  let shape;
  const draw = () => {
    for (const { canvases, maps, alt, frames } of lanes) {
      const i = Math.min(range.valueAsNumber, frames.length - 1); // the second walk waits for the first
      const frame = frames[i];
      canvases.forEach((canvas, k) => {
        paint(canvas, k ? frame.x0 : frame.x, shape);
        canvas.dataset.frame = i;
        canvas.setAttribute('aria-label', `${alt}: ${canvas.title}, step ${shown(i)}`);
      });
      if (frame.attention) maps.show(frame.attention);
    }
    const [one, two] = lanes.map(({ frames }) => frames[range.valueAsNumber]);
    if (!two) {
      change.width = change.width; // empty: the difference of the pair before is none of these
      return change.removeAttribute('aria-label');
    }
    paint(change, one.x0.map((value, i) => Math.abs(value - two.x0[i]) - 1), shape);
    change.setAttribute('aria-label', `The difference of the two x0_hat, step ${shown(range.valueAsNumber)}`);
  };
  range.addEventListener('input', draw);
  const add = (lane, frame) => {
    lanes[lane].frames.push(frame);
    const last = lanes[0].frames.length - 1;
    if (lane === 0) Object.assign(range, { max: last, value: last });
    show();
    draw();
  };
  return {
    element: make('div', { className: 'ld-film' }, views, element),
    // words: the sentence; read: its words one by one, where the model reads any, of so many tokens
    begin(lane, noise, size, words, read = [], tokens = 0) {
      if (lane === 0) [shape, lanes] = [size, []];
      lanes.push({ canvases: ['x_t', 'x0_hat'].map(canvasOf), maps: wordMaps(read, tokens), alt: words, frames: [] });
      const two = lanes.length > 1;
      const view = (canvas, said) => make('div', {}, make('div', {}, said), canvas);
      const all = lanes.flatMap(({ canvases, maps, alt }) => [
        ...canvases.map((canvas) => view(canvas, two ? `${canvas.title}: ${alt}` : canvas.title)), maps.element,
      ]);
      views.replaceChildren(...all, ...(two ? [view(change, 'the difference of the two x0_hat')] : []));
      add(lane, { t: 1, x: noise, x0: noise.map(() => 0) }); // until the model has answered
    },
    // The answer x0 was read off the last frame, on the way to x; at the end x is the answer itself.
    step(lane, { t, x, x0, attention }) {
      Object.assign(lanes[lane].frames.at(-1), { x0, attention });
      add(lane, { t, x, x0: t > 0 ? x0 : x, attention });
    },
  };
}

// ---- the address: what a part shows, for others to open. Nothing is sent, it stands behind the #.

const linked = new URLSearchParams(location.hash.slice(1));
addEventListener('hashchange', () => location.hash.startsWith('#part=') && location.reload()); // pasted where it is open

function link(part, controls) {
  const state = new URLSearchParams([['part', part], ...controls.map(({ name, value }) => [name, value])]);
  history.replaceState(null, '', `#${state}`);
  return location.href;
}

// Fill in what the address says, if it speaks of this part: ranges and choices refuse by themselves what they cannot be.
function follow(part, root, controls) {
  if (linked.get('part') !== part) return false;
  for (const control of controls.filter(({ name }) => linked.has(name))) {
    const before = control.value;
    control.value = linked.get(control.name).slice(0, 200);
    if (control.value === '' && control.type !== 'text') control.value = before;
    control.dispatchEvent(new Event('input'));
  }
  (root.closest('section') ?? root).scrollIntoView();
  return true;
}

// ---- the model, in a thread of its own

const waiting = new Map(); // what to do with the answers to each request
const buttons = new Map(); // by the model they load, as long as they are there
let worker;
let requests = 0; // counted over all parts: the number of a request is its name

function send(message, key, answer) {
  waiting.set(key, answer);
  if (!worker) {
    const mine = (worker = new Worker(new URL('worker.mjs', here), { type: 'module' }));
    mine.onmessage = ({ data }) => {
      if (mine !== worker) return; // it was given up
      if (data.fatal) stopped(data.error);
      else waiting.get(data.key)?.(data);
    };
    mine.onerror = () => mine === worker && stopped('this browser could not start it');
  }
  worker.postMessage(message);
}

// A runtime that failed once does not recover: the next request starts a new one, which loads what it needs.
function stopped(error) {
  worker.terminate();
  worker = undefined;
  const told = [...waiting.values()];
  waiting.clear();
  for (const tell of told) tell({ error });
}

// What pressing the buttons downloads; the runtime comes once.
function sizes(info, runtime) {
  for (const [name, button] of buttons) {
    button.dataset.bytes = info[name].bytes + (runtime ? info.runtime.bytes : 0);
    button.textContent = `Load the model: ${megabytes(button.dataset.bytes)}`;
  }
}

// A part with a model: its button says what it downloads; then its controls appear, and it draws at once.
//   request()  what to draw: {ys, scale, steps, ...}, a picture for each of ys, or throws a PromptError
//   controls   elements whose changes draw again
//   alt()      what the pictures show, in words, one for each of ys
function live(root, name, info, { controls, request, alt }) {
  const still = root.querySelector('[data-still]');
  const status = make('p', { className: 'ld-status' });
  status.setAttribute('role', 'status');
  const button = make('button', { type: 'button' });
  const seed = make('input', { type: 'number', name: 'seed', min: 0, max: 9999, value: 1 });
  const again = make('button', { type: 'button' }, 'Draw');
  const another = make('button', { type: 'button' }, 'Other noise');
  const share = make('button', { type: 'button' }, 'Link to this');
  const seeds = make('div', { className: 'ld-row' }, make('label', {}, 'seed ', seed), again, another, share);
  const panel = make('div', { className: 'ld-panel', hidden: true }, ...controls, seeds);
  const walk = film();
  const named = [...panel.querySelectorAll('[name]')];
  let latest; // this part's request that is being drawn
  root.append(status, panel, make('div', { className: 'ld-row' }, button));
  buttons.set(name, button);
  sizes(info, true);

  const tell = (state, words) => { [root.dataset.state, status.textContent] = [state, words]; };
  const draw = () => {
    let asked;
    try {
      asked = request();
    } catch (error) {
      if (!(error instanceof PromptError)) throw error;
      return tell('refused', error.message); // what is being drawn is drawn to its end
    }
    waiting.delete(latest);
    seed.value = Math.abs(Math.trunc(seed.valueAsNumber || 0)) % 10000;
    const id = latest = ++requests;
    const words = alt();
    tell('drawing', 'drawing ...');
    send({ draw: id, model: name, seed: seed.valueAsNumber, ...asked }, id, (data) => {
      if (data.error) tell('failed', `The model stopped: ${data.error}.`);
      else if (data.done) {
        root.dataset.ms = data.ms;
        if (root.dataset.state !== 'refused') tell('done', `Drawn in ${(data.ms / 1000).toFixed(1)} s: ${asked.steps} steps. The slider goes back through them.`);
      } else if (data.noise) {
        if (!walk.element.isConnected) (still ?? status).before(walk.element);
        still?.remove();
        const { picture, shape, words: known, length } = info[name];
        const read = known && asked.ys[data.lane].filter(Boolean).map((token) => known[token - 1]);
        walk.begin(data.lane, data.noise, picture ?? shape, words[data.lane], read, length);
      }
      else walk.step(data.lane, data);
      if (data.done || data.error) waiting.delete(id);
    });
  };
  button.onclick = () => {
    if (waiting.has(name)) return; // it is on its way
    button.setAttribute('aria-disabled', 'true');
    status.textContent = 'loading ...';
    const shared = [...buttons.keys()].some((other) => other !== name && waiting.has(other)); // the runtime is on its way
    const bar = make('progress', { max: shared ? info[name].bytes : button.dataset.bytes, value: 0, 'aria-label': 'downloaded' });
    button.after(bar);
    send({ load: name }, name, (data) => {
      if (data.received) return void (bar.value = data.received);
      waiting.delete(name);
      bar.remove();
      button.removeAttribute('aria-disabled');
      if (data.error) return tell('failed', `The model did not load: ${data.error}. The picture stays as it is.`);
      root.dataset.loaded = data.ms;
      buttons.delete(name);
      sizes(info, false);
      panel.hidden = false;
      if (document.activeElement === button) panel.querySelector('input, select').focus();
      button.parentElement.remove();
      draw();
    });
  };
  again.onclick = draw;
  another.onclick = () => { seed.value = seed.valueAsNumber + 1; draw(); };
  share.onclick = async () => {
    const address = link(name, named);
    const copied = await navigator.clipboard?.writeText(address).then(() => true, () => false);
    const painted = name === 'repair' ? ' What you painted is not part of it.' : '';
    status.textContent = `The address of this page leads to these settings now${copied ? ', and is copied' : ': copy it'}.${painted}`;
  };
  const came = follow(name, root, named);
  panel.addEventListener('change', draw);
  root.classList.toggle('ld-smooth', 'picture' in info[name]); // decoded: no pixel is the point
  tell('ready', came ? `This link leads to "${alt().join('" and "')}", seed ${seed.value}. The button below draws it.` : '');
  return draw;
}

// ---- the four parts

function digits(root, info) {
  const choices = Array.from({ length: info.digits.classes }, (_, i) => make('option', { value: i }, i));
  const digit = make('select', { name: 'digit' }, ...choices);
  digit.value = 3;
  const scale = slider('guidance', { min: 0, max: 6, step: 0.5, value: 2 });
  const steps = slider('steps', { min: 1, max: 50, value: 20 });
  live(root, 'digits', info, {
    controls: [make('label', {}, 'digit ', digit), scale.element, steps.element],
    request: () => ({ ys: [[+digit.value]], scale: scale.range.valueAsNumber, steps: steps.range.valueAsNumber }),
    alt: () => [`A handwritten ${digit.value}`],
  });
}

// The controls that the two parts with a sentence share. others: of further sentences, drawn beside it unless empty.
function sentence(root, name, info, prompt, more = () => ({}), others = []) {
  const field = (text, value) => make('input', {
    type: 'text', name: text, value, maxLength: 200, spellcheck: false, autocomplete: 'off',
  });
  const texts = [field('sentence', prompt), ...others.map((text) => field(text, ''))];
  const scale = slider('guidance', { min: 0, max: 6, step: 0.5, value: 2 });
  const steps = slider('steps', { min: 5, max: 50, value: 20 });
  const { words, length } = info[name];
  const vocabulary = make('details', {}, make('summary', {}, `the ${words.length} words it knows`), words.join(', '));
  const labels = texts.map((text) => make('label', { className: 'ld-wide' }, `${text.name} `, text));
  const said = () => texts.map((text) => text.value).filter((value, i) => i === 0 || value.trim());
  return live(root, name, info, {
    controls: [...labels, scale.element, steps.element, vocabulary],
    request: () => ({
      ys: said().map((each) => tokenise(each, words, length)),
      scale: scale.range.valueAsNumber,
      steps: steps.range.valueAsNumber,
      ...more(),
    }),
    alt: said,
  });
}

const scenes = (root, info) => sentence(root, 'scenes', info, info.scenes.prompt, () => ({}), ['beside it']);

async function repair(root, info) {
  const [, height, width] = info.repair.shape;
  const known = pixels(await fetched('scene.png'), width);
  const box = root.querySelector('[data-mask]'); // where the painter writes; see widgets/mask_painter.js
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
  let newest = 0;
  const tell = (state, words) => { [root.dataset.state, status.textContent] = [state, words]; };
  const read = async (chosen) => {
    const mine = ++newest; // small files are read sooner than large ones
    try {
      const bitmap = await createImageBitmap(chosen);
      const read = pixels(bitmap, side);
      bitmap.close();
      if (mine !== newest) return;
      picture = read;
      what = 'Your picture';
      draw();
      tell('own', `${chosen.name}: it stays on this machine.`);
    } catch {
      if (mine === newest) tell('refused', `${chosen.name} could not be read as a picture. Try a PNG, JPEG or WebP file.`);
    }
  };
  level.range.addEventListener('input', draw);
  file.onchange = () => file.files[0] && read(file.files[0]);
  root.ondragover = (event) => event.preventDefault();
  root.ondrop = (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
    else tell('refused', 'That was no file. Save the picture first, then drop the file here.');
  };
  still.remove();
  root.append(
    make('div', { className: 'ld-views' }, canvas),
    status,
    make('div', { className: 'ld-panel' }, level.element, make('label', {}, 'your picture, or drop one here ', file)),
  );
  draw();
  root.dataset.state = 'ready';
}

const parts = { digits, scenes, repair, noise };
const info = manifest();
document.querySelectorAll('[data-playground]').forEach(async (root) => {
  const name = root.dataset.playground;
  try {
    await parts[name](root, name === 'noise' ? null : await info);
  } catch (error) {
    root.dataset.state = 'failed';
    root.append(make('p', { className: 'ld-status' }, `Nothing to try here: ${error.message}. The picture stays as it is.`));
  }
  root.querySelector('[data-wait]')?.remove();
});
