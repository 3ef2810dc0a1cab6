"""The exact mixture, against what is known of it by other ways."""

from __future__ import annotations

import torch

from learn_diffusion.mixture import GaussianMixture
from learn_diffusion.samplers import ddim, final_sample
from learn_diffusion.schedules import Cosine, Flow

CENTRES = torch.tensor([[0.0, 0.8], [1.1, -0.6], [-0.8, 0.3]], dtype=torch.float64)
SHARE = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)
CLASSES = torch.tensor([0, 0, 1])


def noise(n, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(schedule):
    return GaussianMixture(CENTRES, SHARE, CLASSES, 0.2, schedule)


def test_its_noise_is_the_gradient_of_its_density():
    for schedule in (Cosine(), Flow()):
        world, t = mixture(schedule), torch.tensor(0.4, dtype=torch.float64)
        for y in (None, 0, 1):
            x = noise(50).requires_grad_()
            (score,) = torch.autograd.grad(world.log_density(x, t, y).sum(), x)
            asked = None if y is None else torch.full((50,), y)
            torch.testing.assert_close(world(x.detach(), t, asked).eps, -schedule.sigma(t) * score)


def test_its_classifier_obeys_bayes_rule_and_adds_up_to_one():
    world, x, t = mixture(Cosine()), noise(50), torch.tensor(0.5, dtype=torch.float64)
    for y, share in ((0, 0.5), (1, 0.5)):
        bayes = world.log_density(x, t, y) + torch.tensor(share).log() - world.log_density(x, t)
        torch.testing.assert_close(world.log_prob(y, x, t), bayes)
    torch.testing.assert_close(sum(world.log_prob(y, x, t).exp() for y in (0, 1)), torch.ones(50, dtype=x.dtype))


def test_a_row_whose_condition_is_dropped_asks_for_nothing():
    world, x, t, y = mixture(Cosine()), noise(6), torch.tensor(0.5, dtype=torch.float64), torch.zeros(6).long()
    keep = torch.tensor([True, False] * 3)
    torch.testing.assert_close(world(x, t, y, keep).x0[keep], world(x, t, y).x0[keep])
    torch.testing.assert_close(world(x, t, y, keep).x0[~keep], world(x, t).x0[~keep])


def test_walking_back_with_it_draws_the_mixture():
    schedule = Cosine()
    x = final_sample(ddim(mixture(schedule), schedule, noise(4000), schedule.timesteps(100)))
    away, blob = torch.cdist(x, CENTRES).min(1)
    shares = torch.bincount(blob, minlength=3) / len(x)
    torch.testing.assert_close(shares, SHARE.float(), atol=0.03, rtol=0)
    assert (
        abs(away.square().mean().item() / (2 * 0.2**2) - 1) < 0.06
    )  # two axes of variance 0.04; DDIM narrows a little
