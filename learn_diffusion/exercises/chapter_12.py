"""Chapter 12, How do words become pictures?"""

from __future__ import annotations

import math

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, call, numbers

# attention


def your_attention(Q, K, V, real):
    scores = Q @ K.T / Q.shape[1] ** 0.5
    scores = torch.where(real, scores, -torch.inf)  # exp(-inf) is 0
    return scores.softmax(dim=1) @ V


def _softmax_of(scores):
    return lambda Q, K, V, real: torch.where(real, scores(Q, K), -torch.inf).softmax(dim=1) @ V


def _scores(Q, K):
    return Q @ K.T / Q.shape[1] ** 0.5


def _weights_without(Q, K, real):
    """Softmax over all words, and then the weights of the filling set to 0."""
    return torch.where(real, _scores(Q, K).softmax(dim=1), 0.0)


def word_by_word(Q, K, V, real):
    rows = []
    for q in Q.double():
        weights = [math.exp(float(q @ k) / math.sqrt(len(q))) * bool(r) for k, r in zip(K.double(), real, strict=True)]
        rows.append(sum(w * v for w, v in zip(weights, V.double(), strict=True)) / sum(weights))
    return torch.stack(rows)


def weights_made_whole_again(Q, K, V, real):
    weights = _weights_without(Q, K, real)
    return weights / weights.sum(dim=1, keepdim=True) @ V


def only_the_words(Q, K, V, real):
    return _scores(Q, K[real]).softmax(dim=1) @ V[real]


def _questions():
    g = torch.Generator().manual_seed(0)
    K, V = 16 * torch.eye(5, 16), torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0], [9.0, 90.0], [9.0, 90.0]])
    one, alike, between = K[1], torch.zeros(16), K[0] * math.log(3) / 64  # between: weights 3/5, 1/5, 1/5
    random = tuple(torch.randn(shape, generator=g) for shape in ((5, 4), (7, 4), (7, 3)))
    return [
        (*random, torch.arange(7) < 4),
        (torch.stack([alike, one, between, between]), K, V, torch.arange(5) < 3),
    ]


