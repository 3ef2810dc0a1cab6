"""Chapter 15, Are they better than GANs?"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise

# what the generator wants


def my_generator_loss(critic, drawn):
    return F.softplus(-critic(drawn)).mean()


def _critic(drawn):
    return 1.5 * drawn[:, 0] - 0.4


def _sure(drawn):
    return 200 * drawn[:, 0]


DRAWN = torch.tensor([[-2.0], [-0.5], [0.3], [1.0], [4.0]])
ROUNDS = "Right for small scores, but not for -400: sigmoid rounds to 0 there. softplus does not."

Exercise(
    "15.generator_loss",
    r"""Write the classical loss of a generator. `my_generator_loss(critic, drawn)` gets a critic, whose `critic(drawn)` is one score for each row, and a batch of drawn points (B, D). The critic believes a row to be real with probability sigmoid(score). The generator wants to be believed: return the mean of *minus the logarithm of that probability*.
    (Goodfellow et al. 2014 call it the non-saturating loss. At a score of -400 sigmoid rounds to 0, and -log(0) is infinite. Use one function for both steps: F.softplus(x) is log(1 + exp(x)). Compare with chapter 15's loss: there is no real picture in this one.)""",
    hints=[
        "-log(sigmoid(s)) is log(1 + exp(-s)), and F.softplus(x) is log(1 + exp(x)).",
        "F.softplus(-critic(drawn)), then the mean.",
    ],
    solution=my_generator_loss,
    inputs=[(_critic, DRAWN), (_sure, DRAWN)],
    result="the mean over the batch",
    mistakes={
        "The sign is wrong: this loss is small when the critic is not fooled.": lambda critic, drawn: F.softplus(
            critic(drawn)
        ).mean(),
        "That is the first loss of 2014, log(1 - sigmoid(score)). It is flat where the critic is sure, just when the "
        "generator has most to learn. Take -log(sigmoid(score)).": lambda critic, drawn: (
            -F.softplus(critic(drawn)).mean()
        ),
        "That is the score itself (the Wasserstein loss). Here it goes through -log(sigmoid) first.": (
            lambda critic, drawn: -critic(drawn).mean()
        ),
        "That is the sum over the batch. Take the mean.": lambda critic, drawn: F.softplus(-critic(drawn)).sum(),
        "That is the probability itself. Take minus its logarithm.": lambda critic, drawn: (
            -torch.sigmoid(critic(drawn)).mean()
        ),
        "The mean is inside the logarithm. First the logarithms, then the mean.": lambda critic, drawn: (
            -torch.sigmoid(critic(drawn)).mean().log()
        ),
        ROUNDS: lambda critic, drawn: -torch.log(torch.sigmoid(critic(drawn)).clamp(min=1e-12)).mean(),
    },
    variants=[
        lambda critic, drawn: F.binary_cross_entropy_with_logits(critic(drawn), torch.ones(len(drawn))),
        lambda critic, drawn: -F.logsigmoid(critic(drawn).double()).mean().item(),
    ],
    right=f"The generator of the check has a loss of {my_generator_loss(_critic, DRAWN):.2f}; one that is always believed has 0.",
    otherwise=lambda got, expected, critic, drawn: (
        ROUNDS if critic is _sure else f"The loss should be {expected:.3f}, and is {got:.3f}."
    ),
)

# how much of what is real is drawn?


def my_coverage(samples, real, k):
    reach = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    return (torch.cdist(samples, real).min(0).values < reach).double().mean()


def _inside(samples, real, k):
    """Which sample lies in which ball, (N, M)."""
    return (torch.cdist(samples, real) < torch.cdist(real, real).kthvalue(k + 1, dim=1).values).double()


def point_by_point(samples, real, k):
    covered = 0
    for i, point in enumerate(real):
        others = torch.cat([real[:i], real[i + 1 :]])
        reach = (others - point).norm(dim=1).sort().values[k - 1]
        covered += bool(((samples - point).norm(dim=1) < reach).any())
    return covered / len(real)


def _clusters():
    """Five clusters of real points; samples in two of them, and a few far away."""
    g = torch.Generator().manual_seed(3)
    centres = torch.tensor([[0.0, 0], [4, 0], [0, 4], [-4, 0], [0, -4]], dtype=torch.float64)
    real = (centres[:, None] + 0.5 * torch.randn(5, 30, 2, generator=g, dtype=torch.float64)).reshape(-1, 2)
    near = (centres[:2, None] + 0.6 * torch.randn(2, 40, 2, generator=g, dtype=torch.float64)).reshape(-1, 2)
    samples = torch.cat([near, torch.tensor([[20.0, 20], [30, 0]], dtype=torch.float64)])
    return [(samples, real, 2), (samples, real, 4)]


Exercise(
    "15.coverage",
    r"""Write the metric that catches a generator which leaves things out. Draw a ball around each *real* point that reaches to its `k`-th nearest *other real* point. A real point is covered if at least one sample lies in its ball. `my_coverage(samples, real, k)` gets points (N, D) and (M, D); return the share of real points that are covered.
    (Naeem et al. 2020. The check has real points in five clusters, and samples that reach only some.)""",
    hints=[
        "torch.cdist(real, real) holds all distances between real points, (M, M); each point is its own nearest: distance 0.",
        "So the k-th nearest other point is number k + 1: torch.cdist(real, real).kthvalue(k + 1, dim=1).values.",
        "torch.cdist(samples, real).min(0).values is each real point's distance to the nearest sample.",
    ],
    solution=my_coverage,
    inputs=_clusters,
    result="the coverage",
    tolerance=1e-6,
    mistakes={
        "The balls are too small: each point was counted as its own nearest neighbour.": lambda samples, real, k: (
            my_coverage(samples, real, k - 1)
        ),
        "That is the share of *samples* that lie in a ball (precision). Ask it of the real points.": (
            lambda *args: _inside(*args).amax(1).mean()
        ),
        "The balls stand around the samples (that is recall): one stray sample has a huge one. Put them around the real "
        "points.": lambda samples, real, k: _inside(real, samples, k).amax(1).mean(),
        "That is the number of covered points. Divide by how many real points there are.": (
            lambda samples, real, k: my_coverage(samples, real, k) * len(real)
        ),
        "That is the mean over all pairs. A real point is covered once *any* sample lies in its ball.": (
            lambda *args: _inside(*args).mean()
        ),
        "That is the density. A ball with many samples counts once here.": lambda samples, real, k: (
            _inside(samples, real, k).sum() / (k * len(samples))
        ),
        "That is the share that is *not* covered.": lambda *args: 1 - my_coverage(*args),
    },
    variants=[point_by_point],
    right="Samples that reach two clusters of five cover {expected:.0%} of the real points.",
)
