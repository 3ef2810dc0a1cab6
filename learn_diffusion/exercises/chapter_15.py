"""Chapter 15, Are they better than GANs?"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers

# what the generator wants

game = Exercise(
    "15.generator_loss",
    r"""Write the classical loss of a generator. `my_generator_loss(critic, drawn)` gets a critic, whose `critic(drawn)` is one score for each row, and a batch of drawn points (B, D). The critic believes a row to be real with probability sigmoid(score). The generator wants to be believed: return the mean of *minus the logarithm of that probability*.
    (Goodfellow et al. 2014 call it the non-saturating loss. At a score of -400 sigmoid rounds to 0, and -log(0) is infinite. Use one function for both steps: F.softplus(x) is log(1 + exp(x)). Compare with chapter 15's loss: there is no real picture in this one.)""",
    hints=[
        "-log(sigmoid(s)) is log(1 + exp(-s)), and F.softplus(x) is log(1 + exp(x)).",
        "F.softplus(-critic(drawn)), then the mean.",
    ],
)


@game.oracle
def _(my_generator_loss):
    drawn = torch.tensor([[-2.0], [-0.5], [0.3], [1.0], [4.0]])

    def critic(x):
        return 1.5 * x[:, 0] - 0.4

    score = critic(drawn)
    out = numbers(call(my_generator_loss, critic, drawn.clone()), (), "one number, the mean over the batch")
    right = F.softplus(-score).mean()
    if agrees(out, right, 1e-4):
        extreme = numbers(call(my_generator_loss, lambda x: 200 * x[:, 0], drawn.clone()), (), "one number")
        if not agrees(extreme, F.softplus(-200 * drawn[:, 0]).mean(), 1e-3):
            raise IncorrectAnswer(
                "Right for small scores, but not for -400: sigmoid rounds to 0 there. softplus does not."
            )
        return f"The generator of the check has a loss of {right:.2f}; one that is always believed has 0."
    for guess, says in (
        (F.softplus(score).mean(), "The sign is wrong: this loss is small when the critic is not fooled."),
        (-F.softplus(score).mean(), "That is the first loss of 2014, log(1 - sigmoid(score)). It is flat where the critic is "
         "sure, just when the generator has most to learn. Take -log(sigmoid(score))."),
        (-score.mean(), "That is the score itself (the Wasserstein loss). Here it goes through -log(sigmoid) first."),
        (F.softplus(-score).sum(), "That is the sum over the batch. Take the mean."),
        (-torch.sigmoid(score).mean(), "That is the probability itself. Take minus its logarithm."),
        (-torch.sigmoid(score).mean().log(), "The mean is inside the logarithm. First the logarithms, then the mean."),
    ):  # fmt: skip
        if agrees(out, guess, 1e-4):
            raise IncorrectAnswer(says)
    raise IncorrectAnswer(f"The loss should be {right:.3f}, and is {out:.3f}.")


@game.answer
def my_generator_loss(critic, drawn):
    return F.softplus(-critic(drawn)).mean()


@game.mutant("sign is wrong")
def not_fooled(critic, drawn):
    return F.softplus(critic(drawn)).mean()


@game.mutant("first loss of 2014")
def saturating(critic, drawn):
    return -F.softplus(critic(drawn)).mean()


@game.mutant("score itself")
def wasserstein(critic, drawn):
    return -critic(drawn).mean()


@game.mutant("sum over the batch")
def summed(critic, drawn):
    return F.softplus(-critic(drawn)).sum()


@game.mutant("probability itself")
def no_logarithm(critic, drawn):
    return -torch.sigmoid(critic(drawn)).mean()


@game.mutant("inside the logarithm")
def log_of_mean(critic, drawn):
    return -torch.sigmoid(critic(drawn)).mean().log()


@game.mutant("rounds to 0")
def log_of_sigmoid(critic, drawn):
    return -torch.log(torch.sigmoid(critic(drawn)).clamp(min=1e-12)).mean()


@game.variant
def by_cross_entropy(critic, drawn):
    score = critic(drawn)
    return F.binary_cross_entropy_with_logits(score, torch.ones_like(score))


@game.variant
def in_double(critic, drawn):
    return -F.logsigmoid(critic(drawn).double()).mean().item()


# how much of what is real is drawn?

