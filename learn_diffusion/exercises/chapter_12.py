"""Chapter 12, How do words become pictures?"""

from __future__ import annotations

import math

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, pair

attention = Exercise(
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
)


@attention.oracle
def _(your_attention):
    d, g = 16, torch.Generator().manual_seed(0)
    K = torch.eye(3, d) * d  # three keys at right angles
    V = torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])

    def ask(*questions):
        out = call(your_attention, torch.stack(questions), K.clone(), V.clone())
        return numbers(out, (len(questions), 2), "the answer")

    alike = torch.zeros(d)
    exactly = K[1].clone()
    between = torch.zeros(d)
    between[0] = math.log(3) / math.sqrt(d)  # scores log(3), 0, 0: weights 3/5, 1/5, 1/5
    weighted = (3 * V[0] + V[1] + V[2]) / 5
    sharp = (3**4 * V[0] + V[1] + V[2]) / (3**4 + 2)  # what comes out where the root of d is forgotten
    flat = (3**0.25 * V[0] + V[1] + V[2]) / (3**0.25 + 2)  # and where d stands instead of its root
    out = ask(alike, exactly, between, between)
    if agrees(out[0], V.sum(0)):
        raise IncorrectAnswer(
            "A question that fits all keys alike gets the sum of the values: do the weights of a place sum to 1?"
        )
    if agrees(out[0], 0.0):
        raise IncorrectAnswer(
            "A question of zeros gets zeros. Its products are all 0, and the softmax of equal numbers is no zero."
        )
    if not agrees(out[0], V.mean(0)):
        if not agrees(ask(alike)[0], out[0]):
            raise IncorrectAnswer(
                "What one place gets depends on the other places: along which side does your softmax run?"
            )
        raise IncorrectAnswer(
            f"A question that fits all keys alike should get the mean of the values, {V.mean(0).tolist()}."
        )
    if not agrees(out[1], V[1]):
        raise IncorrectAnswer(
            "A question that fits one key far better than the others should get that word's value alone."
        )
    if agrees(out[2], sharp):
        raise IncorrectAnswer("The weights are too sharp: the products have to be divided by the root of d.")
    if agrees(out[2], flat):
        raise IncorrectAnswer("The weights are too flat: divide by the root of d, not by d.")
    if not agrees(out[2], weighted):
        raise IncorrectAnswer(
            f"Weights of 3/5, 1/5 and 1/5 were expected, which give {weighted.tolist()}, not {out[2].tolist()}."
        )
    Q, K, V = (torch.randn(n, w, generator=g) for n, w in ((5, 4), (7, 4), (7, 3)))
    rows = []
    for q in Q.double():
        weights = [math.exp(float(q @ k) / 2) for k in K.double()]
        rows.append(sum(w * v for w, v in zip(weights, V.double(), strict=True)) / sum(weights))
    if not agrees(numbers(call(your_attention, Q, K, V), (5, 3), "the answer"), torch.stack(rows)):
        raise IncorrectAnswer("On random questions it differs from the formula: is d the length of a question?")
    return "Each place takes the mean of the values, weighted by what it asked for."


@attention.answer
def your_attention(Q, K, V):
    scores = Q @ K.T / Q.shape[1] ** 0.5
    return scores.softmax(dim=1) @ V


@attention.mutant("divided by the root of d")
def no_root(Q, K, V):
    return (Q @ K.T).softmax(dim=1) @ V


@attention.mutant("not by d")
def divided_by_d(Q, K, V):
    return (Q @ K.T / Q.shape[1]).softmax(dim=1) @ V


@attention.mutant("along which side")
def softmax_over_places(Q, K, V):
    return (Q @ K.T / Q.shape[1] ** 0.5).softmax(dim=0) @ V


@attention.mutant("softmax of equal numbers")
def no_softmax(Q, K, V):
    return Q @ K.T / Q.shape[1] ** 0.5 @ V


@attention.mutant("sum to 1")
def not_normalised(Q, K, V):
    return (Q @ K.T / Q.shape[1] ** 0.5).exp() @ V


@attention.mutant("has the shape")
def answers_for_words(Q, K, V):
    return (K @ Q.T / Q.shape[1] ** 0.5).softmax(dim=0) * V.sum()


@attention.mutant("that word's value alone")
def plain_mean(Q, K, V):
    return V.mean(0).expand(len(Q), -1)


