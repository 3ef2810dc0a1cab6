// "Train a model here": the reader's own points, a network that learns them in a Worker, and samples from it. The plane is
// [-2, 2] x [-2, 2]; lists of points are flat, x, y, x, y, ... Nothing leaves the page.

import { make, slider } from './controls.mjs';
import { randn } from './diffusion.mjs';
import { levels } from './trainer.mjs';

const LEAST = 20; // points to train on
const MOST = 2000;
const TRAIN = 3000; // steps of training at each press
const [SAMPLES, STEPS, PATHS, TAIL] = [200, 100, 6, 12]; // PATHS of the samples show their TAIL last steps
const SIDE = 800; // pixels of the canvas
const SPACE = 0.25; // between arrows
const GRID = Float32Array.from({ length: 2 * 15 * 15 }, (_, i) => SPACE * ((i % 2 ? Math.floor(i / 30) : (i >> 1) % 15) - 7));
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1], ' ': [0, 0], Enter: [0, 0] };
const WAYS = { ODE: 'ODE (DDIM)', chain: 'chain (DDPM)', SDE: 'SDE (Euler-Maruyama)' };

// ---- points to begin with: i of n on a curve, with a little noise

const turn = (share, radius, x = 0, y = 0) =>
  [Math.cos, Math.sin].map((f, c) => [x, y][c] + radius * f(2 * Math.PI * share));
const PRESETS = {
  'two moons': [0.06, (u, i) => (i % 2 ? turn(u / 2, 1.2, -0.6, -0.3) : turn(0.5 + u / 2, 1.2, 0.6, 0.3))],
  'a ring': [0.06, (u) => turn(u, 1.3)],
  'three blobs': [0.15, (u, i) => turn((i % 3) / 3 + 0.25, 1.2)],
  'draw your own': [0, null],
};
function preset(name, n = 200) {
  const [width, curve] = PRESETS[name];
  const noise = randn(2 * n, 5);
  const clean = curve ? Array.from({ length: n }, (_, i) => curve((i + 0.5) / n, i)).flat() : [];
  return clean.map((value, i) => value + width * noise[i]);
}

// ---- the part

