"""Chapter 15, Are they better than GANs?"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise

# what the generator wants


def my_generator_loss(critic, real, drawn):
    return F.softplus(critic(real) - critic(drawn)).mean()


def _critic(points):
    return 1.5 * points[:, 0] - 0.4


def _sure(points):
    return 200 * points[:, 0]


REAL = torch.tensor([[0.0], [1.2], [-0.7], [1.4], [2.0]])
DRAWN = torch.tensor([[-2.0], [-0.5], [0.3], [1.0], [4.0]])
ROUNDS = "Right for small differences, but not for -400: sigmoid rounds to 0 there, and exp overflows. F.softplus does neither."

Exercise(
    "15.generator_loss",
    r"""Write the loss of the *generator* in the game of 2024. `my_generator_loss(critic, real, drawn)` gets a critic, whose `critic(points)` is one score for each row, and real and drawn points, (B, D) each. The critic compares them pair by pair: it takes the drawn one for the real one with probability sigmoid(score of the drawn one - score of the real one). The generator wants just that: return the mean over the pairs of *minus the logarithm of that probability*.
    (Jolicoeur-Martineau 2018 calls such a loss relativistic. At a difference of -400 sigmoid rounds to 0, and -log(0) is infinite. Use one function for both steps: F.softplus(x) is log(1 + exp(x)).)""",
    hints=[
        "-log(sigmoid(s)) is log(1 + exp(-s)). What is s here?",
        "The first term of the critic's loss, which the chapter shows, asks the same of the other side.",
        "F.softplus(critic(real) - critic(drawn)), then the mean.",
    ],
    solution=my_generator_loss,
    inputs=[(_critic, REAL, DRAWN), (_sure, REAL, DRAWN)],
    result="the mean over the pairs",
    mistakes={
        "That is the critic's side of the game: this loss is small when the critic is not fooled.": (
            lambda critic, real, drawn: F.softplus(critic(drawn) - critic(real)).mean()
        ),
        "That is the loss of 2014, which looks at drawn points alone. Here each is compared with a real one.": (
            lambda critic, real, drawn: F.softplus(-critic(drawn)).mean()
        ),
        "That is log(1 - P). It is flat where the critic is sure, just when the generator has most to learn. Take "
        "-log(P).": lambda critic, real, drawn: -F.softplus(critic(drawn) - critic(real)).mean(),
        "That is the difference of the scores itself (the Wasserstein loss). Here it goes through -log(sigmoid) "
        "first.": lambda critic, real, drawn: (critic(real) - critic(drawn)).mean(),
        "Each drawn point is compared with every real one. Compare them pair by pair.": (
            lambda critic, real, drawn: F.softplus(critic(real)[:, None] - critic(drawn)).mean()
        ),
        "The mean scores are compared. First compare pair by pair, then take the mean.": (
            lambda critic, real, drawn: F.softplus(critic(real).mean() - critic(drawn).mean())
        ),
        "That is the sum over the batch. Take the mean.": (
            lambda critic, real, drawn: F.softplus(critic(real) - critic(drawn)).sum()
        ),
        "That is the probability itself. Take minus its logarithm.": lambda critic, real, drawn: (
            -torch.sigmoid(critic(drawn) - critic(real)).mean()
        ),
        "The mean is inside the logarithm. First the logarithms, then the mean.": lambda critic, real, drawn: (
            -torch.sigmoid(critic(drawn) - critic(real)).mean().log()
        ),
        ROUNDS: [
            lambda critic, real, drawn: -torch.log(torch.sigmoid(critic(drawn) - critic(real)).clamp(min=1e-12)).mean(),
            lambda critic, real, drawn: -torch.sigmoid(critic(drawn) - critic(real)).log().mean(),
        ],
    },
    variants=[
        lambda critic, real, drawn: F.binary_cross_entropy_with_logits(
            critic(drawn) - critic(real), torch.ones(len(drawn))
        ),
        lambda critic, real, drawn: -F.logsigmoid(critic(drawn).double() - critic(real).double()).mean().item(),
    ],
    right=f"The generator of the check has a loss of {my_generator_loss(_critic, REAL, DRAWN):.2f}; where drawn and real score alike it is 0.69.",
    otherwise=lambda got, expected, critic, real, drawn: (
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
