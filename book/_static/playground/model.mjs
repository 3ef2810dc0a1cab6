// A trained network, run by onnxruntime-web, as a denoise function for diffusion.mjs.

import { clipX0, fromX0, guided, ddnm, logsnr } from './diffusion.mjs';

const here = new URL('.', import.meta.url);
const NULL_TOKEN = -1n; // a condition that was taken away

// A file did not come: the only failure after which the runtime is as good as before.
export class FetchError extends Error {}

// The runtime, once. One thread: more need headers that plain web servers do not send.
let runtime;
const ort = (came) =>
  (runtime ??= Promise.all([
    import(new URL('ort/ort.wasm.bundle.min.mjs', here)), bytes('ort/ort-wasm-simd-threaded.wasm', came),
  ]).then(([module, wasmBinary]) => {
    Object.assign(module.env.wasm, { numThreads: 1, wasmBinary });
    return module;
  }).catch((error) => {
    runtime = undefined; // to be asked for again
    throw error;
  }));

// A file beside this one; `came` is told of every piece, in bytes.
async function bytes(name, came = () => {}) {
  const failed = (why) => new FetchError(`${name} could not be fetched (${why})`);
  const pieces = [];
  try {
    const response = await fetch(new URL(name, here));
    if (!response.ok) throw failed(`${response.status} ${response.statusText}`);
    const reader = response.body.getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      pieces.push(piece.value);
      came(piece.value.length);
    }
  } catch (error) {
    throw error instanceof FetchError ? error : failed(error.message); // the connection was lost
  }
  return new Blob(pieces).arrayBuffer();
}

export const manifest = async () => JSON.parse(new TextDecoder().decode(await bytes('models/manifest.json')));

// The model called `name` in the manifest, ready to run: its shape (C, H, W); ask(x, t, conditions, imageCond), the
// Estimate for each condition (a list of bigints), of the same x_t and the same imageCond, and where it reads words its
// attention: for each token, what each pixel gave it, (L * pixels); and, where it draws codes, decode(z), the picture of
// a code. `came` as above.
export async function load(name, came) {
  const { file, shape, decoder } = (await manifest())[name];
  const files = [file, decoder].filter(Boolean).map((each) => bytes(`models/${each}`, came));
  const [{ InferenceSession, Tensor }, ...networks] = await Promise.all([ort(came), ...files]);
  const [session, second] = await Promise.all(
    networks.map((network) => InferenceSession.create(network, { executionProviders: ['wasm'] })),
  );

  async function ask(x, t, conditions, imageCond = new Float32Array(0)) {
    const n = conditions.length;
    const row = x.length + imageCond.length;
    const seen = new Float32Array(n * row);
    for (let i = 0; i < n; i++) {
      seen.set(x, i * row);
      seen.set(imageCond, i * row + x.length);
    }
    const cond = conditions[0].length > 1 ? [n, conditions[0].length] : [n]; // a caption each, or a label each
    const { x0, attention } = await session.run({
      x: new Tensor('float32', seen, [n, row / (shape[1] * shape[2]), shape[1], shape[2]]),
      logsnr: new Tensor('float32', new Float32Array(n).fill(logsnr(t)), [n]),
      cond: new Tensor('int64', BigInt64Array.from(conditions.flat()), cond),
    });
    const rowOf = ({ data }, i) => data.slice((i * data.length) / n, ((i + 1) * data.length) / n);
    return conditions.map((_, i) => ({ ...fromX0(x, rowOf(x0, i), t), attention: attention && rowOf(attention, i) }));
  }
  const decode = async (z) => (await second.run({ z: new Tensor('float32', z.slice(), [1, ...shape]) })).x.data;
  return decoder ? { shape, ask, decode } : { shape, ask };
}

// Classifier-free guidance towards y, a list of whole numbers: scale 1 is the model's own answer, 0 the one without y.
// `saw` is told of the attention to y in each call.
function cfg({ ask }, y, scale, saw, imageCond) {
  const given = y.map(BigInt);
  const free = given.map(() => NULL_TOKEN);
  return async (x, t) => {
    const [withY, without] = await ask(x, t, scale === 1 ? [given] : [given, free], imageCond);
    saw(withY.attention);
    return without ? guided(without, withY, scale) : withY;
  };
}

// What a repairer sees beside x_t: the known pixels, 0 where nothing is known, and the mask itself.
function maskCond(known, mask, pixels) {
  const imageCond = new Float32Array(known.length + pixels);
  imageCond.set(known.map((value, i) => value * mask[i]));
  imageCond.set(mask.subarray(0, pixels), known.length);
  return imageCond;
}

// All that a request asks for, as one denoise function: guidance, the known pixels where there are some, x0 kept in range
// where it is a picture (codes may lie anywhere). `saw` as above.
export function denoiserFor(model, { y, scale, known, mask }, saw = () => {}) {
  if (model.decode) return cfg(model, y, scale, saw);
  if (!known) return clipX0(cfg(model, y, scale, saw));
  const imageCond = maskCond(known, mask, model.shape[1] * model.shape[2]);
  return clipX0(ddnm(cfg(model, y, scale, saw, imageCond), known, mask));
}
