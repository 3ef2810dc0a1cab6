"""Appendix A, What does it look like when it is broken?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers

# name the fault

FAULTS = {
    "leak": "the schedule does not end in noise",
    "range": "pictures in the wrong range",
    "beta": "beta for sqrt(beta)",
    "twice": "noise drawn twice",
    "level": "the noise level does not reach the network",
    "average": "no moving average of the weights",
}
HOW_TO_TELL = {
    "a": "With one picture and an oracle the right loss is exactly 0. What makes a loss that even an oracle cannot lower?",
    "b": "Training is fine and guesses are fine at every level; only what is sampled from pure noise is dirty. What does a sampler start from?",
    "c": "An answer that does not change with t, though x_t needs different answers at different t. What did not arrive?",
    "d": "A chain whose noise is far too small at every step. What was used in place of its root?",
}


def my_diagnosis():
    return {"a": "twice", "b": "leak", "c": "level", "d": "beta"}


def _check(diagnosis):
    right = my_diagnosis()
    if not isinstance(diagnosis, dict):
        raise IncorrectAnswer(
            f"A dict was expected, with the letters a to d as keys; this is a {type(diagnosis).__name__}."
        )
    diagnosis = {str(letter).lower(): fault for letter, fault in diagnosis.items()}
    missing = [letter for letter in right if diagnosis.get(letter) in (None, ...)]
    if missing:
        raise IncorrectAnswer(f"No answer yet for {', '.join(missing)}.")
    for letter in right:
        if diagnosis[letter] not in list(FAULTS):
            raise IncorrectAnswer(f"{diagnosis[letter]!r} is none of the words; they are {', '.join(FAULTS)}.")
    wrong = [letter for letter in right if diagnosis[letter] != right[letter]]
    if wrong:
        raise IncorrectAnswer(
            f"{len(right) - len(wrong)} of {len(right)} are right. Look again at {wrong[0]}. {HOW_TO_TELL[wrong[0]]}"
        )
    return "All four. " + "; ".join(f"{letter}: {FAULTS[fault]}" for letter, fault in right.items()) + "."


Exercise(
    "A.name_the_fault",
    r"""Four letters arrive from students. Name each fault by one of the words `"leak"`, `"range"`, `"beta"`, `"twice"`, `"level"`, `"average"`, in a dict such as `{"a": "leak", ...}`.

    - **a.** "My loss starts at 1.5 and falls to 1.0. Then it stays there, even with a single training picture and a huge network."
    - **b.** "I noise real pictures, and my guesses of the clean ones are very good at every level, the last one too. But whatever I sample from pure noise lies on a dirty, grainy ground."
    - **c.** "I call my network with t = 0.1 and with t = 0.9 on the same input, and get the same numbers."
    - **d.** "After all 1000 steps forward my digits have no noise to speak of: they are an even grey."
    """,
    hints=[
        "Each of the four stands in the museum as an exhibit: 1, 3, 4 and 6, in some order.",
        "A loss of 1.0 that nobody can lower: the noise has variance 1.",
    ],
    builds=True,
    solution=my_diagnosis,
    check=_check,
    mistakes={
        "Look again at a": lambda: my_diagnosis() | {"a": "average"},
        "Look again at b": lambda: my_diagnosis() | {"b": "range"},
        "Look again at d": lambda: my_diagnosis() | {"d": "leak"},
        "No answer yet for c, d": lambda: {"a": "twice", "b": "leak"},
        "is none of the words": lambda: my_diagnosis() | {"c": "time"},
        "A dict was expected": lambda: ["twice", "leak", "level", "beta"],
    },
    variants=[
        lambda: my_diagnosis() | {"e": "I enjoyed this"},
        lambda: {letter.upper(): fault for letter, fault in my_diagnosis().items()},
    ],
)

# mend the step


def mended_step(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    kept = (sigma_s**2 - added**2) ** 0.5
    return alpha_s * x0_hat + kept * eps_hat + added * z


def _step(kept, fresh=lambda added: added):
    """Keeps kept(alpha, sigma, added) of the old noise."""
    return lambda x, x0_hat, eps_hat, alpha_s, sigma_s, added, z: (
        alpha_s * x0_hat + kept(alpha_s, sigma_s, added) * eps_hat + fresh(added) * z
    )


def _rest(alpha, sigma, added):
    return (sigma**2 - added**2) ** 0.5


def by_shares(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    share = (added / sigma_s) ** 2
    return alpha_s * x0_hat + sigma_s * ((1 - share) ** 0.5 * eps_hat + share**0.5 * z)


def in_float32_numpy(x, x0_hat, eps_hat, alpha_s, sigma_s, added, z):
    return mended_step(x, *(v.float().numpy() for v in (x0_hat, eps_hat)), alpha_s, sigma_s, added, z.float().numpy())


def _inputs(n=100):
    eps, z = torch.randn(2, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = torch.full_like(eps, 0.7)
    x = 0.5 * x0 + 0.8 * eps  # where the step comes from does not matter
    return [(x, x0, eps, *level, z) for level in ((0.8, 0.6, 0.3), (0.5, 0.9, 0.9), (0.9, 0.4, 0.0))]


def _measure(step):
    args = _inputs(1_000_000)[0]
    std = numbers(call(step, *args)).std().item()
    if not agrees(std, args[4], 0.01):
        raise IncorrectAnswer(f"Of a million numbers, the noise has standard deviation {std:.2f}, not {args[4]}.")


Exercise(
    "A.mend_the_step",
    r"""The step below adds fresh noise `z` with standard deviation `added` and keeps *all* of the estimated noise, too. After a few steps the picture is noisier than its level says. Mend it: the
    noise of the result has to have the variance `sigma_s`$^2$ in all. (The check draws a million numbers and measures.)""",
    hints=[
        "Two independent noises: their variances add.",
        "sigma_s^2 is shared out between z, which gets added^2, and the old noise, which gets the rest.",
        "The factor of eps_hat is the root of sigma_s^2 - added^2.",
    ],
    solution=mended_step,
    inputs=_inputs,
    result="x_s",
    check=_measure,
    mistakes={
        "All of the old noise is kept, and z comes on top: with sigma_s = {sigma_s} and added = {added} that is too much.": (
            _step(lambda alpha, sigma, added: sigma)
        ),
        "Standard deviations do not add: take the root of the difference of the squares.": _step(
            lambda alpha, sigma, added: sigma - added
        ),
        "The root is missing: sigma_s^2 - added^2 is a variance.": _step(
            lambda alpha, sigma, added: sigma**2 - added**2
        ),
        "The fresh noise z has no part in it.": [
            _step(lambda alpha, sigma, added: sigma, lambda added: 0),
            _step(_rest, lambda added: 0),
        ],
        "1 - alpha_s^2 is sigma_s^2 on some paths only. Use sigma_s.": _step(
            lambda alpha, sigma, added: max(1 - alpha**2 - added**2, 0) ** 0.5
        ),
        "z is scaled by added squared. added is a standard deviation already.": _step(_rest, lambda added: added**2),
        "With alpha_s = {alpha_s} the mean is that of x0_hat, and should be alpha_s times as much.": (
            lambda x, x0_hat, eps_hat, alpha_s, *rest: mended_step(x, x0_hat, eps_hat, 1.0, *rest)
        ),
        "The old noise is subtracted. Its size is right, but it has to keep its sign.": _step(
            lambda *args: -_rest(*args)
        ),
        "Nothing is left of the old noise: that is right only where added is sigma_s.": _step(lambda *args: 0),
    },
    variants=[by_shares, in_float32_numpy],
    right="The two noises share the variance of the level.",
)
