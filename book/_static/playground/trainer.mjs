// A denoiser for points in the plane, trained in the reader's browser: x_t = alpha x0 + sigma eps, as in chapter 05. Lists of
// points are flat: x, y, x, y, ...
//
// As a Worker it takes {points}, {train: steps} (0: stop), {field: t, at: points}, {walk: seed, n, steps} and {reset: seed}.
// Training is answered by {step, loss, ms, near, preview, done}, now and then, the others by {t, at, field}, where field is
// x0_hat at each of those points, and {ways, near}: of each way all points after 0, 1, ... steps, and how near they end.

import { addNoise, alpha, fromX0, lam, randn, sigma, uniform } from './diffusion.mjs';
import { pause } from './pause.mjs';
import { features, loss, parameters, perceptron, ROWS, weights } from './perceptron.mjs';

const BATCH = 128;
const LEVELS = [-3, 4]; // half the log-SNR, from nearly pure noise to nearly clean; the last step goes from there to x0_hat
const REPORT = 200; // ms

// Adam with a moving average `ema` of the weights, from which is drawn; step(points) gives the loss of one batch. The same
// points and seed give the same losses.
export function trainer(seed) {
  const [theta, random] = [weights(seed), uniform(seed)];
  const [grad, mean, square, ema] = [0, 0, 0, 1].map((one) => (one ? theta.slice() : new Float32Array(parameters)));
  const net = perceptron(theta, grad);
  const [x0, ts] = [new Float32Array(2 * BATCH), new Float32Array(BATCH)];
  let count = 0;
  const step = (points, rate = 6e-3) => {
    count++;
    for (let row = 0; row < BATCH; row++) {
      const i = 2 * Math.floor(random() * points.length / 2);
      x0.set(points.subarray(i, i + 2), 2 * row);
      ts[row] = ((row + random()) / BATCH) ** 2; // every level is met in every batch, the low ones more often
    }
    grad.fill(0);
    const value = loss(net, x0, randn(2 * BATCH, 2 ** 32 * random()), ts);
    const [one, two, keep] = [1 - 0.9 ** count, 1 - 0.99 ** count, Math.min(0.995, count / (count + 10))];
    for (let i = 0; i < parameters; i++) {
      mean[i] += 0.1 * (grad[i] - mean[i]);
      square[i] += 0.01 * (grad[i] ** 2 - square[i]);
      theta[i] -= rate * Math.min(1, count / 50) * (mean[i] / one) / (Math.sqrt(square[i] / two) + 1e-8);
      ema[i] += (1 - keep) * (theta[i] - ema[i]);
    }
    return value;
  };
  return { step, denoise: denoiser(ema) };
}

// x_t, t -> {x0, eps} of all points at once.
function denoiser(theta) {
  const { input, ask } = perceptron(theta);
  return (x, t) => {
    const x0 = new Float32Array(x.length);
    for (let first = 0; first < x.length; first += 2 * ROWS) {
      for (let r = 0; r < ROWS; r++) features(input, r, x[first + 2 * r] ?? 0, x[first + 2 * r + 1] ?? 0, t);
      const v = ask();
      for (let i = 0; i < 2 * ROWS; i++) {
        const at = first + 2 * (i % ROWS) + Math.floor(i / ROWS);
        x0[at] = alpha(t) * x[at] - sigma(t) * v[i]; // what lies past the end is not kept
      }
    }
    return fromX0(x, x0, t);
  };
}

// One step from level t down to s > 0, d in half the log-SNR, with fresh noise z.
const mixed = (a, f, b, g) => a.map((value, i) => f * value + g * b[i]);
export const WAYS = {
  ODE: (x, { x0, eps }, t, s) => addNoise(x0, eps, s), // DDIM
  chain: (x, { x0, eps }, t, s, d, z) => addNoise(x0, mixed(eps, Math.exp(-d), z, Math.sqrt(1 - Math.exp(-2 * d))), s), // DDPM
  SDE: (x, { eps }, t, s, d, z) => // Euler and Maruyama: f x dt - g^2 score dt + g dw; f |dt| is sigma^2 d
    mixed(mixed(x, 1 + sigma(t) ** 2 * d, eps, -2 * sigma(t) * d), 1, z, sigma(t) * Math.sqrt(2 * d)),
};

export const levels = (steps) => Array.from({ length: steps + 1 }, (_, i) =>
  (i === steps ? 0 : 2 / Math.PI * Math.atan(Math.exp(-LEVELS[0] - (LEVELS[1] - LEVELS[0]) * i / (steps - 1)))));

export function walk(denoise, way, noise, steps, seed) {
  const ts = levels(steps);
  const frames = [noise];
  for (let i = 0; i < steps; i++) {
    const est = denoise(frames[i], ts[i]);
    const z = way === 'ODE' ? null : randn(noise.length, seed + i);
    frames.push(i + 1 === steps ? est.x0 : WAYS[way](frames[i], est, ts[i], ts[i + 1], lam(ts[i + 1]) - lam(ts[i]), z));
  }
  return frames;
}

// Mean distance from each of a to the nearest of b.
export function near(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 2) {
    let least = Infinity;
    for (let j = 0; j < b.length; j += 2) least = Math.min(least, (a[i] - b[j]) ** 2 + (a[i + 1] - b[j + 1]) ** 2);
    sum += Math.sqrt(least);
  }
  return sum / (a.length / 2);
}

// ---- the Worker

let [model, points, field, run] = [trainer(1), new Float32Array(0), null, 0];
// mean: of the loss of the latest 50 batches or so. A reset begins a new generation, whose number every answer bears.
let [count, mean, ms, generation] = [0, 0, 0, 0];
const answer = (message) => globalThis.postMessage({ ...message, generation });

const arrows = () => field && answer({ t: field.field, field: model.denoise(field.at, field.field).x0 });

async function train(steps) {
  const mine = ++run;
  const end = count + steps;
  while (count < end && mine === run) {
    const start = performance.now();
    const until = start + (count ? REPORT : 0); // the first report shows the loss of a network that knows nothing
    let now;
    do {
      const value = model.step(points);
      count++;
      mean += (value - mean) * Math.max(0.02, 1 / count);
      now = performance.now();
    } while (count < end && now < until);
    ms += now - start;
    const preview = walk(model.denoise, 'ODE', randn(400, 1), 20).at(-1);
    answer({ step: count, loss: mean, ms, near: near(preview, points), preview, done: count === end });
    arrows();
    await pause();
  }
}

function draw({ walk: seed, n, steps }) {
  const noise = randn(2 * n, seed);
  const ways = Object.keys(WAYS).map((way) => [way, walk(model.denoise, way, noise, steps, 1000 * seed)]);
  answer({ ways: Object.fromEntries(ways), near: Object.fromEntries(ways.map(([way, x]) => [way, near(x.at(-1), points)])) });
}

function heard({ data }) {
  if (data.points) points = data.points;
  else if ('train' in data) train(data.train);
  else if (data.at) arrows((field = data));
  else if (data.walk) draw(data);
  else [model, count, mean, ms, run, generation] = [trainer(data.reset), 0, 0, 0, run + 1, data.reset];
}
if (!globalThis.document) globalThis.onmessage = heard;