Exercise(
    "12.attention",
    r"""Write attention that does not look at the filling. `your_attention(Q, K, V, real)` gets questions `Q` of shape (spots, d), keys `K` of shape (words, d),
    values `V` of shape (words, c), and `real` of shape (words,), bool: False where a zero fills the caption up. It returns one row for each spot, (spots, c):
    the mean of the values, weighted by the softmax, over the *real* words only, of the products of questions and keys over the root of d; the filling gets the weight 0.
    (The check asks questions whose answer is known: one that fits a single key, one that fits all keys alike, and one between the keys of three words.)""",
    hints=[
        "`Q @ K.T` has one row for each spot and one column for each word.",
        "The softmax runs over the words, dim=1, and it should not see the filling: which score has the weight 0?",
        "exp(-inf) is 0: torch.where(real, scores, -torch.inf), before the softmax.",
    ],
    solution=your_attention,
    inputs=_questions,
    mistakes={
        "The filling gets weights as the words do: `real` has no effect.": lambda Q, K, V, real: (
            _scores(Q, K).softmax(dim=1) @ V
        ),
        "It looks at the filling and at no word: `real` is True where there IS a word.": lambda Q, K, V, real: (
            your_attention(Q, K, V, ~real)
        ),
        "A score of 0 is not a weight of 0, for exp(0) is 1. Which score is?": [
            lambda Q, K, V, real: (_scores(Q, K) * real).softmax(dim=1) @ V,
            lambda Q, K, V, real: _scores(Q, torch.where(real[:, None], K, 0.0)).softmax(dim=1) @ V,
        ],
        "The filling is taken out after the softmax: the weights that are left no longer sum to 1.": [
            lambda Q, K, V, real: _weights_without(Q, K, real) @ V,
            lambda Q, K, V, real: _scores(Q, K).softmax(dim=1) @ (V * real[:, None]),
        ],
        "The weights are too sharp: the products have to be divided by the root of d.": _softmax_of(
            lambda Q, K: Q @ K.T
        ),
        "The weights are too flat: divide by the root of d, not by d.": _softmax_of(lambda Q, K: Q @ K.T / Q.shape[1]),
        "The root is not that of d: is d the length of a question?": _softmax_of(lambda Q, K: Q @ K.T / len(K) ** 0.5),
        "What one spot gets depends on the other spots: along which side does your softmax run?": [
            lambda Q, K, V, real: _scores(Q, K).softmax(dim=0) * real @ V,
            lambda Q, K, V, real: torch.where(real, _scores(Q, K), -1e9).softmax(dim=0) @ V,
        ],
        "A question of zeros gets zeros. Its products are all 0, and the softmax of equal numbers is no zero.": (
            lambda Q, K, V, real: torch.where(real, _scores(Q, K), 0.0) @ V
        ),
        "A question that fits all keys alike gets the sum of the values: do the weights of a spot sum to 1?": (
            lambda Q, K, V, real: torch.where(real, _scores(Q, K).exp(), 0.0) @ V
        ),
        "A question that fits one key far better than the others should get that word's value alone.": (
            lambda Q, K, V, real: V[real].mean(0).expand(len(Q), -1)
        ),
        "The weights themselves are no answer: the values are missing.": lambda Q, K, V, real: torch.where(
            real, _scores(Q, K), -torch.inf
        ).softmax(dim=1),
    },
    variants=[word_by_word, weights_made_whole_again, only_the_words],
    right="Each spot takes the mean of the words' values, weighted by what it asked for, and nothing of the filling.",
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
        raise IncorrectAnswer("Some tokens are neither -1 nor what they were.")
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
    g = torch.Generator().manual_seed(3)
    first, second = (numbers(call(your_drop, tokens, 0.2, g), tokens.shape) for _ in range(2))
    if not torch.equal(first, out):
        raise IncorrectAnswer("Which captions go is not up to `generator`: hand it on to torch.rand.")
    if torch.equal(second, first):
        raise IncorrectAnswer("Called twice, it drops the same captions: draw from the `generator` that is given.")
    alone = [numbers(call(your_drop, tokens[:1], 0.2, g)).min() for _ in range(400)]
    share = (torch.stack(alone) == -1).double().mean()
    if abs(share - 0.2) > 0.1:
        raise IncorrectAnswer(f"A caption that comes alone is dropped in {share:.0%} of the calls, expected 20%.")


Exercise(
    "12.drop",
    r"""Guidance needs a model that can also do without the caption. Write `your_drop(tokens, share, generator)`: `tokens` of
    shape (B, L) are captions, one a row. Take whole captions away, each with probability `share` and independently of the others, by writing -1 in the place of all of
    its tokens; leave the others, and the tensor you were given, as they are. All chance comes from `generator`, a torch.Generator. (The check counts, over 4000 captions, and with one alone.)""",
    hints=[
        "Draw one random number for each row: torch.rand(len(tokens), generator=generator).",
        "A row is dropped where its number is below the share.",
        "torch.where(dropped[:, None], -1, tokens) leaves the given tensor alone.",
    ],
    solution=your_drop,
    inputs=[(CAPTIONS, 0.0, NEW), (CAPTIONS, 1.0, NEW)],
    check=_check,
    mistakes={
        "Dropped tokens are 0. That is an empty word, used to fill up; a dropped caption is -1.": (
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
        "not up to `generator`": lambda tokens, share, generator: torch.where(
            torch.rand(len(tokens), 1) < share, -1, tokens
        ),
        "Called twice": lambda tokens, share, generator: your_drop(tokens, share, torch.Generator().manual_seed(0)),
        "comes alone": lambda tokens, share, generator: torch.where(
            (torch.randperm(len(tokens), generator=generator) < round(share * len(tokens)))[:, None], -1, tokens
        ),
    },
    variants=[with_a_loop],
    right="One coin for each caption, and the caption is gone as a whole.",
    otherwise="With a share of 0 nothing should be dropped, and with a share of 1 every caption.",
)

# error bars


def your_error_bar(right, other):
    p, q = right.float().mean(), other.float().mean()
    variance = p * (1 - p) / len(right) + q * (1 - q) / len(other)
    return p - q, variance**0.5


def _shares(right, other):
    return right.float().mean(), other.float().mean(), len(right), len(other)


def _with_error(error):
    """A right difference, and this error of the two shares and the numbers of pictures."""
    return lambda right, other: (right.float().mean() - other.float().mean(), error(*_shares(right, other)))


def by_drawing_again(right, other):
    p, q, n, m = _shares(right.double(), other.double())
    again = [(torch.rand(20000, k) < share).double().mean(1) for share, k in ((p, n), (q, m))]
    return p - q, (again[0] - again[1]).std()


Exercise(
    "12.error_bar",
    r"""Is one model better than another, or was it luck? Write `your_error_bar(right, other)`: two rows of True and False, one for each
    picture of two models, which need not have drawn equally many. Return the share right of the first minus that of the second, and the standard error of this *difference*: the standard deviation
    that it would have, if both drew as many pictures again and again, independently. (Thousands of such repetitions would give it, and so does a short formula.)""",
    hints=[
        "One picture is right with probability p. The variance of one such coin is p (1 - p), that of the mean of n coins p (1 - p) / n.",
        "Two independent shares are subtracted: their errors do not cancel. Their variances add up.",
        "A standard error is the root of a variance: add first, then take the root.",
    ],
    solution=your_error_bar,
    inputs=[
        (torch.arange(400) < 360, torch.arange(100) < 50),
        (torch.arange(100) < 20, torch.arange(300) < 90),
    ],
    result=("the difference", "the standard error"),
    tolerance=1e-3,  # the spread of the sample, with its n - 1, is as good
    mistakes={
        "That is the spread of single pictures. A share is a mean of many of them, and spreads less.": _with_error(
            lambda p, q, n, m: (p * (1 - p) + q * (1 - q)) ** 0.5
        ),
        "That is the variance of the difference; its root has the unit of a share.": _with_error(
            lambda p, q, n, m: p * (1 - p) / n + q * (1 - q) / m
        ),
        "The two errors are added. Chance seldom pushes both the bad way: it is the variances that add up.": _with_error(
            lambda p, q, n, m: (p * (1 - p) / n) ** 0.5 + (q * (1 - q) / m) ** 0.5
        ),
        "The variances are subtracted. The shares are, but what is uncertain in them adds up.": _with_error(
            lambda p, q, n, m: abs(p * (1 - p) / n - q * (1 - q) / m) ** 0.5
        ),
        "You assumed that both models are equally good: each share has a p of its own.": _with_error(
            lambda p, q, n, m: ((p * n + q * m) / (n + m) * (1 - (p * n + q * m) / (n + m)) * (1 / n + 1 / m)) ** 0.5
        ),
        "Only the first share has an error bar here; the second one is uncertain, too.": _with_error(
            lambda p, q, n, m: (p * (1 - p) / n) ** 0.5
        ),
        "All pictures are counted as if one model had drawn them: each share has its own p and its own n.": [
            _with_error(
                lambda p, q, n, m: ((p * n + q * m) / (n + m) * (1 - (p * n + q * m) / (n + m)) / (n + m)) ** 0.5
            ),
            _with_error(lambda p, q, n, m: ((p * (1 - p) + q * (1 - q)) / (n + m)) ** 0.5),
        ],
        "That is half of a 95% interval, 1.96 standard errors. Asked for is one.": _with_error(
            lambda p, q, n, m: 1.96 * (p * (1 - p) / n + q * (1 - q) / m) ** 0.5
        ),
        "The difference has the wrong sign: the first minus the second.": lambda right, other: (
            other.float().mean() - right.float().mean(),
            your_error_bar(right, other)[1],
        ),
        "That is a difference of counts, {got[0]:g}; the difference of the shares is {expected[0]:.4g}.": (
            lambda right, other: (right.float().sum() - other.float().sum(), your_error_bar(right, other)[1])
        ),
        "Many repetitions spread by {expected[1]:.4f}, not by {got[1]:.4f}: one picture has the variance p (1 - p).": (
            _with_error(lambda p, q, n, m: (p / n + q / m) ** 0.5)
        ),
    },
    variants=[
        by_drawing_again,
        lambda right, other: [
            right.double().mean().item() - other.double().mean().item(),
            (right.double().var() / len(right) + other.double().var() / len(other)).sqrt(),
        ],
    ],
    right="So much would the difference change if both drew again: a difference of less than two such errors may well be luck.",
)
