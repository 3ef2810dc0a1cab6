// The model's own thread, so that the page stays alive while it thinks.
//
// {load: name} is answered by {key: name, received: bytes} as they come, and {key: name, ms} at the end;
// {draw: id, model, ys, scale, steps, seed, known, mask} by {key: id, lane, noise}, {key: id, lane, t, x, x0, attention}
// after every step, lane 0 of the first of ys, then 1, from the same noise, and {key: id, done, ms} at the end, all as pictures: where
// a model draws codes, they are decoded. A newer request to the same model ends the older one. {key, error} says what
// failed; where it is fatal, this thread is not used again.

import { dpmpp2m, grid, randn } from './diffusion.mjs';
import { FetchError, load, denoiserFor } from './model.mjs';
import { pause } from './pause.mjs';

const models = new Map();
const current = new Map(); // the newest request to each model

function loaded(name) {
  let received = 0;
  const came = (n) => postMessage({ key: name, received: (received += n) });
  if (!models.has(name)) models.set(name, load(name, came));
  return models.get(name);
}

async function draw(id, request) {
  const model = await loaded(request.model);
  const start = performance.now();
  const noise = randn(model.shape.reduce((a, b) => a * b), request.seed);
  const picture = model.decode ?? ((x) => x);
  for (const [lane, y] of request.ys.entries()) {
    postMessage({ key: id, lane, noise: await picture(noise) });
    let attention;
    const denoise = denoiserFor(model, { ...request, y }, (weights) => { attention = weights; });
    for await (const { t, x, x0 } of dpmpp2m(denoise, noise, grid(request.steps))) {
      if (id !== current.get(request.model)) return;
      postMessage({ key: id, lane, t, x: await picture(x), x0: await picture(x0), attention });
      await pause();
    }
  }
  postMessage({ key: id, done: true, ms: performance.now() - start });
}

onmessage = async ({ data }) => {
  const start = performance.now();
  try {
    if (data.load) {
      await loaded(data.load);
      postMessage({ key: data.load, ms: performance.now() - start });
    } else {
      current.set(data.model, data.draw);
      await draw(data.draw, data);
    }
  } catch (error) {
    models.delete(data.load ?? data.model);
    const fatal = !(error instanceof FetchError);
    postMessage({ key: data.load ?? data.draw, error: String(error?.message ?? error), fatal });
  }
};
