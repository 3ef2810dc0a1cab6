"""Chapter 03, Why can noise be undone at all?"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise

# the score of a Gaussian


def my_score(x, m, s, alpha, sigma):
    return -(x - alpha * m) / (alpha**2 * s**2 + sigma**2)


def _density(m, s, alpha, sigma):
    return torch.distributions.Normal(alpha * m, (alpha**2 * s**2 + sigma**2) ** 0.5)


def by_autograd(x, m, s, alpha, sigma):
    x = x.float().requires_grad_()
    return torch.autograd.grad(_density(m, s, alpha, sigma).log_prob(x).sum(), x)[0].numpy()


X = torch.linspace(-2, 2, 9, dtype=torch.float64)

Exercise(
    "03.score",
    r"""Data is Gaussian with mean `m` and standard deviation `s`. It is noised: $x_t = \alpha x_0 + \sigma\varepsilon$. Write `my_score(x, m, s, alpha, sigma)`,
    the derivative of $\log p_t$ at `x`. (All five are numbers or tensors of one shape. The check differentiates the true density.)""",
    hints=[
        "A Gaussian times alpha, plus an independent Gaussian times sigma, is a Gaussian. What are its mean and its variance?",
        "Mean alpha m; variance alpha^2 s^2 + sigma^2.",
        "log of a Gaussian density: -(x - mean)^2 / (2 variance) + constant. Differentiate.",
    ],
    solution=my_score,
    inputs=[(X, 0.7, 0.5, 0.8, 0.6), (X, -0.3, 1.5, 0.4, 0.6), (X, 0.2, 0.1, 1.0, 2.0)],
    result="the score",
    mistakes={
        "The sign is wrong: the score points towards the data, so it is negative where x is above the mean.": (
            lambda *args: -my_score(*args)
        ),
        "The noised data has its mean at alpha m, not at m.": lambda x, m, s, alpha, sigma: my_score(
            x, m / alpha, s, alpha, sigma
        ),
        "The spread of the data shrinks, too: its variance becomes alpha^2 s^2, not s^2.": (
            lambda x, m, s, alpha, sigma: -(x - alpha * m) / (s**2 + sigma**2)
        ),
        "alpha multiplies the data, so it multiplies the variance squared: alpha^2 s^2.": (
            lambda x, m, s, alpha, sigma: -(x - alpha * m) / (alpha * s**2 + sigma**2)
        ),
        "That is the score if the data were a single point. Its own spread s counts, too.": (
            lambda x, m, s, alpha, sigma: my_score(x, m, 0, alpha, sigma)
        ),
        "Divide by the variance, not by the standard deviation.": lambda x, m, s, alpha, sigma: (
            -(x - alpha * m) / (alpha**2 * s**2 + sigma**2) ** 0.5
        ),
        "Standard deviations do not add. Variances do.": lambda x, m, s, alpha, sigma: (
            -(x - alpha * m) / (alpha * s + sigma) ** 2
        ),
        "This is the density (or its logarithm). The score is the derivative of the logarithm.": [
            lambda x, *args: _density(*args).log_prob(x),
            lambda x, *args: _density(*args).log_prob(x).exp(),
        ],
        "This is half of what is expected: the 2 of the exponent cancels when the square is differentiated.": (
            lambda *args: my_score(*args) / 2
        ),
    },
    variants=[by_autograd],
    right="It agrees with the derivative of the true density.",
)

# the ideal denoiser of a box in which points lie several times


def my_ideal(xt, data, counts, alpha, sigma):
    distances = (xt[:, None] - alpha * data[None]).square().sum(dim=2)
    return (counts.log() - distances / (2 * sigma**2)).softmax(dim=1) @ data


def _distances(xt, data, alpha):
    return (xt[:, None] - alpha * data[None]).square().sum(dim=2)


def _guess(xt, data, counts, alpha, factor):
    return (counts.log() + factor * _distances(xt, data, alpha)).softmax(dim=1) @ data


def _exponents(xt, data, alpha, sigma):
    return -_distances(xt, data, alpha) / (2 * sigma**2)


def underflows(xt, data, counts, alpha, sigma, least=1e-30):
    weights = counts * _exponents(xt, data, alpha, sigma).exp() + least
    return weights / weights.sum(dim=1, keepdim=True) @ data


def known(xt, data, counts, alpha, sigma):
    """The answer in the worlds of WORLDS."""
    if len(data) == 1:
        return data.expand(xt.shape)
    if len(data) == 3:
        return data[xt.argmax(1)]
    d, before = data[1], (counts[1] / counts[0]).log()
    if data[0].any():
        return (alpha * xt @ d / sigma**2 + before / 2).tanh()[:, None] * d
    return (alpha * (xt @ d - alpha * d @ d / 2) / sigma**2 + before).sigmoid()[:, None] * d


def by_repeating(xt, data, counts, alpha, sigma):
    box = data.repeat_interleave(counts.long(), dim=0)
    return _exponents(xt, box, alpha, sigma).softmax(dim=1) @ box


def by_loops_in_numpy(xt, data, counts, alpha, sigma):
    out = []
    for x in xt.numpy():
        logits = np.array([-((x - alpha * d) ** 2).sum() / (2 * sigma**2) for d in data.numpy()])
        weights = counts.numpy() * np.exp(logits - logits.max())
        out.append(weights @ data.numpy() / weights.sum())
    return np.array(out)


def _counts(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


XT = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
D = torch.tensor([[0.9, -0.4, 0.2]], dtype=torch.float64)
WORLDS = [
    (XT, D, _counts(2), 0.6, 0.8),
    (XT, torch.cat([-D, D]), _counts(1, 4), 0.7, 0.4),
    (XT, torch.cat([0 * D, D]), _counts(3, 1), 0.6, 0.8),
    (XT, 40 * torch.eye(3, dtype=torch.float64), _counts(1, 2, 5), 1.0, 0.1),
]

Exercise(
    "03.ideal_denoiser",
    r"""Write the ideal denoiser of a box in which some points lie several times, as some pictures do in any large collection. `my_ideal(xt, data, counts, alpha, sigma)` gets
    noised points `xt` of shape (B, D), the different points of the box, `data` of shape (N, D), and how often each lies in it, `counts` of shape (N,). It returns
    $\mathbb{E}[x_0\mid x_t]$ for each noised point, of shape (B, D). (The check uses worlds whose answer is known: one point; two points $\pm d$, where the answer is a hyperbolic
    tangent; the points 0 and $d$; and points so far apart that only one can be meant.)""",
    hints=[
        "The chapter's box held every picture once. How likely is a point that lies in it three times, before you see anything?",
        "Three times as likely: its exponential is multiplied by its count, before all are divided by their sum.",
        "A softmax takes exponents, and n exp(a) = exp(a + log n): add the logarithms of the counts to the exponents. "
        "(The counts are floats; counts.long() makes whole numbers of them.)",
        "`xt[:, None] - alpha * data[None]` has the shape (B, N, D); the exponents have the shape (B, N).",
    ],
    solution=my_ideal,
    inputs=WORLDS,
    result="the guess",
    mistakes={
        "With a single point in the world, the answer is that point, whatever is seen. Do the weights add up to 1, along "
        "the data?": [
            lambda xt, data, counts, alpha, sigma: (
                (counts.log() + _exponents(xt, data, alpha, sigma)).softmax(dim=0) @ data
            ),
            lambda xt, data, counts, alpha, sigma: (counts * _exponents(xt, data, alpha, sigma).exp()) @ data,
            lambda xt, data, counts, alpha, sigma: (counts * _exponents(xt, data, alpha, sigma).softmax(dim=1)) @ data,
        ],
        "Each point weighs as if it lay in the box once: where are the counts?": lambda xt, data, counts, alpha, sigma: (
            _exponents(xt, data, alpha, sigma).softmax(dim=1) @ data
        ),
        "The counts multiply the exponents. They have to multiply the exponentials.": (
            lambda xt, data, counts, alpha, sigma: (counts * _exponents(xt, data, alpha, sigma)).softmax(dim=1) @ data
        ),
        "The counts are added to the exponents. Add their logarithms.": lambda xt, data, counts, alpha, sigma: (
            (counts + _exponents(xt, data, alpha, sigma)).softmax(dim=1) @ data
        ),
        "The far points weigh more than the near ones: a sign is missing in the exponent.": (
            lambda xt, data, counts, alpha, sigma: _guess(xt, data, counts, alpha, 1 / (2 * sigma**2))
        ),
        "x_t is compared with the data itself. It lies around alpha times the data.": (
            lambda xt, data, counts, alpha, sigma: my_ideal(xt, data, counts, 1, sigma)
        ),
        "The exponent lacks the factor 1/2: a Gaussian falls off with the squared distance over 2 sigma^2.": (
            lambda xt, data, counts, alpha, sigma: _guess(xt, data, counts, alpha, -1 / sigma**2)
        ),
        "The distances are not measured in units of sigma: divide by 2 sigma^2.": [
            lambda xt, data, counts, alpha, sigma: _guess(xt, data, counts, alpha, -0.5),
            lambda xt, data, counts, alpha, sigma: _guess(xt, data, counts, alpha, -1),
        ],
        "The squared distance is divided by 2 sigma. sigma has to be squared as well.": (
            lambda xt, data, counts, alpha, sigma: _guess(xt, data, counts, alpha, -1 / (2 * sigma))
        ),
        "This is alpha times the guess. Average the data itself, not the shrunken data.": (
            lambda xt, data, counts, alpha, sigma: alpha * my_ideal(xt, data, counts, alpha, sigma)
        ),
        "This is the likeliest point. The best guess in squared error is the average.": (
            lambda xt, data, counts, alpha, sigma: data[
                (counts.log() + _exponents(xt, data, alpha, sigma)).argmax(dim=1)
            ]
        ),
        "The weights are the same, whatever is seen.": [
            lambda xt, data, counts, alpha, sigma: data.mean(dim=0).expand(xt.shape),
            lambda xt, data, counts, alpha, sigma: (counts @ data / counts.sum()).expand(xt.shape),
        ],
        "For two points of the same length it is right, but not for 0 and d. The squared distance has a term with the "
        "length of the data: a long vector is not near only because it points the right way.": (
            lambda xt, data, counts, alpha, sigma: (counts.log() + alpha * xt @ data.T / sigma**2).softmax(dim=1) @ data
        ),
        "With points far apart and little noise the nearest one should be the answer. Do your exponentials become 0? "
        "Softmax subtracts the largest first.": [underflows, partial(underflows, least=0.0)],
    },
    variants=[known, by_repeating, by_loops_in_numpy],
    right="It agrees in four worlds whose answer is known.",
)
