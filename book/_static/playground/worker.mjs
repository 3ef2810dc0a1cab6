// The model's own thread, so that the page stays alive while it thinks.
//
// {load: name} is answered by {loaded: name, ms}; {draw: id, model, y, scale, steps, seed, known, mask} by {draw: id, t,
// x, x0} after every step and {draw: id, done, ms} at the end. A newer wish to the same model ends the older one.
// {error} says what failed; after it this thread is not used again.

import { clipX0, dpmpp2m, grid, hold, randn } from './diffusion.mjs';
import { knownHint, load } from './model.mjs';

const models = new Map();
const current = new Map(); // the newest wish to each model

function loaded(name) {
  if (!models.has(name)) models.set(name, load(name));
  return models.get(name);
}

async function draw({ draw: id, model: name, y, scale, steps, seed, known, mask }) {
  const { shape, denoise } = await loaded(name);
  const size = shape[0] * shape[1] * shape[2];
  let estimate = denoise(y, scale, known && knownHint(known, mask, shape[1] * shape[2]));
  if (known) estimate = hold(estimate, known, mask);
  const start = performance.now();
  for await (const { t, x, x0 } of dpmpp2m(clipX0(estimate), randn(size, seed), grid(steps))) {
    if (id !== current.get(name)) return;
    postMessage({ draw: id, t, x, x0 });
    await new Promise((resume) => setTimeout(resume)); // lets a newer wish in
  }
  postMessage({ draw: id, done: true, ms: performance.now() - start });
}

onmessage = async ({ data }) => {
  try {
    if (data.load) {
      const start = performance.now();
      await loaded(data.load);
      postMessage({ loaded: data.load, ms: performance.now() - start });
    } else {
      current.set(data.model, data.draw);
      await draw(data);
    }
  } catch (error) {
    postMessage({ error: String(error?.message ?? error) });
  }
};