function begin(root) {
  const canvas = make('canvas', { width: SIDE, height: SIDE, tabIndex: 0, className: 'ld-plane' });
  canvas.setAttribute('role', 'application');
  const spoken = make('p', { className: 'ld-cursor', 'aria-live': 'polite' });
  const status = make('p', { className: 'ld-status' });
  status.setAttribute('role', 'status');
  const button = (text, onclick) => make('button', { type: 'button', onclick }, text);
  const choice = make('select', { name: 'points' }, ...Object.keys(PRESETS).map((name) => make('option', {}, name)));
  const curve = make('canvas', { width: SIDE, height: SIDE / 5, className: 'ld-loss' });
  curve.setAttribute('role', 'img');
  const lossText = make('output', { 'aria-live': 'off' });
  const ts = levels(STEPS);
  const level = slider('t', { min: 0, max: 1, step: 0.01, value: 0.5 }, (t) => `arrows at t = ${t.toFixed(2)}`);
  const scrub = slider('step', { min: 0, max: STEPS, value: STEPS }, (i) => `${i} of ${STEPS}, t = ${ts[i].toFixed(2)}`);
  const radios = Object.entries(WAYS).map(([value, text]) =>
    make('label', {}, make('input', { type: 'radio', name: 'way', value, checked: value === 'ODE' }), text));
  const ways = make('fieldset', { className: 'ld-row' }, make('legend', {}, 'from noise to data by'), ...radios);
  const film = make('div', { hidden: true }, ways, scrub.element);
  const calm = matchMedia('(prefers-reduced-motion: reduce)');

  let points = [];
  let [arrows, preview, drawn] = [null, null, null]; // {at, field}; samples while it trains; {ways, near} after
  let [losses, seed, generation, worker, said] = [[], 0, 0, null, 0];
  const cursor = [0, 0];

  // What is announced: news of the same state not more than once in two seconds.
  const tell = (state, words) => {
    if (state === root.dataset.state && performance.now() < said + 2000 && state === 'training') return;
    [root.dataset.state, status.textContent, said] = [state, words, performance.now()];
    train.textContent = state === 'training' ? 'pause' : 'train';
  };

  // ---- pictures

  const way = () => ways.querySelector(':checked').value;
  const frame = (i) => drawn.ways[way()][i];

  function draw() {
    const g = canvas.getContext('2d');
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--ld-${name}`);
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, SIDE, SIDE);
    g.setTransform(SIDE / 4, 0, 0, -SIDE / 4, SIDE / 2, SIDE / 2);
    g.lineCap = g.lineJoin = 'round';
    const dots = (list, name, radius) => {
      g.fillStyle = colour(name);
      for (let i = 0; i < list.length; i += 2) {
        g.beginPath();
        g.arc(list[i], list[i + 1], radius, 0, 7);
        g.fill();
      }
    };
    const line = (corners, name, width) => {
      [g.strokeStyle, g.lineWidth] = [colour(name), width];
      g.beginPath();
      corners.forEach(([x, y]) => g.lineTo(x, y));
      g.stroke();
    };
    if (arrows) GRID.forEach((x, i) => i % 2 || arrow(x, GRID[i + 1], arrows[i], arrows[i + 1], line));
    dots(points, 'point', 0.022);
    if (drawn) {
      const i = scrub.range.valueAsNumber;
      const tail = Array.from({ length: Math.min(i, TAIL) + 1 }, (_, k) => frame(i - Math.min(i, TAIL) + k));
      for (let k = 0; k < PATHS; k++) line(tail.map((x) => [x[2 * k], x[2 * k + 1]]), 'path', 0.015);
      dots(frame(i), 'sample', 0.026);
      dots(frame(i).subarray(0, 2 * PATHS), 'path', 0.04);
    } else if (preview) dots(preview, 'sample', 0.026);
    if (document.activeElement === canvas) {
      const [x, y] = cursor;
      line([[x - 0.08, y], [x + 0.08, y]], 'cursor', 0.015);
      line([[x, y - 0.08], [x, y + 0.08]], 'cursor', 0.015);
    }
    const what = drawn ? ` ${SAMPLES} samples at step ${scrub.range.value} of ${STEPS}, ${WAYS[way()]}.` : '';
    const keys = 'Arrow keys move a cursor, Space places a point.';
    canvas.setAttribute('aria-label', `The plane, with ${points.length / 2} points.${what} ${keys}`);
    drawLoss(colour);
  }

  // From a place towards x0_hat, half of the way, at most nearly to the next place.
  function arrow(x, y, toX, toY, line) {
    const far = Math.hypot(toX - x, toY - y);
    const length = Math.min(0.5 * far, 0.85 * SPACE);
    if (length < 0.01) return;
    const [dx, dy] = [(toX - x) / far, (toY - y) / far];
    const [endX, endY, head] = [x + length * dx, y + length * dy, Math.min(0.06, 0.5 * length)];
    const side = (s) => [endX - head * (dx - s * dy), endY - head * (dy + s * dx)];
    line([[x, y], [endX, endY]], 'arrow', 0.011);
    line([side(0.6), [endX, endY], side(-0.6)], 'arrow', 0.011);
  }

  function drawLoss(colour) {
    const g = curve.getContext('2d');
    g.clearRect(0, 0, SIDE, curve.height);
    [g.strokeStyle, g.lineWidth] = [colour('path'), 4];
    g.beginPath();
    const values = losses.map(({ loss }) => loss);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const [first, last] = [losses[0], losses.at(-1)];
    losses.forEach(({ step, loss }) => g.lineTo(
      SIDE * (step - first.step) / (last.step - first.step || 1), 3 + (curve.height - 6) * (high - loss) / (high - low || 1)));
    g.stroke();
    const range = `curve from ${low.toFixed(2)} to ${high.toFixed(2)}`;
    lossText.textContent = last ? `loss ${last.loss.toFixed(2)} after ${last.step} steps; ${range}` : 'no loss yet';
    curve.setAttribute('aria-label', `The loss: ${lossText.textContent}.`);
  }

  // ---- the network, in a thread of its own

  function send(message) {
    if (!worker) {
      worker = new Worker(new URL('trainer.mjs', import.meta.url), { type: 'module' });
      worker.onmessage = ({ data }) => data.generation === generation && heard(data);
      worker.onerror = () => {
        [worker, generation, losses, arrows, preview] = [null, generation + 1, [], null, null]; // it begins again
        tell('failed', 'The network could not be started, or stopped. Press train to try again.');
      };
      if (points.length) worker.postMessage({ points: Float32Array.from(points) });
      worker.postMessage({ reset: generation });
    }
    worker.postMessage(message);
  }
  const ask = () => {
    tell('drawing', 'drawing ...');
    send({ walk: ++seed, n: SAMPLES, steps: STEPS });
  };
  let due = false; // arrows that the reader asked for
  const askArrows = () => {
    due = true;
    send({ field: level.range.valueAsNumber, at: GRID });
  };

  function heard(data) {
    if (data.field) arrows = data.field;
    else if (data.ways) {
      if (root.dataset.state !== 'drawing') return; // it trains again
      drawn = data;
      film.hidden = false;
      const near = Object.entries(drawn.near).map(([name, far]) => `${name} ${far.toFixed(2)}`).join(', ');
      const back = 'The step slider goes back to the noise.';
      tell('drawn', `${SAMPLES} samples, three ways. Mean distance to the nearest of your points: ${near}. ${back}`);
    } else {
      preview = data.preview;
      losses.push(data);
      Object.assign(root.dataset, { ms: Math.round(data.ms), near: data.near });
      if (data.done) ask();
      else if (root.dataset.state === 'training') tell('training', `training: step ${data.step}, loss ${data.loss.toFixed(2)}`);
    }
    if (calm.matches && root.dataset.state === 'training' && !(data.field && due)) return; // nothing moves by itself
    due = false;
    draw();
  }

  const train = button('train', () => {
    if (root.dataset.state === 'training') {
      send({ train: 0 });
      tell('paused', 'Paused. Press train to go on.');
      return draw();
    }
    if (points.length < 2 * LEAST) return tell('refused', `Draw at least ${LEAST} points first; there are ${points.length / 2}.`);
    drawn = null;
    film.hidden = true;
    tell('training', 'training ...');
    askArrows();
    send({ train: TRAIN });
    draw();
  });
  const sample = button('draw samples', () => {
    if (points.length < 2 * LEAST) return train.onclick();
    send({ train: 0 });
    askArrows();
    ask();
  });

  // Other points, and a network that has seen none.
  function restart(list) {
    [points, arrows, preview, drawn, losses] = [list, null, null, null, []];
    generation++;
    film.hidden = true;
    if (worker) for (const message of [{ reset: generation }, { points: Float32Array.from(points) }]) worker.postMessage(message);
    tell('ready', points.length ? 'Ready. Press train.' : `Draw at least ${LEAST} points, then press train.`);
    draw();
  }
  choice.onchange = () => restart(preset(choice.value));
  const clear = button('clear', () => {
    choice.value = 'draw your own';
    restart([]);
  });

  // ---- drawing: with pointer or keys

  function place(x, y) {
    if (points.length >= 2 * MOST) return tell(root.dataset.state, `That is enough: ${MOST} points.`);
    points.push(...[x, y].map((value) => Math.min(2, Math.max(-2, value))));
    if (root.dataset.state === 'refused' && points.length >= 2 * LEAST) tell('ready', 'Ready. Press train.');
    worker?.postMessage({ points: Float32Array.from(points) });
    draw();
  }
  let pen = null; // where the last point of a stroke is
  const stroke = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [4 * (event.clientX - box.left) / box.width - 2, 2 - 4 * (event.clientY - box.top) / box.height];
    if (pen && Math.hypot(x - pen[0], y - pen[1]) < 0.08) return;
    pen = [x, y];
    place(x, y);
  };
  canvas.onpointerdown = (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    stroke(event);
  };
  canvas.onpointermove = (event) => pen && stroke(event);
  canvas.onpointerup = canvas.onpointercancel = () => {
    if (pen) spoken.textContent = `${points.length / 2} points`;
    pen = null;
  };
  canvas.onkeydown = (event) => {
    const move = KEYS[event.key];
    if (!move || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    move.forEach((by, c) => { cursor[c] = Math.min(2, Math.max(-2, Math.round(10 * cursor[c] + by) / 10)); });
    const here = `x = ${cursor[0].toFixed(1)}, y = ${cursor[1].toFixed(1)}`;
    if (move[0] || move[1]) draw();
    else place(...cursor);
    spoken.textContent = move[0] || move[1] ? here : `point ${points.length / 2} at ${here}`;
  };
  canvas.onfocus = canvas.onblur = draw;

  level.range.addEventListener('input', askArrows);
  scrub.range.addEventListener('input', () => {
    level.range.value = ts[scrub.range.valueAsNumber];
    level.show();
    askArrows();
    draw();
  });
  ways.onchange = draw;
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ['data-theme'] });

  root.querySelectorAll('[data-still], [data-wait]').forEach((element) => element.remove());
  const buttons = make('div', { className: 'ld-row' }, train, sample, clear);
  const controls = [make('label', {}, 'points ', choice), buttons, level.element, film, curve, lossText];
  const panel = make('div', { className: 'ld-panel' }, ...controls);
  const key = make('p', { className: 'ld-key' });
  for (const [name, text] of [['point', 'your points'], ['sample', 'samples'], ['path', `${PATHS} paths`]]) {
    key.append(make('span', { className: `ld-${name}`, 'aria-hidden': 'true' }, '\u25cf'), ` ${text}  `);
  }
  root.append(make('div', { className: 'ld-views' }, make('div', {}, canvas, key, spoken), panel), status);
  restart(preset(choice.value));
}

document.querySelectorAll('[data-points]').forEach(begin);