coverage = Exercise(
    "15.coverage",
    r"""Write the metric that catches a generator which leaves things out. Draw a ball around each *real* point that reaches to its `k`-th nearest *other real* point. A real point is covered if at least one sample lies in its ball. `my_coverage(samples, real, k)` gets points (N, D) and (M, D); return the share of real points that are covered.
    (Naeem et al. 2020. The check has real points in five clusters, and samples that reach only some.)""",
    hints=[
        "torch.cdist(real, real) holds all distances between real points, (M, M); each point is its own nearest: distance 0.",
        "So the k-th nearest other point is number k + 1: torch.cdist(real, real).kthvalue(k + 1, dim=1).values.",
        "torch.cdist(samples, real).min(0).values is each real point's distance to the nearest sample.",
    ],
)


def _clusters():
    """Five clusters of real points; samples in two of them, and a few far away."""
    g = torch.Generator().manual_seed(3)
    centres = torch.tensor([[0.0, 0], [4, 0], [0, 4], [-4, 0], [0, -4]], dtype=torch.float64)
    real = (centres[:, None] + 0.5 * torch.randn(5, 30, 2, generator=g, dtype=torch.float64)).reshape(-1, 2)
    near = (centres[:2, None] + 0.6 * torch.randn(2, 40, 2, generator=g, dtype=torch.float64)).reshape(-1, 2)
    return torch.cat([near, torch.tensor([[20.0, 20], [30, 0]], dtype=torch.float64)]), real


def _reach(x, k, itself=1):
    return torch.cdist(x, x).kthvalue(k + itself, dim=1).values


@coverage.oracle
def _(my_coverage):
    samples, real = _clusters()
    k = 4
    apart, reach = torch.cdist(samples, real), _reach(real, k)
    out = numbers(call(my_coverage, samples.clone(), real.clone(), k), (), "one number, a share from 0 to 1")
    right = (apart < reach).any(0).double().mean()
    if agrees(out, right, 1e-6):
        return f"Samples that reach two clusters of five cover {right:.0%} of the real points."
    inside = apart < reach
    for guess, says in (
        ((apart < _reach(real, k, 0)).any(0).double().mean(), "The balls are too small: each point was counted as its own nearest neighbour."),
        (inside.any(1).double().mean(), "That is the share of *samples* that lie in a ball (precision). Ask it of the real points."),
        ((apart < _reach(samples, k)[:, None]).any(0).double().mean(), "The balls stand around the samples (that is recall): one stray sample has a huge one. Put them around the real points."),
        (inside.any(0).double().sum(), "That is the number of covered points. Divide by how many real points there are."),
        (inside.double().mean(), "That is the mean over all pairs. A real point is covered once *any* sample lies in its ball."),
        (inside.sum() / (k * len(samples)), "That is the density. A ball with many samples counts once here."),
        (1 - right, "That is the share that is *not* covered."),
    ):  # fmt: skip
        if agrees(out, guess.double(), 1e-6):
            raise IncorrectAnswer(says)
    raise IncorrectAnswer(f"The coverage should be {right:.3f}, and is {out:.3f}.")


@coverage.answer
def my_coverage(samples, real, k):
    reach = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    return (torch.cdist(samples, real).min(0).values < reach).double().mean()


@coverage.mutant("own nearest neighbour")
def counts_itself(samples, real, k):
    return (torch.cdist(samples, real) < _reach(real, k, 0)).any(0).double().mean()


@coverage.mutant("precision")
def share_of_samples(samples, real, k):
    return (torch.cdist(samples, real) < _reach(real, k)).any(1).double().mean()


@coverage.mutant("stand around the samples")
def balls_around_samples(samples, real, k):
    return (torch.cdist(samples, real) < _reach(samples, k)[:, None]).any(0).double().mean()


@coverage.mutant("number of covered points")
def counted(samples, real, k):
    return (torch.cdist(samples, real) < _reach(real, k)).any(0).double().sum()


@coverage.mutant("mean over all pairs")
def over_pairs(samples, real, k):
    return (torch.cdist(samples, real) < _reach(real, k)).double().mean()


@coverage.mutant("density")
def how_dense(samples, real, k):
    return (torch.cdist(samples, real) < _reach(real, k)).sum() / (k * len(samples))


@coverage.mutant("*not* covered")
def missed(samples, real, k):
    return 1 - my_coverage(samples, real, k)


@coverage.variant
def by_sorting(samples, real, k):
    reach = torch.cdist(real, real).sort(dim=1).values[:, k]
    return float((torch.cdist(real, samples) < reach[:, None]).any(1).float().mean())


@coverage.variant
def point_by_point(samples, real, k):
    covered = 0
    for i, point in enumerate(real):
        others = torch.cat([real[:i], real[i + 1 :]])
        reach = (others - point).norm(dim=1).sort().values[k - 1]
        covered += bool(((samples - point).norm(dim=1) < reach).any())
    return covered / len(real)
