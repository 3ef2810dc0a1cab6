// The sentence and its samplers, in the reader's browser: x_t = alpha(t) x0 + sigma(t) eps.
//
// The same few lines as learn_diffusion/samplers.py, guidance.py and editing.py; a test runs both on the same noise and
// weights and compares every step. Pictures are Float32Arrays. A denoise function reads (x, t) and promises {x0, eps}.

const LOGSNR = 20; // networks see log-SNR between -20 and 20: it is infinite at both ends of the path

export const alpha = (t) => Math.sin((Math.PI / 2) * (1 - t));
export const sigma = (t) => Math.sin((Math.PI / 2) * t);
export const lam = (t) => Math.log(alpha(t)) - Math.log(sigma(t)); // half the log-SNR
export const logsnr = (t) => Math.min(LOGSNR, Math.max(-LOGSNR, 2 * lam(t)));

// Noise levels from 1 (noise) to 0 (data): steps + 1 of them.
export const grid = (steps) => Array.from({ length: steps + 1 }, (_, i) => 1 - i / steps);

// One number for each pixel, from the same pixel of every array.
const each = (f, first, ...others) => first.map((value, i) => f(value, ...others.map((other) => other[i])));

export const addNoise = (x0, eps, t) => each((a, b) => alpha(t) * a + sigma(t) * b, x0, eps);

// The eps that explains x_t together with x0.
export const fromX0 = (x, x0, t) => ({ x0, eps: each((a, b) => (a - alpha(t) * b) / sigma(t), x, x0) });

// Guidance: from what the model says without the condition towards what it says with it, and past it.
export const guided = (free, given, scale) => {
  const mix = (a, b) => a + scale * (b - a);
  return { x0: each(mix, free.x0, given.x0), eps: each(mix, free.eps, given.eps) };
};

// Known pixels go into every estimate; mask is 1 where known is kept.
export const ddnm = (denoise, known, mask) => async (x, t) => {
  const { x0 } = await denoise(x, t);
  return fromX0(x, each((guess, k, m) => (m ? k : guess), x0, known, mask), t);
};

export const clipX0 = (denoise) => async (x, t) => {
  const { x0 } = await denoise(x, t);
  return fromX0(x, each((value) => Math.min(1, Math.max(-1, value)), x0), t);
};

// Keep the estimated noise, and write the sentence again at the lower level s. Yields {t, x, x0} after each step.
export async function* ddim(denoise, x, ts) {
  for (let i = 0; i + 1 < ts.length; i++) {
    const s = ts[i + 1];
    const { x0, eps } = await denoise(x, ts[i]);
    x = addNoise(x0, eps, s);
    yield { t: s, x, x0 };
  }
}

// DPM-Solver++(2M): DDIM with x0 extrapolated from the step before, linearly in lambda.
export async function* dpmpp2m(denoise, x, ts) {
  let before = null;
  for (let i = 0; i + 1 < ts.length; i++) {
    const [t, s] = [ts[i], ts[i + 1]];
    const { x0 } = await denoise(x, t);
    let aim = x0;
    if (before && sigma(s) > 0) {
      const ahead = (lam(s) - lam(t)) / (2 * (lam(t) - lam(before.t)));
      aim = each((now, old) => now + ahead * (now - old), x0, before.x0);
    }
    before = { t, x0 };
    x = addNoise(aim, fromX0(x, aim, t).eps, s);
    yield { t: s, x, x0 };
  }
}

// A function that gives numbers in [0, 1), the same for the same seed (mulberry32).
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

// n numbers from the normal distribution, the same for the same seed (Box and Muller).
export function randn(n, seed) {
  const random = uniform(seed);
  return Float32Array.from({ length: n }, () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));
}