@attention.mutant("is d the length")
def root_of_words(Q, K, V):
    d = 16 if len(K) == 3 else len(K)
    return (Q @ K.T / d**0.5).softmax(dim=1) @ V


@attention.variant
def with_einsum(Q, K, V):
    scores = torch.einsum("pd,wd->pw", Q.double(), K.double()) / math.sqrt(K.shape[-1])
    scores = scores - scores.max(dim=1, keepdim=True).values
    return torch.einsum("pw,wv->pv", scores.exp() / scores.exp().sum(1, keepdim=True), V.double())


@attention.variant
def in_numpy(Q, K, V):
    Q, K, V = (np.asarray(x) for x in (Q, K, V))
    scores = Q @ K.T / np.sqrt(Q.shape[1])
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True) @ V


dropping = Exercise(
    "12.drop",
    r"""Guidance needs a model that can also do without the caption. Write `your_drop(tokens, share, generator)`: `tokens` of
    shape (B, L) are captions, one a row. Take whole captions away, each with probability `share`, independently, by writing -1 into all of
    its places; leave the others, and the tensor you were given, as they are. (The check counts, over 4000 captions.)""",
    hints=[
        "Draw one random number for each row: torch.rand(len(tokens), generator=generator).",
        "A row is dropped where its number is below the share.",
        "torch.where(dropped[:, None], -1, tokens) leaves the given tensor alone.",
    ],
)


