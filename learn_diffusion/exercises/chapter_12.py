"""Chapter 12, How do words become pictures?"""

from __future__ import annotations

import math

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, call, numbers

# attention


def your_attention(Q, K, V):
    scores = Q @ K.T / Q.shape[1] ** 0.5
    return scores.softmax(dim=1) @ V


def _softmax_of(scores):
    return lambda Q, K, V: scores(Q, K).softmax(dim=1) @ V


def _scores(Q, K):
    return Q @ K.T / Q.shape[1] ** 0.5


def word_by_word(Q, K, V):
    rows = []
    for q in Q.double():
        weights = [math.exp(float(q @ k) / math.sqrt(len(q))) for k in K.double()]
        rows.append(sum(w * v for w, v in zip(weights, V.double(), strict=True)) / sum(weights))
    return torch.stack(rows)


def _questions():
    g = torch.Generator().manual_seed(0)
    K, V = 16 * torch.eye(3, 16), torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
    one, alike, between = K[1], torch.zeros(16), K[0] * math.log(3) / 64  # between: weights 3/5, 1/5, 1/5
    random = tuple(torch.randn(shape, generator=g) for shape in ((5, 4), (7, 4), (7, 3)))
    return [random, (torch.stack([alike, one, between, between]), K, V)]


Exercise(
    "12.attention",
    r"""Write attention. `your_attention(Q, K, V)` gets questions `Q` of shape (places, d), keys `K` of shape (words, d) and
    values `V` of shape (words, w). It returns one row for each place, (places, w): the mean of the values, weighted by the
    softmax of the products of questions and keys, divided by the root of d. (The check asks questions whose answer is known:
    one that fits a single key, one that fits all keys alike, and one between two keys.)""",
    hints=[
        "`Q @ K.T` has one row for each place and one column for each word.",
        "Each place shares its looking out among the words: the softmax runs along the words, dim=1.",
        "Divide by the root of d before the softmax, then multiply with V.",
    ],
    solution=your_attention,
    inputs=_questions,
    result="the answer",
    mistakes={
        "The weights are too sharp: the products have to be divided by the root of d.": _softmax_of(
            lambda Q, K: Q @ K.T
        ),
        "The weights are too flat: divide by the root of d, not by d.": _softmax_of(lambda Q, K: Q @ K.T / Q.shape[1]),
        "The root is not that of d: is d the length of a question?": _softmax_of(lambda Q, K: Q @ K.T / len(K) ** 0.5),
        "What one place gets depends on the other places: along which side does your softmax run?": lambda Q, K, V: (
            _scores(Q, K).softmax(dim=0) @ V
        ),
        "A question of zeros gets zeros. Its products are all 0, and the softmax of equal numbers is no zero.": (
            lambda Q, K, V: _scores(Q, K) @ V
        ),
        "A question that fits all keys alike gets the sum of the values: do the weights of a place sum to 1?": (
            lambda Q, K, V: _scores(Q, K).exp() @ V
        ),
        "A question that fits one key far better than the others should get that word's value alone.": (
            lambda Q, K, V: V.mean(0).expand(len(Q), -1)
        ),
        "The weights themselves are no answer: the values are missing.": lambda Q, K, V: _scores(Q, K).softmax(dim=1),
    },
    variants=[word_by_word],
    right="Each place takes the mean of the values, weighted by what it asked for.",
)

# dropping captions


def your_drop(tokens, share, generator):
    dropped = torch.rand(len(tokens), generator=generator) < share
    return torch.where(dropped[:, None], -1, tokens)


def in_place(tokens, share, generator):
    tokens[torch.rand(len(tokens), generator=generator) < share] = -1
    return tokens


def with_a_loop(tokens, share, generator):
    rows = [row if torch.rand((), generator=generator) >= share else torch.full_like(row, -1) for row in tokens]
    return torch.stack(rows)


CAPTIONS = 1 + torch.arange(4000 * 6).reshape(4000, 6) % 50
NEW = torch.Generator()


