// A perceptron that reads a point of the plane and its noise level, and answers v = alpha eps - sigma x0: no library, only
// loops. A test holds its gradient against finite differences.

import { alpha, randn, sigma } from './diffusion.mjs';

const SIZES = [8, 64, 64, 2];
const GAIN = [5, 2, 0.1]; // of each layer's first weights: bends all over the plane, and an answer near 0
export const ROWS = 4; // that go through the network at a time

export const parameters = SIZES.slice(1).reduce((sum, m, k) => sum + m * (SIZES[k] + 1), 0);

export function weights(seed, Floats = Float32Array) {
  const theta = Floats.from(randn(parameters, seed));
  let end = 0;
  for (let k = 0; k + 1 < SIZES.length; k++) {
    const [from, n, m] = [end, SIZES[k], SIZES[k + 1]];
    end += (n + 1) * m;
    for (let i = from; i < end; i++) theta[i] *= i < from + n * m ? GAIN[k] / Math.sqrt(n) : k === 0;
  }
  return theta;
}

// The weights theta (parameters,) as a network for ROWS inputs at a time, number i of row r at ROWS i + r: that way each
// weight is read once for all of them. ask() reads `input` and gives the output; back(d) adds the gradient, for d = d loss /
// d output, to grad.
export function perceptron(theta, grad = theta) {
  const floats = (n) => new theta.constructor(n * ROWS);
  const input = floats(SIZES[0]);
  const layers = [];
  let end = 0;
  let x = input;
  for (let k = 0; k + 1 < SIZES.length; k++) {
    const [n, m] = [SIZES[k], SIZES[k + 1]];
    const [w, gw] = [theta, grad].map((all) => all.subarray(end, end + n * m));
    const [b, gb] = [theta, grad].map((all) => all.subarray(end + n * m, end + n * m + m));
    layers.push({ n, m, x, w, b, gw, gb, z: floats(m), y: floats(m), dx: floats(n) });
    end += (n + 1) * m;
    x = layers[k].y;
  }
  const ask = () => {
    layers.forEach(forward);
    return layers.at(-1).z;
  };
  const back = (d) => {
    for (let k = layers.length - 1; k >= 0; k--) {
      if (k + 2 < SIZES.length) silu(layers[k].z, d);
      backward(layers[k], d);
      d = layers[k].dx;
    }
  };
  return { input, ask, back };
}

// Two units at a time, so that the numbers of x are read half as often.
function forward({ n, m, x, w, b, z, y }) {
  for (let j = 0; j < m; j += 2) {
    let s0 = b[j], s1 = s0, s2 = s0, s3 = s0;
    let u0 = b[j + 1], u1 = u0, u2 = u0, u3 = u0;
    for (let i = 0, at = j * n; i < ROWS * n; i += ROWS, at++) {
      const one = w[at], two = w[at + n], x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
      s0 += one * x0;
      s1 += one * x1;
      s2 += one * x2;
      s3 += one * x3;
      u0 += two * x0;
      u1 += two * x1;
      u2 += two * x2;
      u3 += two * x3;
    }
    const to = ROWS * j;
    z[to] = s0;
    z[to + 1] = s1;
    z[to + 2] = s2;
    z[to + 3] = s3;
    z[to + 4] = u0;
    z[to + 5] = u1;
    z[to + 6] = u2;
    z[to + 7] = u3;
  }
  for (let i = 0; i < z.length; i++) y[i] = z[i] / (1 + Math.exp(-z[i])); // SiLU
}

function silu(z, d) {
  for (let i = 0; i < z.length; i++) {
    const gate = 1 / (1 + Math.exp(-z[i]));
    d[i] *= gate * (1 + z[i] * (1 - gate));
  }
}

function backward({ n, m, x, w, gw, gb, dx }, d) {
  dx.fill(0);
  for (let j = 0; j < m; j += 2) {
    const to = ROWS * j;
    const d0 = d[to], d1 = d[to + 1], d2 = d[to + 2], d3 = d[to + 3];
    const e0 = d[to + 4], e1 = d[to + 5], e2 = d[to + 6], e3 = d[to + 7];
    gb[j] += d0 + d1 + d2 + d3;
    gb[j + 1] += e0 + e1 + e2 + e3;
    for (let i = 0, at = j * n; i < ROWS * n; i += ROWS, at++) {
      const one = w[at], two = w[at + n], x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
      gw[at] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3;
      gw[at + n] += e0 * x0 + e1 * x1 + e2 * x2 + e3 * x3;
      dx[i] += d0 * one + e0 * two;
      dx[i + 1] += d1 * one + e1 * two;
      dx[i + 2] += d2 * one + e2 * two;
      dx[i + 3] += d3 * one + e3 * two;
    }
  }
}

// Row r of the input: x, and its noise level as numbers between -1 and 1.
export function features(input, r, x, y, t) {
  input[r] = x;
  input[ROWS + r] = y;
  for (let k = 0; k < 3; k++) {
    input[ROWS * (2 + 2 * k) + r] = Math.cos(Math.PI / 2 * t * 2 ** k);
    input[ROWS * (3 + 2 * k) + r] = Math.sin(Math.PI / 2 * t * 2 ** k);
  }
}

// The mean of (v_hat - v)^2 over rows (x0, eps, t), a multiple of ROWS; its gradient is added to the network's.
export function loss({ input, ask, back }, x0, eps, ts) {
  const d = new input.constructor(2 * ROWS);
  let sum = 0;
  for (let first = 0; first < ts.length; first += ROWS) {
    const noisy = (i, t) => alpha(t) * x0[i] + sigma(t) * eps[i];
    for (let r = 0; r < ROWS; r++) {
      const [t, i] = [ts[first + r], 2 * (first + r)];
      features(input, r, noisy(i, t), noisy(i + 1, t), t);
    }
    const out = ask();
    for (let i = 0; i < 2 * ROWS; i++) {
      const [row, c] = [first + i % ROWS, Math.floor(i / ROWS)];
      const error = out[i] - (alpha(ts[row]) * eps[2 * row + c] - sigma(ts[row]) * x0[2 * row + c]);
      sum += error * error / (2 * ts.length);
      d[i] = error / ts.length;
    }
    back(d);
  }
  return sum;
}
