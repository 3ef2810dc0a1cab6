"""Appendix A, What does it look like when it is broken?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, call, numbers

# name the fault

FAULTS = {
    "leak": "the schedule does not end in noise",
    "range": "pictures in the wrong range",
    "beta": "beta for sqrt(beta)",
    "twice": "noise drawn twice",
    "level": "the noise level does not reach the network",
    "average": "no moving average of the weights",
}
RIGHT = {"a": "twice", "b": "leak", "c": "level", "d": "beta"}
HOW_TO_TELL = {
    "a": "With one picture and an oracle the right loss is exactly 0. What makes a loss that even an oracle cannot lower?",
    "b": "Training is fine and one-step guesses are fine; only samples from pure noise are off in brightness. What do they start from?",
    "c": "An answer that does not change with t, though x_t needs different answers at different t. What did not arrive?",
    "d": "A chain whose noise is far too small at every step. What was used in place of its root?",
}


def _check_name_the_fault(diagnosis):
    if not isinstance(diagnosis, dict):
        raise IncorrectAnswer(
            f"A dict was expected, with the letters a to d as keys; this is a {type(diagnosis).__name__}."
        )
    diagnosis = {str(letter).lower(): fault for letter, fault in diagnosis.items()}
    missing = [letter for letter in RIGHT if diagnosis.get(letter) in (None, ...)]
    if missing:
        raise IncorrectAnswer(f"No answer yet for {', '.join(missing)}.")
    for letter, fault in diagnosis.items():
        if letter in RIGHT and fault not in list(FAULTS):
            raise IncorrectAnswer(f"{fault!r} is none of the words; they are {', '.join(FAULTS)}.")
    wrong = [letter for letter in RIGHT if diagnosis[letter] != RIGHT[letter]]
    if wrong:
        raise IncorrectAnswer(
            f"{len(RIGHT) - len(wrong)} of {len(RIGHT)} are right. Look again at {wrong[0]}. {HOW_TO_TELL[wrong[0]]}"
        )
    return "All four. " + "; ".join(f"{letter}: {FAULTS[fault]}" for letter, fault in RIGHT.items()) + "."


def my_diagnosis():
    return {"a": "twice", "b": "leak", "c": "level", "d": "beta"}


def with_a_remark():
    return {"d": "beta", "c": "level", "b": "leak", "a": "twice", "e": "I enjoyed this"}


def in_capitals():
    return {"A": "twice", "B": "leak", "C": "level", "D": "beta"}


def average_for_twice():
    return my_diagnosis() | {"a": "average"}


def range_for_leak():
    return my_diagnosis() | {"b": "range"}


def leak_for_beta():
    return my_diagnosis() | {"d": "leak"}


def half():
    return {"a": "twice", "b": "leak"}


def another_word():
    return my_diagnosis() | {"c": "time"}


def a_list():
    return ["twice", "leak", "level", "beta"]


name_the_fault = Exercise(
    "A.name_the_fault",
    r"""Four letters arrive from students. Name each fault by one of the words `"leak"`, `"range"`, `"beta"`, `"twice"`, `"level"`, `"average"`, in a dict such as `{"a": "leak", ...}`.

    - **a.** "My loss starts at 1.5 and falls to 1.0. Then it stays there, even with a single training picture and a huge network."
    - **b.** "My guesses of the clean picture are very good at every level. But whatever I sample has the wrong overall brightness, always the same."
    - **c.** "I call my network with t = 0.1 and with t = 0.9 on the same input, and get the same numbers."
    - **d.** "After all 1000 steps forward my digits have no noise to speak of, and are only dark grey."
    """,
    hints=[
        "Each of the four stands in the museum as an exhibit: 4, 1, 6 and 3, in some order.",
        "A loss of 1.0 that nobody can lower: the noise has variance 1.",
    ],
    solution=my_diagnosis,
    check=_check_name_the_fault,
    mistakes={
        "Look again at a": average_for_twice,
        "Look again at b": range_for_leak,
        "Look again at d": leak_for_beta,
        "No answer yet for c, d": half,
        "is none of the words": another_word,
        "A dict was expected": a_list,
    },
    variants=[with_a_remark, in_capitals],
    builds=True,
)


# mend the step


def _check_mend(step):
    g = torch.Generator().manual_seed(0)
    eps, z = torch.randn(2, 1_000_000, generator=g, dtype=torch.float64)
    x0 = torch.full_like(eps, 0.7)
    for alpha, sigma, added in ((0.8, 0.6, 0.3), (0.5, 0.9, 0.9), (0.9, 0.4, 0.0)):
        x = 0.5 * x0 + 0.8 * eps  # where the step comes from does not matter
        out = numbers(call(step, x, x0, eps, alpha, sigma, added, z), x.shape, "x_s")
        mean, std = out.mean().item(), out.std().item()
        kept, fresh = (out @ eps / (eps @ eps)).item(), (out @ z / (z @ z)).item()
        rest = max(sigma**2 - added**2, 0.0) ** 0.5
        what = f"With alpha_s = {alpha}, sigma_s = {sigma} and added = {added}"
        if abs(mean - alpha * 0.7) > 0.01:
            raise IncorrectAnswer(f"{what} the mean is {mean:.2f}, and should be alpha_s x0_hat = {alpha * 0.7:.2f}.")
        if abs(fresh) < 0.01 < added:
            raise IncorrectAnswer("The fresh noise z has no part in it.")
        if abs(fresh - added**2) < 0.005 < abs(added - added**2):
            raise IncorrectAnswer("z is scaled by added squared. added is a standard deviation already.")
        if abs(fresh - added) > 0.01:
            raise IncorrectAnswer(f"{what} z is scaled by {fresh:.2f}, and should be by added.")
        if abs(kept - sigma) < 0.005 < abs(sigma - rest):
            raise IncorrectAnswer(
                f"{what} the noise has standard deviation {std:.2f}: all of the old noise is kept, and z comes on top."
            )
        if abs(kept - (sigma - added)) < 0.005 < abs(rest - (sigma - added)):
            raise IncorrectAnswer("Standard deviations do not add: take the root of the difference of the squares.")
        if abs(kept - (sigma**2 - added**2)) < 0.005 < abs(rest - rest**2):
            raise IncorrectAnswer("The root is missing: sigma_s^2 - added^2 is a variance.")
        if (
            abs(kept - max(1 - alpha**2 - added**2, 0) ** 0.5)
            < 0.005
            < abs(rest - max(1 - alpha**2 - added**2, 0) ** 0.5)
        ):
            raise IncorrectAnswer("1 - alpha_s^2 is sigma_s^2 on some paths only. Use sigma_s.")
        if abs(kept) < 0.005 < rest:
            raise IncorrectAnswer("Nothing is left of the old noise: that is right only where added is sigma_s.")
        if abs(kept + rest) < 0.005 < rest:
            raise IncorrectAnswer("The old noise is subtracted. Its size is right, but it has to keep its sign.")
        if abs(std - sigma) > 0.01 or abs(kept - rest) > 0.01:
            raise IncorrectAnswer(f"{what} the noise has standard deviation {std:.2f}.")
    return "The two noises share the variance of the level."


def mended_step(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    kept = (sigma_s**2 - added**2) ** 0.5
    return alpha_s * x0_hat + kept * eps_hat + added * z


def as_given(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return alpha_s * x0_hat + sigma_s * eps_hat + added * z


def deviations_subtracted(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return alpha_s * x0_hat + (sigma_s - added) * eps_hat + added * z


def without_root(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return alpha_s * x0_hat + (sigma_s**2 - added**2) * eps_hat + added * z


def no_fresh_noise(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return alpha_s * x0_hat + sigma_s * eps_hat


def variance_preserving_only(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return alpha_s * x0_hat + max(1 - alpha_s**2 - added**2, 0) ** 0.5 * eps_hat + added * z


def added_squared(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return alpha_s * x0_hat + (sigma_s**2 - added**2) ** 0.5 * eps_hat + added**2 * z


def picture_without_alpha(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return x0_hat + (sigma_s**2 - added**2) ** 0.5 * eps_hat + added * z


def old_noise_subtracted(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return alpha_s * x0_hat - (sigma_s**2 - added**2) ** 0.5 * eps_hat + added * z


def all_fresh(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return alpha_s * x0_hat + added * z


def by_shares(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    share = (added / sigma_s) ** 2
    return alpha_s * x0_hat + sigma_s * ((1 - share) ** 0.5 * eps_hat + share**0.5 * z)


def in_float32_numpy(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    x0_hat, eps_hat, z = (v.float().numpy() for v in (x0_hat, eps_hat, z))
    return alpha_s * x0_hat + (sigma_s**2 - added**2) ** 0.5 * eps_hat + added * z


mend = Exercise(
    "A.mend_the_step",
    r"""The step below adds fresh noise `z` with standard deviation `added` and keeps *all* of the estimated noise, too. After a few steps the picture is noisier than its level says. (It stood so in a course.) Mend it: the
    noise of the result has to have the variance `sigma_s`$^2$ in all. (The check draws a million numbers and measures.)""",
    hints=[
        "Two independent noises: their variances add.",
        "sigma_s^2 is shared out between z, which gets added^2, and the old noise, which gets the rest.",
        "The factor of eps_hat is the root of sigma_s^2 - added^2.",
    ],
    solution=mended_step,
    check=_check_mend,
    mistakes={
        "z comes on top": as_given,
        "do not add": deviations_subtracted,
        "The root is missing": without_root,
        "has no part in it": no_fresh_noise,
        "on some paths only": variance_preserving_only,
        "a standard deviation already": added_squared,
        "the mean is": picture_without_alpha,
        "has to keep its sign": old_noise_subtracted,
        "Nothing is left of the old noise": all_fresh,
    },
    variants=[by_shares, in_float32_numpy],
)