def _check(your_drop):
    tokens, n = CAPTIONS.clone(), len(CAPTIONS)
    out = numbers(call(your_drop, tokens, 0.2, torch.Generator().manual_seed(3)), tokens.shape)
    gone = out == -1
    if not (gone | (out == tokens)).all():
        raise IncorrectAnswer("Some places are neither -1 nor what they were.")
    if (gone.any(1) & ~gone.all(1)).any():
        raise IncorrectAnswer("In some captions single words are missing. Drop whole captions: one coin for each row.")
    gone = gone[:, 0].double()
    error = (0.2 * 0.8 / n) ** 0.5
    if abs(gone.mean() - 0.2) > 5 * error:
        raise IncorrectAnswer(f"A share of {gone.mean():.2f} is dropped; expected 0.20.")
    halves = gone[: n // 2].mean() - gone[n // 2 :].mean()
    if abs(halves) > 10 * error or abs((gone[1:] * gone[:-1]).mean() - 0.04) > 0.02:
        raise IncorrectAnswer(
            "The right share is dropped, but not by independent coins: which rows go follows a pattern."
        )


Exercise(
    "12.drop",
    r"""Guidance needs a model that can also do without the caption. Write `your_drop(tokens, share, generator)`: `tokens` of
    shape (B, L) are captions, one a row. Take whole captions away, each with probability `share`, independently, by writing -1 into all of
    its places; leave the others, and the tensor you were given, as they are. (The check counts, over 4000 captions.)""",
    hints=[
        "Draw one random number for each row: torch.rand(len(tokens), generator=generator).",
        "A row is dropped where its number is below the share.",
        "torch.where(dropped[:, None], -1, tokens) leaves the given tensor alone.",
    ],
    solution=your_drop,
    inputs=[(CAPTIONS, 0.0, NEW), (CAPTIONS, 1.0, NEW)],
    check=_check,
    mistakes={
        "Dropped places hold 0. That is an empty word, used to fill up; a dropped caption is -1.": (
            lambda tokens, share, generator: your_drop(tokens, share, generator).clamp(min=0)
        ),
        "You keep what should go: with a share of 0 nothing should be dropped.": lambda tokens, share, generator: (
            your_drop(tokens, 1 - share, generator)
        ),
        "changed what you were given": in_place,
        "single words are missing": lambda tokens, share, generator: torch.where(
            torch.rand(tokens.shape, generator=generator) < share, -1, tokens
        ),
        "expected 0.20": lambda tokens, share, generator: your_drop(tokens, share**2, generator),
        "neither -1 nor what they were": lambda tokens, share, generator: (  # the dropped first
            (out := your_drop(tokens, share, generator))[out[:, 0].clamp(max=0).argsort(stable=True)]
        ),
        "follows a pattern": lambda tokens, share, generator: torch.where(
            (torch.arange(len(tokens)) < share * len(tokens))[:, None], -1, tokens
        ),
    },
    variants=[with_a_loop],
    right="One coin for each caption, and the caption is gone as a whole.",
    otherwise="With a share of 0 nothing should be dropped, and with a share of 1 every caption.",
)

# error bars


def your_error_bar(right):
    share = right.float().mean()
    return share, (share * (1 - share) / len(right)) ** 0.5


def _with_error(error):
    """A right share, and this error of the share and the number of pictures."""
    return lambda right: (right.float().mean(), error(right.float().mean(), len(right)))


def by_drawing_again(right):
    share = right.double().mean()
    return share, (torch.rand(20000, len(right)) < share).double().mean(1).std()


Exercise(
    "12.error_bar",
    r"""A share without its error bar says little. Write `your_error_bar(right)`: `right` is a row of True and False, one for each
    picture. Return the share that is right and the standard error of that share: the standard deviation that the share itself would
    have, if you drew as many pictures again and again. (The check compares with thousands of such repetitions.)""",
    hints=[
        "One picture is right with probability p. The variance of one such coin is p (1 - p).",
        "The mean of n independent coins has that variance divided by n.",
        "A standard error is the root of a variance.",
    ],
    solution=your_error_bar,
    inputs=[(torch.arange(400) < 360,), (torch.arange(100) < 50,)],
    result=("the share", "the standard error"),
    tolerance=1e-3,  # the spread of the sample, with its n - 1, is as good
    mistakes={
        "That is the spread of single pictures. The share is a mean of n of them, and spreads less.": [
            _with_error(lambda p, n: (p * (1 - p)) ** 0.5),
            lambda right: (right.float().mean(), right.float().std()),
        ],
        "That is the variance of the share; its root has the unit of the share.": _with_error(
            lambda p, n: p * (1 - p) / n
        ),
        "Divided by n. The variance is divided by n, so the error is divided by the root of n.": _with_error(
            lambda p, n: (p * (1 - p)) ** 0.5 / n
        ),
        "That is half of a 95% interval, 1.96 standard errors. Asked for is one.": _with_error(
            lambda p, n: 1.96 * (p * (1 - p) / n) ** 0.5
        ),
        "This many of {right.shape[0]} are right: {got[0]:g}, so the share is {expected[0]:.4g}.": lambda right: (
            right.float().sum(),
            your_error_bar(right)[1],
        ),
        "Many repetitions of {right.shape[0]} pictures spread by {expected[1]:.4f}, not by {got[1]:.4f}: one picture has "
        "the variance p (1 - p).": _with_error(lambda p, n: (p / n) ** 0.5),
    },
    variants=[
        by_drawing_again,
        lambda right: [right.double().mean().item(), right.double().std() / math.sqrt(len(right))],
    ],
    right="So much would the share differ if you drew again.",
)
