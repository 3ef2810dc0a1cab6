"""Chapter 03, Why can noise be undone at all?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers

# the score of a Gaussian


def _check_score(my_score):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for m, s, alpha, sigma in ((0.7, 0.5, 0.8, 0.6), (-0.3, 1.5, 0.4, 0.6), (0.2, 0.1, 1.0, 2.0)):
        got = numbers(call(my_score, x.clone(), m, s, alpha, sigma), x.shape, "the score")
        z = x.clone().requires_grad_()
        p = torch.distributions.Normal(alpha * m, (alpha**2 * s**2 + sigma**2) ** 0.5)
        (truth,) = torch.autograd.grad(p.log_prob(z).sum(), z)
        variance = alpha**2 * s**2 + sigma**2
        if agrees(got, truth):
            continue
        if agrees(got, -truth):
            raise IncorrectAnswer(
                "The sign is wrong: the score points towards the data, so it is negative where x is above the mean."
            )
        if agrees(got, -(x - m) / variance):
            raise IncorrectAnswer("The noised data has its mean at alpha m, not at m.")
        if agrees(got, -(x - alpha * m) / (s**2 + sigma**2)):
            raise IncorrectAnswer("The spread of the data shrinks, too: its variance becomes alpha^2 s^2, not s^2.")
        if agrees(got, -(x - alpha * m) / (alpha * s**2 + sigma**2)):
            raise IncorrectAnswer("alpha multiplies the data, so it multiplies the variance squared: alpha^2 s^2.")
        if agrees(got, -(x - alpha * m) / sigma**2):
            raise IncorrectAnswer("That is the score if the data were a single point. Its own spread s counts, too.")
        if agrees(got, -(x - alpha * m) / variance**0.5):
            raise IncorrectAnswer("Divide by the variance, not by the standard deviation.")
        if agrees(got, -(x - alpha * m) / (alpha * s + sigma) ** 2):
            raise IncorrectAnswer("Standard deviations do not add. Variances do.")
        if agrees(got, p.log_prob(x)) or agrees(got, p.log_prob(x).exp()):
            raise IncorrectAnswer(
                "This is the density (or its logarithm). The score is the derivative of the logarithm."
            )
        raise IncorrectAnswer(
            f"At x = {x[0]:.0f}, with m = {m}, s = {s}, alpha = {alpha}, sigma = {sigma}: {got[0]:.3f}, expected {truth[0]:.3f}."
        )
    return "It agrees with the derivative of the true density."


def my_score(x, m, s, alpha, sigma):
    return -(x - alpha * m) / (alpha**2 * s**2 + sigma**2)


def missing_minus(x, m, s, alpha, sigma):
    return (x - alpha * m) / (alpha**2 * s**2 + sigma**2)


def mean_not_shrunk(x, m, s, alpha, sigma):
    return -(x - m) / (alpha**2 * s**2 + sigma**2)


def spread_not_shrunk(x, m, s, alpha, sigma):
    return -(x - alpha * m) / (s**2 + sigma**2)


def alpha_not_squared(x, m, s, alpha, sigma):
    return -(x - alpha * m) / (alpha * s**2 + sigma**2)


def data_without_spread(x, m, s, alpha, sigma):
    return -(x - alpha * m) / sigma**2


def divided_by_std(x, m, s, alpha, sigma):
    return -(x - alpha * m) / (alpha**2 * s**2 + sigma**2) ** 0.5


def stds_added(x, m, s, alpha, sigma):
    return -(x - alpha * m) / (alpha * s + sigma) ** 2


def the_density(x, m, s, alpha, sigma):
    return torch.distributions.Normal(alpha * m, (alpha**2 * s**2 + sigma**2) ** 0.5).log_prob(x)


def half(x, m, s, alpha, sigma):
    return -(x - alpha * m) / (2 * (alpha**2 * s**2 + sigma**2))


def by_tweedie(x, m, s, alpha, sigma):
    x0 = m + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * m)
    return -((x - alpha * x0) / sigma) / sigma


def by_autograd(x, m, s, alpha, sigma):
    x = x.float().requires_grad_()
    log_p = -((x - alpha * m) ** 2) / (2 * (alpha**2 * s**2 + sigma**2))
    return torch.autograd.grad(log_p.sum(), x)[0].numpy()


score = Exercise(
    "03.score",
    r"""Data is Gaussian with mean `m` and standard deviation `s`. It is noised: $x_t = \alpha x_0 + \sigma\varepsilon$. Write `my_score(x, m, s, alpha, sigma)`,
    the derivative of $\log p_t$ at `x`. (All five are numbers or tensors of one shape. The check differentiates the true density.)""",
    hints=[
        "A Gaussian times alpha, plus an independent Gaussian times sigma, is a Gaussian. What are its mean and its variance?",
        "Mean alpha m; variance alpha^2 s^2 + sigma^2.",
        "log of a Gaussian density: -(x - mean)^2 / (2 variance) + constant. Differentiate.",
    ],
    solution=my_score,
    check=_check_score,
    mistakes={
        "The sign is wrong": missing_minus,
        "not at m": mean_not_shrunk,
        "not s^2": spread_not_shrunk,
        "squared: alpha^2 s^2": alpha_not_squared,
        "a single point": data_without_spread,
        "not by the standard deviation": divided_by_std,
        "Variances do": stds_added,
        "the derivative of the logarithm": the_density,
        "expected": half,
    },
    variants=[by_tweedie, by_autograd],
)


# the ideal denoiser


def _check_ideal(my_ideal):
    g = torch.Generator().manual_seed(1)
    alpha, sigma = 0.6, 0.8
    xt = torch.randn(5, 3, generator=g, dtype=torch.float64)
    d = torch.tensor([[0.9, -0.4, 0.2]], dtype=torch.float64)

    def at(data, alpha=alpha, sigma=sigma):
        return numbers(call(my_ideal, xt.clone(), data, alpha, sigma), xt.shape, "the guess")

    if not agrees(at(d), d.expand(5, 3)):
        raise IncorrectAnswer(
            "With a single point in the world, the answer is that point, whatever is seen. Do the weights add up to 1, along the data?"
        )
    dot = xt @ d[0]
    truth = (alpha * dot / sigma**2).tanh()[:, None] * d
    got = at(torch.cat([d, -d]))
    if agrees(got, -truth):
        raise IncorrectAnswer("The far points weigh more than the near ones: a sign is missing in the exponent.")
    if agrees(got, (dot / sigma**2).tanh()[:, None] * d):
        raise IncorrectAnswer("x_t is compared with the data itself. It lies around alpha times the data.")
    if agrees(got, (2 * alpha * dot / sigma**2).tanh()[:, None] * d):
        raise IncorrectAnswer(
            "The exponent lacks the factor 1/2: a Gaussian falls off with the squared distance over 2 sigma^2."
        )
    if agrees(got, (alpha * dot).tanh()[:, None] * d) or agrees(got, (2 * alpha * dot).tanh()[:, None] * d):
        raise IncorrectAnswer("The distances are not measured in units of sigma: divide by 2 sigma^2.")
    if agrees(got, (alpha * dot / sigma).tanh()[:, None] * d):
        raise IncorrectAnswer("The squared distance is divided by 2 sigma. sigma has to be squared as well.")
    if agrees(got, alpha * truth):
        raise IncorrectAnswer("This is alpha times the guess. Average the data itself, not the shrunken data.")
    if agrees(got, dot.sign()[:, None] * d):
        raise IncorrectAnswer("This is the likeliest point. The best guess in squared error is the average.")
    if agrees(got, torch.zeros_like(got)):
        raise IncorrectAnswer("All points weigh the same, whatever is seen.")
    if not agrees(got, truth):
        raise IncorrectAnswer(
            f"For two points +d and -d the answer is tanh(alpha x.d / sigma^2) d; the first of yours is {got[0, 0]:.3f}, expected {truth[0, 0]:.3f}."
        )
    zero_or_d = (alpha * (dot - alpha * (d @ d.T).squeeze() / 2) / sigma**2).sigmoid()[:, None] * d
    if not agrees(at(torch.cat([torch.zeros_like(d), d])), zero_or_d):
        raise IncorrectAnswer(
            "For two points of the same length it is right, but not for 0 and d. The squared distance has a term with the length of the data: a long vector is not near only because it points the right way."
        )
    far = 40.0 * torch.eye(3, dtype=torch.float64)
    if not agrees(at(far, 1.0, 0.1), far[xt.argmax(1)]):
        raise IncorrectAnswer(
            "With points far apart and little noise the nearest one should be the answer. Do your exponentials become 0? Softmax subtracts the largest first."
        )
    return "It agrees in four worlds whose answer is known."


def my_ideal(xt, data, alpha, sigma):
    distances = (xt[:, None] - alpha * data[None]).square().sum(dim=2)
    return (-distances / (2 * sigma**2)).softmax(dim=1) @ data


def far_weighs_more(xt, data, alpha, sigma):
    distances = (xt[:, None] - alpha * data[None]).square().sum(dim=2)
    return (distances / (2 * sigma**2)).softmax(dim=1) @ data


def without_alpha(xt, data, alpha, sigma):
    distances = (xt[:, None] - data[None]).square().sum(dim=2)
    return (-distances / (2 * sigma**2)).softmax(dim=1) @ data


def without_the_half(xt, data, alpha, sigma):
    distances = (xt[:, None] - alpha * data[None]).square().sum(dim=2)
    return (-distances / sigma**2).softmax(dim=1) @ data


def without_sigma(xt, data, alpha, sigma):
    distances = (xt[:, None] - alpha * data[None]).square().sum(dim=2)
    return (-distances / 2).softmax(dim=1) @ data


def sigma_not_squared(xt, data, alpha, sigma):
    distances = (xt[:, None] - alpha * data[None]).square().sum(dim=2)
    return (-distances / (2 * sigma)).softmax(dim=1) @ data


def softmax_over_the_batch(xt, data, alpha, sigma):
    distances = (xt[:, None] - alpha * data[None]).square().sum(dim=2)
    return (-distances / (2 * sigma**2)).softmax(dim=0) @ data


def the_nearest(xt, data, alpha, sigma):
    return data[(xt[:, None] - alpha * data[None]).square().sum(dim=2).argmin(dim=1)]


def only_the_direction(xt, data, alpha, sigma):
    return (alpha * xt @ data.T / sigma**2).softmax(dim=1) @ data


def underflows(xt, data, alpha, sigma):
    distances = (xt[:, None] - alpha * data[None]).square().sum(dim=2)
    weights = (-distances / (2 * sigma**2)).exp() + 1e-30
    return weights / weights.sum(dim=1, keepdim=True) @ data


def plain_average(xt, data, alpha, sigma):
    return data.mean(dim=0).expand(xt.shape)


def by_einsum_in_logs(xt, data, alpha, sigma):
    logits = (alpha * torch.einsum("bd,nd->bn", xt, data) - alpha**2 * data.square().sum(1) / 2) / sigma**2
    return torch.einsum("bn,nd->bd", (logits - logits.logsumexp(1, keepdim=True)).exp(), data)


def by_loops_in_numpy(xt, data, alpha, sigma):
    import numpy as np

    out = []
    for x in xt.numpy():
        logits = np.array([-((x - alpha * d) ** 2).sum() / (2 * sigma**2) for d in data.numpy()])
        weights = np.exp(logits - logits.max())
        out.append(sum(w * d for w, d in zip(weights, data.numpy(), strict=True)) / weights.sum())
    return np.array(out)


ideal = Exercise(
    "03.ideal_denoiser",
    r"""Write the ideal denoiser. `my_ideal(xt, data, alpha, sigma)` gets noised points `xt` of shape (B, D) and all the data there is, `data` of shape (N, D), and returns
    $\mathbb{E}[x_0\mid x_t]$ for each, of shape (B, D). (The check uses worlds whose answer is known: one point; two points $\pm d$, where the answer is a hyperbolic tangent; the
    points 0 and $d$; and points so far apart that only one can be meant.)""",
    hints=[
        "First the squared distances of every xt to every alpha times data: a table of shape (B, N).",
        "The odds are a softmax of minus the squared distances over 2 sigma^2, along the data.",
        "`xt[:, None] - alpha * data[None]` has the shape (B, N, D).",
    ],
    solution=my_ideal,
    check=_check_ideal,
    mistakes={
        "a sign is missing": far_weighs_more,
        "around alpha times the data": without_alpha,
        "the factor 1/2": without_the_half,
        "in units of sigma": without_sigma,
        "squared as well": sigma_not_squared,
        "With a single point": softmax_over_the_batch,
        "the likeliest point": the_nearest,
        "the length of the data": only_the_direction,
        "exponentials become 0": underflows,
        "whatever is seen.": plain_average,
    },
    variants=[by_einsum_in_logs, by_loops_in_numpy],
)
