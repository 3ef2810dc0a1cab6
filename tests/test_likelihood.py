"""Likelihoods, bounds and walks, against a mixture of which everything is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from learn_diffusion import likelihood
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.mixture import GaussianMixture
from learn_diffusion.nets import MLP
from learn_diffusion.process import from_x0
from learn_diffusion.samplers import ddim
from learn_diffusion.schedules import EDM, VP, Cosine, Flow

CENTRES = torch.tensor([[-1.0, -0.6], [1.0, -0.4], [0.1, 1.0]]).double()
SHARE = torch.tensor([0.5, 0.3, 0.2]).double()
WIDTH = 0.3


def world(schedule):
    return GaussianMixture(CENTRES, SHARE, torch.zeros(3), WIDTH, schedule)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw(n, seed=0):
    blob = torch.multinomial(SHARE, n, True, generator=torch.Generator().manual_seed(seed))
    return CENTRES[blob] + WIDTH * normal(n, 2, seed=seed + 1)


def log_p(x):
    return world(VP()).log_density(x, torch.tensor(0.0)) - math.log(2 * math.pi * WIDTH**2)


def levels(schedule, n, clean=10.0, noisy=-10.0):
    return schedule.t_of_logsnr(torch.linspace(clean, noisy, n, dtype=torch.float64))


@pytest.mark.parametrize(
    ("schedule", "ends"),
    [(VP(), (10, -10)), (Cosine(), (10, -10)), (Flow(), (16, -14)), (EDM(), (10, -8.7))],  # Flow shrinks at once
    ids=lambda it: type(it).__name__,
)
def test_the_ode_gives_the_exact_likelihood_on_every_path(schedule, ends):
    x = draw(200)
    found = likelihood.log_likelihood(world(schedule), schedule, x, levels(schedule, 161, *ends))
    torch.testing.assert_close(found, log_p(x), atol=0.02, rtol=0)
    assert found.mean() == pytest.approx(log_p(x).mean().item(), rel=0.005)


def test_the_ode_is_of_second_order():
    x, schedule = draw(100), VP()

    def off(n):
        found = likelihood.log_likelihood(world(schedule), schedule, x, levels(schedule, n + 1))
        exact = likelihood.log_likelihood(world(schedule), schedule, x, levels(schedule, 401))
        return (found - exact).abs().mean()

    assert 3 < off(50) / off(100) < 6


def test_hutchinson_is_right_on_average_and_scatters_less_with_more_probes():
    x, schedule, g = draw(400), VP(), torch.Generator().manual_seed(0)
    exact = likelihood.log_likelihood(world(schedule), schedule, x, levels(schedule, 41))
    spread = {}
    for probes in (1, 16):
        off = likelihood.log_likelihood(world(schedule), schedule, x, levels(schedule, 41), probes, g) - exact
        spread[probes] = off.std().item()
        assert abs(off.mean()) < 4 * off.std() / 20
    assert 3 < spread[1] / spread[16] < 5  # the root of 16


def test_divergence_of_pictures_is_the_trace():
    x = normal(3, 1, 2, 2).requires_grad_()
    matrix = normal(4, 4, seed=1)
    v = (x.flatten(1) @ matrix.T).view_as(x)
    torch.testing.assert_close(likelihood.divergence(v, x), matrix.trace().expand(3))
    many = likelihood.divergence(v, x, 4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(many, matrix.trace().expand(3), atol=0.25, rtol=0)


def test_each_term_of_the_bound_is_the_divergence_of_two_gaussians():
    """The step of ddim(eta=1) with the true x0, and with the estimate: KL(q(x_s | x_t, x_0) || p(x_s | x_t))."""
    schedule, x0 = VP(), draw(50)
    s, t = levels(schedule, 20)[10:12]
    eps = normal(50, 2, seed=5)
    terms = likelihood.elbo(
        world(schedule), schedule, x0, torch.stack([s, t]), _Replay([normal(50, 2, seed=6), eps])
    ).steps[0]
    xt = schedule.add_noise(x0, eps, t)

    def step(denoise, seed):
        return next(ddim(denoise, schedule, xt, torch.stack([t, s]), 1.0, torch.Generator().manual_seed(seed))).x

    def known(x, t):
        return from_x0(x, x0, *schedule.at(t, x))

    width = schedule.sigma(s) * (1 - (schedule.logsnr(t) - schedule.logsnr(s)).exp()).sqrt()
    kl = kl_divergence(Normal(step(known, 3), width), Normal(step(world(schedule), 3), width)).sum(1)
    torch.testing.assert_close(terms, kl)
    assert (step(known, 3) - step(known, 4)).std() == pytest.approx(width.item() * 2**0.5, rel=0.2)


class _Replay:
    """Stands in for a generator: randn_like takes these tensors in turn."""

    def __init__(self, noises):
        self.noises = list(noises)


@pytest.fixture(autouse=True)
def _replayed(monkeypatch):
    drawn = likelihood.randn_like
    monkeypatch.setattr(
        likelihood, "randn_like", lambda x, g=None: g.noises.pop(0) if isinstance(g, _Replay) else drawn(x, g)
    )


def test_the_bound_is_below_the_truth_and_its_gap_halves_with_twice_the_levels():
    schedule, x = VP(), draw(4000)
    gap = {}
    for n in (100, 200):
        bound = likelihood.elbo(world(schedule), schedule, x, levels(schedule, n), torch.Generator().manual_seed(2))
        assert bound.steps.shape == (n - 1, 4000)
        off = log_p(x) - bound.total
        assert off.mean() > 5 * off.std() / 4000**0.5
        gap[n] = off.mean().item()
    assert 1.5 < gap[100] / gap[200] < 2.8
    assert bound.prior.abs().max() < 0.01


def test_a_wrong_model_has_a_lower_bound_and_likelihood():
    schedule, x = VP(), draw(1000)
    wrong = GaussianMixture(CENTRES, SHARE, torch.zeros(3), 0.4, schedule)
    ts, g = levels(schedule, 101), torch.Generator().manual_seed(0)
    assert likelihood.log_likelihood(wrong, schedule, x, ts).mean() < log_p(x).mean() - 0.05
    assert likelihood.elbo(wrong, schedule, x, ts, g).total.mean() < log_p(x).mean() - 0.05


def test_a_network_in_float32_has_a_likelihood_without_gradients_of_its_weights():
    torch.manual_seed(0)
    model = Denoiser(MLP(width=8), Cosine(), "v")
    with torch.no_grad():
        found = likelihood.log_likelihood(model, Cosine(), draw(5).float(), levels(Cosine(), 5).float(), 1)
    assert found.shape == (5,)
    assert not found.requires_grad
    assert all(w.grad is None for w in model.parameters())


def test_ks_is_small_for_draws_and_large_for_others():
    schedule, t = VP(), torch.tensor(0.3).double()
    xt = schedule.add_noise(draw(2000), normal(2000, 2, seed=4), t)
    found = likelihood.marginal_ks(xt, world(schedule), t)
    assert found.statistic < found.chance == pytest.approx(1.95 / 2000**0.5, rel=0.01)
    assert likelihood.marginal_ks(xt + 0.2, world(schedule), t).statistic > found.chance


def euler(drift, g, x, ts, z):
    states = [x]
    for i in range(len(z)):
        dt = ts[i + 1] - ts[i]
        x = x + drift(x, ts[i]) * dt + g(x, ts[i]) * dt.abs().sqrt() * z[i]
        states.append(x)
    return torch.stack(states)


def test_euler_and_maruyama_have_order_one_half_and_one_where_noise_does_not_depend_on_x():
    g, x = torch.Generator().manual_seed(0), torch.ones(500, 1).double()
    half = likelihood.strong_order(euler, lambda x, t: 0, lambda x, t: x, x, 0, 1, g)
    one = likelihood.strong_order(euler, lambda x, t: -x * (1 + x**2), lambda x, t: 1 + t, x, 0, 1, g)
    assert half.order.value == pytest.approx(0.5, abs=0.12)
    assert one.order.value == pytest.approx(1, abs=0.12)
    assert half.steps == [512, 256, 128, 64, 32]
    assert (half.gap.diff() > 0).all()
    assert half.error.shape == half.gap.shape == (5,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.ones(3, 2).long()}, "x: expected a float tensor"),
        ({"x": torch.full((3, 2), math.nan)}, "x: "),
        ({"ts": torch.tensor([0.5, 0.1])}, "ts: expected at least two noise levels that increase"),
        ({"ts": torch.tensor([0.5])}, "ts: expected at least two noise levels that increase"),
        ({"ts": torch.tensor([0.0, 1.0])}, "ts: expected levels with noise in them, got 0 first"),
        ({"ts": torch.tensor([0.1, 1.5])}, "ts: expected noise levels in"),
        ({"probes": 0}, "probes: expected a whole number"),
    ],
)
def test_bad_input_is_refused_by_name(change, words):
    given = {"x": torch.zeros(3, 2), "ts": torch.tensor([0.1, 1.0])} | change
    with pytest.raises((TypeError, ValueError), match=f"^{words}"):
        likelihood.log_likelihood(world(VP()), VP(), **given)


def test_other_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match="^v: expected the shape of x"):
        likelihood.divergence(torch.zeros(3, 1), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="^x: expected at least 20 walks, got 3"):
        likelihood.strong_order(euler, abs, abs, torch.zeros(3, 1), 0, 1)
    with pytest.raises(ValueError, match="^x: expected 2 dimensions"):
        likelihood.marginal_ks(torch.zeros(3), world(VP()), torch.tensor(0.5))
