// A trained network, run by onnxruntime-web: model.denoise(y, scale, hint) is a denoise function for diffusion.mjs.

import { fromV, guided, logsnr } from './diffusion.mjs';

const here = new URL('.', import.meta.url);
const DROPPED = -1n; // a condition that was taken away

// The runtime's script, once. One thread: more need headers that plain web servers do not send.
let runtime;
const ort = () =>
  (runtime ??= import(new URL('ort/ort.wasm.bundle.min.mjs', here)).then((module) => {
    module.env.wasm.numThreads = 1;
    module.env.wasm.wasmPaths = { wasm: new URL('ort/ort-wasm-simd-threaded.wasm', here).href };
    return module;
  }));

async function bytes(name) {
  const response = await fetch(new URL(`models/${name}`, here));
  if (!response.ok) throw new Error(`${name} could not be fetched (${response.status} ${response.statusText})`);
  return response.arrayBuffer();
}

export const manifest = async () => JSON.parse(new TextDecoder().decode(await bytes('manifest.json')));

// The model called `name` in the manifest, ready to run.
export async function load(name) {
  const { file, shape } = (await manifest())[name];
  const [{ InferenceSession, Tensor }, network] = await Promise.all([ort(), bytes(file)]);
  const session = await InferenceSession.create(network, { executionProviders: ['wasm'] });

  // The network's answer v for each condition in conditions (bigints, one list each), on the same x.
  async function ask(x, t, conditions, hint) {
    const n = conditions.length;
    const seen = new Float32Array(n * (x.length + hint.length));
    for (let i = 0; i < n; i++) {
      seen.set(x, i * (x.length + hint.length));
      seen.set(hint, i * (x.length + hint.length) + x.length);
    }
    const channels = shape[0] + hint.length / (shape[1] * shape[2]);
    const { v } = await session.run({
      x: new Tensor('float32', seen, [n, channels, shape[1], shape[2]]),
      logsnr: new Tensor('float32', new Float32Array(n).fill(logsnr(t)), [n]),
      cond: new Tensor('int64', BigInt64Array.from(conditions.flat()), conditions[0].length > 1 ? [n, conditions[0].length] : [n]),
    });
    return conditions.map((_, i) => fromV(x, v.data.slice(i * x.length, (i + 1) * x.length), t));
  }

  // y: the condition, a list of whole numbers; scale 1 is the model's own answer, 0 the one without the condition.
  const denoise = (y, scale, hint = new Float32Array(0)) => {
    const given = y.map(BigInt);
    const free = given.map(() => DROPPED);
    if (scale === 1) return async (x, t) => (await ask(x, t, [given], hint))[0];
    return async (x, t) => {
      const [with_y, without] = await ask(x, t, [given, free], hint);
      return guided(without, with_y, scale);
    };
  };
  return { shape, denoise };
}

// What a repairer sees beside x_t: the known pixels, 0 where nothing is known, and the mask itself.
export function knownHint(known, mask, pixels) {
  const hint = new Float32Array(known.length + pixels);
  hint.set(known.map((value, i) => value * mask[i]));
  hint.set(mask.subarray(0, pixels), known.length);
  return hint;
}