@dropping.oracle
def _(your_drop):
    B, L = 4000, 6
    given = 1 + torch.arange(B * L).reshape(B, L) % 50

    def ask(share):
        tokens = given.clone()
        out = numbers(call(your_drop, tokens, share, torch.Generator().manual_seed(3)), (B, L), "the result")
        if not torch.equal(tokens, given):
            raise IncorrectAnswer(
                "The captions you were given are changed themselves: the next epoch would train without them."
            )
        gone = out == -1
        if not bool((gone | (out == given)).all()):
            if bool(((out == 0) | (out == given)).all()):
                raise IncorrectAnswer(
                    "Dropped places hold 0. That is an empty word, used to fill up; a dropped caption is -1."
                )
            raise IncorrectAnswer("Some places are neither -1 nor what they were.")
        if bool((gone.any(1) & ~gone.all(1)).any()):
            raise IncorrectAnswer(
                "In some captions single words are missing. Drop whole captions: one coin for each row."
            )
        return gone[:, 0].double()

    if ask(0.0).any():
        raise IncorrectAnswer("With a share of 0 nothing should be dropped.")
    if not ask(1.0).all():
        raise IncorrectAnswer("With a share of 1 every caption should be dropped.")
    gone = ask(0.2)
    spread = (0.2 * 0.8 / B) ** 0.5  # standard error of a share
    if abs(gone.mean() - 0.8) < 5 * spread:
        raise IncorrectAnswer(f"A share of {gone.mean():.2f} is dropped, not 0.20: you keep what should go.")
    if abs(gone.mean() - 0.2) > 5 * spread:
        raise IncorrectAnswer(f"A share of {gone.mean():.2f} is dropped; expected 0.20.")
    halves = gone[: B // 2].mean() - gone[B // 2 :].mean()
    if abs(halves) > 10 * spread or abs((gone[1:] * gone[:-1]).mean() - 0.04) > 0.02:
        raise IncorrectAnswer(
            "The right share is dropped, but not by independent coins: which rows go follows a pattern."
        )
    return "One coin for each caption, and the caption is gone as a whole."


@dropping.answer
def your_drop(tokens, share, generator):
    dropped = torch.rand(len(tokens), generator=generator) < share
    return torch.where(dropped[:, None], -1, tokens)


@dropping.mutant("single words are missing")
def drops_words(tokens, share, generator):
    return torch.where(torch.rand(tokens.shape, generator=generator) < share, -1, tokens)


@dropping.mutant("should be dropped")
def keeps_what_should_go(tokens, share, generator):
    kept = torch.rand(len(tokens), generator=generator) < share
    return torch.where(kept[:, None], tokens, -1)


@dropping.mutant("an empty word")
def fills_up(tokens, share, generator):
    dropped = torch.rand(len(tokens), generator=generator) < share
    return torch.where(dropped[:, None], 0, tokens)


@dropping.mutant("changed themselves")
def in_place(tokens, share, generator):
    tokens[torch.rand(len(tokens), generator=generator) < share] = -1
    return tokens


@dropping.mutant("follows a pattern")
def the_first_ones(tokens, share, generator):
    dropped = torch.arange(len(tokens)) < share * len(tokens)
    return torch.where(dropped[:, None], -1, tokens)


@dropping.mutant("expected 0.20")
def normal_coin(tokens, share, generator):
    dropped = torch.randn(len(tokens), generator=generator) < (share if 0 < share < 1 else (share - 0.5) * 99)
    return torch.where(dropped[:, None], -1, tokens)


@dropping.variant
def with_a_loop(tokens, share, generator):
    rows = [row if torch.rand((), generator=generator) >= share else torch.full_like(row, -1) for row in tokens]
    return torch.stack(rows)


@dropping.variant
def with_bernoulli(tokens, share, generator):
    out = tokens.clone()
    out[torch.bernoulli(torch.full((len(tokens),), share), generator=generator).bool()] = -1
    return out


bar = Exercise(
    "12.error_bar",
    r"""A share without its error bar says little. Write `your_error_bar(right)`: `right` is a row of True and False, one for each
    picture. Return the share that is right and the standard error of that share: the standard deviation that the share itself would
    have, if you drew as many pictures again and again. (The check compares with thousands of such repetitions.)""",
    hints=[
        "One picture is right with probability p. The variance of one such coin is p (1 - p).",
        "The mean of n independent coins has that variance divided by n.",
        "A standard error is the root of a variance.",
    ],
)


@bar.oracle
def _(your_error_bar):
    g = torch.Generator().manual_seed(1)
    for n, p in ((400, 0.9), (100, 0.5)):
        right = torch.arange(n) < p * n
        share, error = pair(call(your_error_bar, right.clone()), "the share and its standard error")
        share, error = numbers(share, (), "the share").item(), numbers(error, (), "the standard error").item()
        again = (torch.rand(4000, n, generator=g) < p).double().mean(1).std().item()
        one = (p * (1 - p)) ** 0.5
        if not agrees(share, p):
            raise IncorrectAnswer(f"{right.sum()} of {n} are right, so the share is {p}, not {share:.4g}.")
        if abs(error / one - 1) < 0.03:
            raise IncorrectAnswer(
                "That is the spread of single pictures. The share is a mean of n of them, and spreads less."
            )
        if abs(error / again**2 - 1) < 0.2:
            raise IncorrectAnswer("That is the variance of the share; its root has the unit of the share.")
        if abs(error / (one / n) - 1) < 0.1:
            raise IncorrectAnswer(
                "Divided by n. The variance is divided by n, so the error is divided by the root of n."
            )
        if abs(error / again - 1.96) < 0.15:
            raise IncorrectAnswer("That is half of a 95% interval, 1.96 standard errors. Asked for is one.")
        if abs(error / again - 1) > 0.1:
            raise IncorrectAnswer(f"4000 repetitions of {n} pictures spread by {again:.4f}, not by {error:.4f}.")
    return "So much would the share differ if you drew again."


@bar.answer
def your_error_bar(right):
    share = right.float().mean()
    return share, (share * (1 - share) / len(right)) ** 0.5


@bar.mutant("spread of single pictures")
def of_one_picture(right):
    return right.float().mean(), right.float().std()


@bar.mutant("its root")
def the_variance(right):
    share = right.float().mean()
    return share, share * (1 - share) / len(right)


@bar.mutant("root of n")
def over_n(right):
    share = right.float().mean()
    return share, (share * (1 - share)) ** 0.5 / len(right)


@bar.mutant("95% interval")
def half_interval(right):
    share = right.float().mean()
    return share, 1.96 * (share * (1 - share) / len(right)) ** 0.5


@bar.mutant("so the share is")
def the_number(right):
    return right.float().sum(), right.float().std() / len(right) ** 0.5


@bar.mutant("repetitions of")
def root_of_the_share(right):
    share = right.float().mean()
    return share, (share / len(right)) ** 0.5


@bar.variant
def from_the_sample(right):
    return right.double().mean(), right.double().std() / math.sqrt(len(right))


@bar.variant
def plain_python(right):
    values = [float(r) for r in right]
    p = sum(values) / len(values)
    return [p, math.sqrt(p * (1 - p) / len(values))]
