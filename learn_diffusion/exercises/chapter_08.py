"""Chapter 08, How does noise become a picture?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, several
from learn_diffusion.schedules import Cosine, Flow


def _check_posterior(my_posterior):
    grid = ((Cosine(), 0.9, 0.8), (Cosine(), 0.5, 0.3), (Flow(), 0.9, 0.8), (Flow(), 0.5, 0.3), (Flow(), 0.2, 0.1))
    for schedule, t, s in grid:
        alpha_t, alpha_s = schedule.alpha(torch.tensor([t, s], dtype=torch.float64)).tolist()
        sigma_t, sigma_s = schedule.sigma(torch.tensor([t, s], dtype=torch.float64)).tolist()
        a, x, x0 = alpha_t / alpha_s, torch.tensor([0.7, -1.2]), torch.tensor([-0.4, 0.3])
        cov_ss, cov_st, cov_tt = sigma_s**2, a * sigma_s**2, sigma_t**2  # of (x_s, x_t), given x0
        mean = alpha_s * x0 + cov_st / cov_tt * (x - alpha_t * x0)
        variance = cov_ss - cov_st**2 / cov_tt
        at = f"On the path {schedule}, from t = {t} to s = {s}"
        special = (
            f"{at}: this holds only where alpha^2 + sigma^2 = 1, and here it is {alpha_t**2 + sigma_t**2:.2f} at t."
        )
        out = call(my_posterior, x, x0, alpha_t, sigma_t, alpha_s, sigma_s)
        my_mean, my_std = several(out, ("the mean", "the standard deviation"))
        my_mean = numbers(my_mean, (2,), "the mean")
        my_std = numbers(my_std, None, "the standard deviation")
        if my_std.ndim and not agrees(my_std, my_std.flatten()[0]):
            raise IncorrectAnswer(
                "The standard deviation differs from pixel to pixel; it depends on the two levels only."
            )
        my_std = my_std.flatten()[0].item()
        if agrees(my_mean, a * x):
            raise IncorrectAnswer(f"{at}: the mean takes too much of x and too little of x0_hat.")
        if agrees(my_mean, alpha_s * x0):
            raise IncorrectAnswer("The mean is alpha_s x0_hat: that forgets what x_t tells about x_s.")
        if not agrees(my_mean, mean) and agrees(my_mean, _mean(x, x0, alpha_t, sigma_t, alpha_s, sigma_s)):
            raise IncorrectAnswer(special)
        if not agrees(my_mean, mean):
            raise IncorrectAnswer(
                f"{at}: the mean is {mean[0]:.4f} for x = 0.7 and x0_hat = -0.4, not {my_mean[0]:.4f}."
            )
        if agrees(my_std, variance):
            raise IncorrectAnswer(f"The mean is right. {my_std:.4f} is the variance, and noise is scaled by its root.")
        if agrees(my_std, sigma_s):
            raise IncorrectAnswer(
                "The mean is right. sigma_s would be all the noise of level s, but x_t already tells some of it."
            )
        if agrees(my_std, (sigma_t**2 - a**2 * sigma_s**2) ** 0.5):
            raise IncorrectAnswer(
                "The mean is right. This is the noise of the step forward, the root of beta; the step back knows more."
            )
        if agrees(my_std, 0.0):
            raise IncorrectAnswer(
                "The mean is right. But chance has a share in this step: the standard deviation is not 0."
            )
        if not agrees(my_std, variance**0.5) and agrees(my_std, sigma_s / sigma_t * (1 - a**2) ** 0.5):
            raise IncorrectAnswer(f"The mean is right. The standard deviation is not. {special}")
        if not agrees(my_std, variance**0.5):
            raise IncorrectAnswer(
                f"{at}: the mean is right; the standard deviation is {variance**0.5:.4f}, not {my_std:.4f}."
            )
    return "This is what Bayes' rule says."


def my_posterior(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    a = alpha_t / alpha_s
    added = sigma_t**2 - a**2 * sigma_s**2
    mean = alpha_s * added / sigma_t**2 * x0_hat + a * sigma_s**2 / sigma_t**2 * x
    std = sigma_s / sigma_t * added**0.5
    return mean, std


def _mean(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    """Where alpha^2 + sigma^2 = 1, and only there."""
    a = alpha_t / alpha_s
    return alpha_s * (1 - a**2) / sigma_t**2 * x0_hat + a * sigma_s**2 / sigma_t**2 * x


def as_in_the_chapter(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    std = sigma_s / sigma_t * (1 - (alpha_t / alpha_s) ** 2) ** 0.5
    return _mean(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s), std


def std_as_in_the_chapter(*args):
    return my_posterior(*args)[0], as_in_the_chapter(*args)[1]


def variance_for_std(*args):
    mean, std = my_posterior(*args)
    return mean, std**2


def all_noise_fresh(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    return my_posterior(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s)[0], sigma_s


def forward_variance(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    std = (sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2) ** 0.5
    return my_posterior(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s)[0], std


def no_chance(*args):
    return my_posterior(*args)[0], 0.0


def mean_from_x0_alone(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    return alpha_s * x0_hat, sigma_s


def levels_exchanged(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    return my_posterior(x, x0_hat, alpha_s, sigma_s, alpha_t, sigma_t)[0], 0.1


def only_shrinks(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    return alpha_t / alpha_s * x, sigma_s


def as_ddim_with_eta_1(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    r = (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2
    eps = (x - alpha_t * x0_hat) / sigma_t
    return (alpha_s * x0_hat + sigma_s * r**0.5 * eps).numpy(), sigma_s * (1 - r) ** 0.5


def in_float64_tensors(x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s):
    numbers = (torch.as_tensor(v, dtype=torch.float64) for v in (x, x0_hat, alpha_t, sigma_t, alpha_s, sigma_s))
    mean, std = my_posterior(*numbers)
    return [mean, std.expand(2)]


posterior = Exercise(
    "08.posterior",
    r"""Write one DDPM step that holds on any schedule, also where $\alpha^2+\sigma^2$ is not 1. `my_posterior(x, x0_hat, alpha_t, sigma_t, alpha_s,
    sigma_s)` returns the mean and the standard deviation of $x_s$, given $x_t$ = `x` and $x_0$ = `x0_hat`. (The four coefficients are plain
    numbers.) The box says what
    becomes of $1-a^2$; the code of this chapter holds on our schedule only. (The check knows the answer from another side. It takes two Gaussian variables, $x_s = \alpha_s x_0 + \sigma_s z$ and
    $x_t = a\,x_s + \sqrt{\sigma_t^2 - a^2\sigma_s^2}\,z'$, builds their joint covariance, and conditions $x_s$ on $x_t$, as
    in any statistics course.)""",
    hints=[
        "Start with a = alpha_t / alpha_s.",
        "The mean has two terms: one with x0_hat, one with x. Both are divided by sigma_t squared.",
        "sigma_t**2 - a**2 * sigma_s**2 stands in the place of 1 - a**2, in the mean and in the variance.",
        "The box gives the variance. You are asked for the standard deviation.",
    ],
    solution=my_posterior,
    check=_check_posterior,
    mistakes={
        "is the variance": variance_for_std,
        "all the noise of level s": all_noise_fresh,
        "the step forward": forward_variance,
        "is not 0": no_chance,
        "forgets what x_t tells": mean_from_x0_alone,
        "The standard deviation is not. On the path Flow": std_as_in_the_chapter,
        "this holds only where alpha^2 + sigma^2 = 1": as_in_the_chapter,
        "the mean is": levels_exchanged,
        "too much of x": only_shrinks,
    },
    variants=[as_ddim_with_eta_1, in_float64_tensors],
)
