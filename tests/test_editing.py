"""Editing: what is kept is kept to the last bit, and what is new is compared with posteriors known exactly."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import inf, nan

import pytest
import torch
from torch.testing import assert_close

from learn_diffusion.denoiser import Denoiser, with_image_cond
from learn_diffusion.editing import (
    ddnm,
    diffedit_mask,
    invert,
    pigdm,
    repaint,
    replacement,
    sdedit,
    slerp,
    truncate,
)
from learn_diffusion.guidance import cfg, clip_x0
from learn_diffusion.nets import UNet
from learn_diffusion.process import Estimate, from_x0
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample, heun
from learn_diffusion.schedules import DDPM, EDM, VP, Cosine, Flow
from learn_diffusion.training import loss, train

PATHS = [DDPM(), VP(), Cosine(), EDM(), Flow()]
by_path = pytest.mark.parametrize("schedule", PATHS, ids=lambda schedule: type(schedule).__name__)
SAMPLERS = {"ddim": ddim, "ddpm": partial(ddim, eta=1.0), "heun": heun, "dpmpp_2m": dpmpp_2m}
METHODS = {"ddnm": ddnm, "replacement": replacement, "pigdm": pigdm}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=dtype)


def start(schedule, *shape: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return noise(*shape, seed=seed, dtype=dtype) * schedule.sigma(torch.tensor(schedule.t_max)).to(dtype)


class Gaussian:
    """The exact denoiser of data with mean m (D,) and covariance C (D, D), on any path."""

    def __init__(self, schedule, m, C):
        self.schedule, self.m, self.C, self.calls = schedule, m, C, 0

    def __call__(self, x, t):
        self.calls += 1
        alpha, sigma = self.schedule.at(t, x)
        gain = alpha * self.C @ torch.linalg.inv(alpha**2 * self.C + sigma**2 * torch.eye(len(self.m)).to(x))
        x0 = self.m + (x - alpha * self.m) @ gain.T
        return from_x0(x, x0, alpha, sigma)


CORRELATED = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
ZERO = torch.zeros(2, dtype=torch.float64)
FIRST = torch.tensor([[True, False]])


def picture(n: int = 3, seed: int = 1) -> torch.Tensor:
    """Pictures (n, 3, 8, 8) whose values no arithmetic meets by chance."""
    return noise(n, 3, 8, 8, seed=seed).tanh()


def left_half() -> torch.Tensor:
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., :4] = True
    return mask


def blurry(schedule):
    """A stand-in for a trained model: differentiable, finite at every level, and not right about anything."""

    def denoise(x, t):
        alpha, sigma = schedule.at(t, x)
        x0 = torch.tanh(0.3 * x / (alpha + sigma))
        return from_x0(x, x0, alpha, sigma)

    return denoise


# ---- what is kept ----


@by_path
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_kept_pixels_come_out_as_they_went_in(schedule, method, sampler):
    known, mask = picture(), left_half()
    denoise = METHODS[method](clip_x0(blurry(schedule), schedule), schedule, known, mask)
    x = final_sample(SAMPLERS[sampler](denoise, schedule, start(schedule, 3, 3, 8, 8), schedule.timesteps(7)))
    kept = mask.expand_as(known)
    assert torch.equal(x[kept], known[kept])
    assert not torch.isclose(x[~kept], known[~kept]).any()
    assert torch.isfinite(x).all()


@by_path
@pytest.mark.parametrize("resample", [1, 3])
def test_repaint_keeps_what_is_known(schedule, resample):
    known, mask = picture(), left_half()
    states = list(repaint(blurry(schedule), schedule, known, mask, schedule.timesteps(5), resample, gen()))
    assert len(states) == 5 * resample
    kept = mask.expand_as(known)
    assert torch.equal(states[-1].x[kept], known[kept])
    assert torch.isfinite(states[-1].x).all()


@by_path
@pytest.mark.parametrize("method", METHODS)
def test_estimates_still_explain_x_t(schedule, method):
    x, known, mask = noise(3, 3, 8, 8), picture(), left_half()
    denoise = METHODS[method](blurry(schedule), schedule, known, mask)
    for u in (0.1, 0.5, 0.9):
        t = schedule.time_at(torch.tensor(u, dtype=torch.float64))
        alpha, sigma = schedule.at(t, x)
        est = denoise(x, t)
        kept = mask.expand_as(known)
        assert torch.equal(est.x0[kept], known[kept])
        assert_close(alpha * est.x0 + sigma * est.eps, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_mask_that_keeps_nothing_changes_nothing_and_one_that_keeps_all_gives_the_picture(method):
    schedule, known = Cosine(), picture()
    wrap, x = METHODS[method], start(Cosine(), 3, 3, 8, 8)
    nothing = wrap(blurry(schedule), schedule, known, torch.zeros(1, 1, 8, 8, dtype=torch.bool))
    assert_close(
        final_sample(ddim(nothing, schedule, x, schedule.timesteps(5))),
        final_sample(ddim(blurry(schedule), schedule, x, schedule.timesteps(5))),
    )
    everything = wrap(blurry(schedule), schedule, known, torch.ones(3, 1, 8, 8, dtype=torch.bool))
    assert torch.equal(final_sample(ddim(everything, schedule, x, schedule.timesteps(5))), known)


def test_they_compose_with_guidance():
    schedule, known, mask = Cosine(), picture(2), left_half()
    torch.manual_seed(0)
    model = Denoiser(UNet(channels=3, widths=(8, 16), classes=3), schedule, "v").eval()
    for method in METHODS.values():
        denoise = method(clip_x0(cfg(model, torch.tensor([0, 2]), 3.0), schedule), schedule, known, mask)
        x = final_sample(dpmpp_2m(denoise, schedule, start(schedule, 2, 3, 8, 8), schedule.timesteps(4)))
        assert torch.equal(x[..., :4], known[..., :4])


# ---- what is new: exact posteriors ----


def given_first(denoise, schedule, value: float, method: str, n: int = 20_000, steps: int = 100, **how):
    """Draws of the second value (n,) of correlated data whose first value is known."""
    known = torch.tensor([[value, 0.0]], dtype=torch.float64).expand(n, 2)
    if method == "repaint":
        return final_sample(
            repaint(denoise, schedule, known, FIRST, schedule.timesteps(steps), generator=gen(), **how)
        )[:, 1]
    wrapped = METHODS[method](denoise, schedule, known, FIRST, **how)
    x = start(schedule, n, 2, dtype=torch.float64)
    return final_sample(ddim(wrapped, schedule, x, schedule.timesteps(steps), eta=1.0, generator=gen(1)))[:, 1]


@pytest.mark.parametrize("schedule", [Flow(), Cosine()], ids=lambda schedule: type(schedule).__name__)
def test_replacement_is_biased_and_repaint_comes_close(schedule):
    """p(x2 | x1 = 1) is normal with mean 0.8 and variance 0.36: C21/C11 and C22 - C21^2/C11."""
    denoise = Gaussian(schedule, ZERO, CORRELATED)
    off = {
        name: abs(given_first(denoise, schedule, 1.0, method, **how).mean().item() - 0.8)
        for name, method, how in (
            ("replacement", "replacement", {}),
            ("ddnm", "ddnm", {}),
            ("repaint", "repaint", {"resample": 20}),
        )
    }
    assert off["replacement"] > 0.02, off
    assert off["repaint"] < off["replacement"] / 2, off
    assert off["repaint"] < 0.02, off


@pytest.mark.parametrize(
    ("schedule", "sigma_data"),
    [*((schedule, None) for schedule in PATHS), (Cosine(), 0.3)],
    ids=lambda value: type(value).__name__ if value in PATHS else str(value),
)
def test_reconstruction_is_exact_for_independent_values_measured_with_noise(schedule, sigma_data):
    """Data N(0, d^2) measured with noise s: the posterior is N(y d^2 / (d^2 + s^2), d^2 s^2 / (d^2 + s^2))."""
    d, s, y, n = sigma_data or schedule.sigma_data, 0.4, 0.9, 20_000
    denoise = Gaussian(schedule, ZERO, d**2 * torch.eye(2, dtype=torch.float64))
    known = torch.full((n, 2), y, dtype=torch.float64)
    wrapped = pigdm(denoise, schedule, known, FIRST, noise=s, sigma_data=sigma_data)
    x = start(schedule, n, 2, dtype=torch.float64)
    x = final_sample(ddim(wrapped, schedule, x, schedule.timesteps(300), eta=1.0, generator=gen(1)))
    mean, variance = y * d**2 / (d**2 + s**2), d**2 * s**2 / (d**2 + s**2)
    assert x[:, 0].mean().item() == pytest.approx(mean, abs=0.02)
    assert x[:, 0].var().item() == pytest.approx(variance, rel=0.06)
    assert x[:, 1].var().item() == pytest.approx(d**2, rel=0.06)  # nothing was said about the other


def test_reconstruction_pulls_along_correlation():
    schedule = Cosine()
    drawn = given_first(Gaussian(schedule, ZERO, CORRELATED), schedule, 1.0, "pigdm")
    assert drawn.mean().item() == pytest.approx(0.8, abs=0.05)


def test_reconstruction_at_scale_0_is_hold():
    schedule, known, mask = Cosine(), picture(), left_half()
    x, t = noise(3, 3, 8, 8), torch.tensor(0.4)
    for a, b in zip(
        pigdm(blurry(schedule), schedule, known, mask, 0.0)(x, t),
        ddnm(blurry(schedule), schedule, known, mask)(x, t),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_reconstruction_leaves_no_graph_behind():
    schedule, known, mask = Cosine(), picture(), left_half()
    est = pigdm(blurry(schedule), schedule, known, mask)(noise(3, 3, 8, 8), torch.tensor([0.2, 0.5, 1.0]))
    assert not est.x0.requires_grad
    assert not est.eps.requires_grad
    assert torch.isfinite(est.x0).all()
    assert torch.isfinite(est.eps).all()


def test_replacement_shows_fresh_noise_and_hold_the_same():
    schedule, known, mask = Cosine(), picture(), left_half()
    seen = []

    def spy(x, t):
        seen.append(x)
        return blurry(schedule)(x, t)

    x, t = noise(3, 3, 8, 8), torch.tensor(0.5)
    replaced, held = replacement(spy, schedule, known, mask, gen()), ddnm(spy, schedule, known, mask)
    for denoise in (replaced, replaced, held, held):
        denoise(x, t)
    assert not torch.equal(seen[0][..., :4], seen[1][..., :4])
    assert torch.equal(seen[0][..., 4:], x[..., 4:])
    assert torch.equal(seen[2], x)
    off = (seen[0] - schedule.alpha(t) * known)[..., :4] / schedule.sigma(t)
    assert off.std().item() == pytest.approx(1.0, abs=0.1)


# ---- changing ----


def test_strength_is_the_share_of_the_steps():
    ts = Cosine().timesteps(10)
    assert len(truncate(ts, 1.0)) == 11
    assert len(truncate(ts, 0.5)) == 6
    assert len(truncate(ts, 1e-9)) == 2
    assert truncate(ts, 0.3)[-1] == 0


@by_path
def test_sdedit_goes_from_faithful_to_free(schedule):
    picture = torch.tensor([[2.0, -2.0]], dtype=torch.float64).expand(500, 2)
    denoise = Gaussian(schedule, ZERO, 0.25 * torch.eye(2, dtype=torch.float64))
    off = [
        (final_sample(sdedit(denoise, schedule, picture, strength, schedule.timesteps(40), gen())) - picture)
        .abs()
        .mean()
        .item()
        for strength in (0.05, 0.3, 0.6, 1.0)
    ]
    assert all(a < b for a, b in pairwise(off)), off
    assert off[0] < 0.2
    assert off[-1] == pytest.approx(2.0, abs=0.2)  # free of the picture: 2 away from it on average


def test_sdedit_takes_any_sampler_and_the_same_noise_for_the_same_seed():
    schedule, ts = Cosine(), Cosine().timesteps(8)
    one, two = (
        final_sample(sdedit(blurry(schedule), schedule, picture(), 0.5, ts, gen(7), dpmpp_2m)) for _ in range(2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, final_sample(sdedit(blurry(schedule), schedule, picture(), 0.5, ts, gen(8), dpmpp_2m)))


@by_path
def test_inversion_returns_and_more_rounds_come_closer(schedule):
    denoise = Gaussian(schedule, ZERO, 0.3 * CORRELATED)
    picture, ts = noise(50, 2, seed=3, dtype=torch.float64), schedule.timesteps(30)[1:]  # alpha(t_max) may be 0
    off = []
    for fixed_point_iters in (1, 3, 12):
        denoise.calls = 0
        x_t = final_sample(invert(denoise, schedule, picture, ts, fixed_point_iters))
        assert denoise.calls == fixed_point_iters * (len(ts) - 1)
        off.append((final_sample(ddim(denoise, schedule, x_t, ts)) - picture).abs().max().item())
    assert off[0] > off[1] > off[2], off
    assert off[2] < 1e-3, off


def test_inverted_noise_looks_like_noise():
    schedule = Cosine()
    C = 0.3 * CORRELATED
    data = noise(4000, 2, seed=4, dtype=torch.float64) @ torch.linalg.cholesky(C).T
    x = final_sample(invert(Gaussian(schedule, ZERO, C), schedule, data, schedule.timesteps(200), fixed_point_iters=4))
    assert_close(x.T.cov(), torch.eye(2, dtype=torch.float64), atol=0.08, rtol=0)


def test_interpolation_keeps_the_length_and_the_ends():
    a, b = noise(4, 3, 8, 8), noise(4, 3, 8, 8, seed=1)
    assert_close(slerp(a, b, 0.0), a)
    assert_close(slerp(a, b, 1.0), b)
    half = slerp(a, b, 0.5)
    assert_close(half.std(), torch.tensor(1.0), atol=0.05, rtol=0)
    assert ((a + b) / 2).std() < 0.8
    assert_close(slerp(a, b, torch.tensor([0.0, 0.5, 0.5, 1.0]))[1], half[1])
    assert_close(slerp(a, a, 0.3), a)


def test_disagreement_finds_where_two_wishes_differ():
    schedule = Cosine()

    def other(x, t):
        est = blurry(schedule)(x, t)
        bump = torch.zeros_like(x)
        bump[..., 2:4, 5:7] = 0.5
        return from_x0(x, est.x0 + bump, *schedule.at(t, x))

    found = diffedit_mask(blurry(schedule), other, schedule, picture(), 0.5, n=2, generator=gen())
    assert found.shape == (3, 1, 8, 8)
    assert found.max().item() == pytest.approx(1.0)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:4, 5:7] = True
    assert torch.equal(found[0, 0] > 0.5, inside)
    same = diffedit_mask(blurry(schedule), blurry(schedule), schedule, picture(), 0.5, n=1, generator=gen())
    assert torch.equal(same, torch.zeros_like(same))


# ---- hints: pictures that a model is trained to look at ----


def test_a_model_with_hints_looks_at_them_and_learns_from_them():
    torch.manual_seed(0)
    data = picture(64)
    model = Denoiser(UNet(channels=3, widths=(8, 16), cond_channels=3), Cosine(), "v")
    *_, end = train(model, data, 60, image_cond=lambda x0, g: x0, batch=16, lr=5e-3)
    t, x = torch.full((64,), 0.9), noise(64, 3, 8, 8)
    x_t = Cosine().add_noise(data, x, t)
    with torch.no_grad():
        told = (end.ema(x_t, t, image_cond=data).x0 - data).square().mean()
        lied_to = (end.ema(x_t, t, image_cond=-data).x0 - data).square().mean()
    assert told < 0.5 * lied_to, (told, lied_to)


def test_hints_reach_guided_models():
    torch.manual_seed(0)
    model = Denoiser(UNet(channels=3, widths=(8, 16), classes=2, cond_channels=1), Cosine(), "v").eval()
    image_cond, y = noise(2, 1, 8, 8), torch.tensor([0, 1])
    with torch.no_grad():
        x, t = noise(2, 3, 8, 8), torch.tensor(0.5)
        guided = cfg(with_image_cond(model, image_cond), y, 2.0)(x, t)
        given, free = model(x, t, y, image_cond=image_cond), model(x, t, y, torch.tensor([False, False]), image_cond)
    assert_close(guided.x0, free.lerp(given, 2.0).x0)


def test_a_hint_that_does_not_fit_is_refused():
    model = Denoiser(UNet(channels=3, widths=(8, 16), cond_channels=1), Cosine(), "v").eval()
    x, t = noise(2, 3, 8, 8), torch.tensor(0.5)
    for wrong in (noise(2, 1, 4, 4), noise(3, 1, 8, 8), noise(2, 8, 8)):
        with pytest.raises(ValueError, match="image_cond: expected"):
            model(x, t, image_cond=wrong)
    with pytest.raises(ValueError, match="image_cond"):
        model(x, t)
    with pytest.raises(ValueError, match="image_cond: expected one for each"):
        with_image_cond(model, noise(3, 1, 8, 8))(x, t)
    with pytest.raises(ValueError, match="image_cond"):
        loss(model, picture(2), torch.tensor([0.5, 0.5]))


# ---- bad input ----


@pytest.mark.parametrize(
    ("known", "mask", "error", "says"),
    [
        (picture().byte(), left_half(), TypeError, "known: expected a float"),
        (picture() * nan, left_half(), ValueError, "known: expected finite"),
        (picture(), left_half().float(), TypeError, "mask: expected a bool"),
        (picture(), None, TypeError, "mask: expected a bool"),
        (picture(), left_half()[0], ValueError, "mask: expected a shape"),
        (picture(), left_half()[..., :6], ValueError, "mask: expected a shape"),
        (picture(), left_half().expand(2, 1, 8, 8), ValueError, "mask: expected a shape"),
    ],
)
@pytest.mark.parametrize("method", [*METHODS, "repaint"])
def test_a_bad_mask_or_picture_is_named(known, mask, error, says, method):
    schedule = Cosine()
    start_it = METHODS.get(method, lambda *arguments: next(repaint(*arguments, schedule.timesteps(3), 1)))
    with pytest.raises(error, match=says):
        start_it(blurry(schedule), schedule, known, mask)


@pytest.mark.parametrize("bad", [0, 1.5, -1, True])
def test_resample_and_rounds_must_be_whole_numbers_from_1(bad):
    schedule = Cosine()
    with pytest.raises(ValueError, match="resample: expected"):
        next(repaint(blurry(schedule), schedule, picture(), left_half(), schedule.timesteps(3), bad))
    with pytest.raises(ValueError, match="fixed_point_iters: expected"):
        next(invert(blurry(schedule), schedule, picture(), schedule.timesteps(3), bad))


@pytest.mark.parametrize("bad", [0, -0.1, 1.01, nan, "0.5", None])
def test_strength_must_be_a_share(bad):
    schedule = Cosine()
    with pytest.raises(ValueError, match="strength: expected"):
        sdedit(blurry(schedule), schedule, picture(), bad, schedule.timesteps(3))


@pytest.mark.parametrize("wrap", [ddnm, replacement, pigdm])
def test_what_is_known_is_not_broadcast_into_other_pictures_or_more(wrap):
    schedule, t = Cosine(), torch.tensor(0.5)
    one = wrap(blurry(schedule), schedule, picture(1), left_half())
    assert one(noise(3, 3, 8, 8), t).x0.shape == (3, 3, 8, 8)
    for known, mask, x, words in (
        (picture()[:, :1], left_half(), noise(3, 3, 8, 8), r"known: expected a shape like x, \(3, 3, 8, 8\)"),
        (picture(4), left_half(), noise(1, 3, 8, 8), "known: expected a shape like x"),
        (picture(1), left_half().repeat(4, 1, 1, 1), noise(1, 3, 8, 8), "mask: expected one row, or one for each"),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            wrap(blurry(schedule), schedule, known, mask)(x, t)
    with pytest.raises(ValueError, match="^mask: expected one row"):
        repaint(blurry(schedule), schedule, picture(1), left_half().repeat(4, 1, 1, 1), schedule.timesteps(3), 1)


def test_other_bad_arguments_are_named():
    schedule = Cosine()
    for bad in (inf, nan, "1"):
        with pytest.raises(ValueError, match="scale: expected"):
            pigdm(blurry(schedule), schedule, picture(), left_half(), bad)
    for bad in (-0.1, inf, nan):
        with pytest.raises(ValueError, match="noise: expected"):
            pigdm(blurry(schedule), schedule, picture(), left_half(), noise=bad)
    for bad in (0.0, -1.0, inf, nan):
        with pytest.raises(ValueError, match="sigma_data: expected"):
            pigdm(blurry(schedule), schedule, picture(), left_half(), sigma_data=bad)
    with pytest.raises(ValueError, match="b: expected the shape"):
        slerp(picture(2), picture(3), 0.5)
    no_graph = pigdm(lambda x, t: Estimate(picture(), picture()), schedule, picture(), left_half())
    with pytest.raises(ValueError, match="denoise: expected an estimate"):
        no_graph(picture(), torch.tensor(0.5))
