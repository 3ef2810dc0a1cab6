"""Guidance: the algebra of each wrapper, and what it does where the right answer is known: on mixtures of Gaussians."""

from __future__ import annotations

from math import inf

import pytest
import torch
from torch.testing import assert_close

from learn_diffusion.denoiser import Denoiser, with_image_cond
from learn_diffusion.editing import ddnm, diffedit_mask, pigdm, repaint, replacement
from learn_diffusion.guidance import BLIND, autoguidance, cfg, classifier_guidance, clip_x0, guidance_interval
from learn_diffusion.likelihood import elbo, log_likelihood
from learn_diffusion.nets import UNet
from learn_diffusion.process import Estimate, expand_like, from_x0
from learn_diffusion.samplers import SAMPLERS, ddim, final_sample
from learn_diffusion.schedules import EDM, Cosine, Flow, convert_schedule

PATHS = [Flow(), Cosine(), EDM()]
by_path = pytest.mark.parametrize("schedule", PATHS, ids=lambda schedule: type(schedule).__name__)
by_scale = pytest.mark.parametrize("scale", [-2.0, 0.0, 0.5, 1.0, 3.0, 1e4])
by_shape = pytest.mark.parametrize("one_level", [True, False], ids=["t ()", "t (B,)"])

CENTRES = torch.tensor([[-1.0, -0.5], [0.2, 0.9], [1.1, -0.3]], dtype=torch.float64)
CLASS = torch.tensor([0, 1, 1])  # the class of each blob
SHARE, WIDTH = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64), 0.3


def f64(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def levels(schedule, one_level: bool, n: int = 6) -> torch.Tensor:
    t = schedule.time_at(torch.linspace(0.1, 0.95, n, dtype=torch.float64))
    return t[n // 2] if one_level else t


def explains(est: Estimate, schedule, x, t, rtol=1e-9) -> None:
    """The invariant; its two terms may be far larger than their sum."""
    alpha, sigma = schedule.at(t, x)
    assert est.x0.shape == est.eps.shape == x.shape
    size = max(1.0, (sigma * est.eps).abs().max().item())
    assert_close(alpha * est.x0 + sigma * est.eps, x, rtol=0, atol=rtol * size)


class Mixture:
    """The exact denoiser of a mixture of Gaussians, of all of it or of one class; counts how often it is asked."""

    def __init__(self, schedule):
        self.schedule, self.batches = schedule, []

    def log_terms(self, x, t):
        """log of share times density of every blob, (B, blobs), and the mean that each blob gives x0."""
        alpha, sigma = self.schedule.at(t, x)
        variance = alpha**2 * WIDTH**2 + sigma**2
        off = x[:, None] - expand_like(self.schedule.alpha(t), x[:, None]) * CENTRES
        inside = CENTRES + (alpha * WIDTH**2 / variance)[..., None] * off
        log = SHARE.log() - off.square().sum(2) / (2 * variance) - variance.log()
        return log, inside

    def log_class(self, x, t, y):
        """log p(y | x_t), (B,)."""
        log, _ = self.log_terms(x, t)
        return torch.where(y[:, None] == CLASS, log, -inf).logsumexp(1) - log.logsumexp(1)

    def __call__(self, x, t, y=None, cond_mask=None):
        self.batches.append(len(x))
        log, inside = self.log_terms(x, torch.as_tensor(t))
        if y is not None:
            asked = y[:, None] == CLASS
            log = torch.where(asked if cond_mask is None else asked | ~cond_mask[:, None], log, -inf)
        x0 = (log.softmax(1)[..., None] * inside).sum(1)
        return from_x0(x, x0, *self.schedule.at(t, x))


Y = torch.tensor([0, 1, 1, 0, 1, 0])
NONE_KEPT = torch.zeros(6, dtype=torch.bool)


# ---- cfg ----


@by_path
@by_shape
@by_scale
def test_cfg_walks_from_the_free_answer_to_the_given_one_and_past_it(schedule, one_level, scale):
    model, x, t = Mixture(schedule), 2 * f64(6, 2), levels(schedule, one_level)
    est = cfg(model, Y, scale)(x, t)
    free, given = model(x, t), model(x, t, Y)
    assert_close(est.x0, (1 - scale) * free.x0 + scale * given.x0, rtol=1e-9, atol=1e-9)
    assert_close(est.eps, (1 - scale) * free.eps + scale * given.eps, rtol=1e-9, atol=1e-9)
    explains(est, schedule, x, t)


@by_path
@pytest.mark.parametrize(("scale", "batches"), [(0, [6]), (1, [6]), (3.0, [12]), (-1.0, [12])])
def test_cfg_asks_once(schedule, scale, batches):
    model = Mixture(schedule)
    cfg(model, Y, scale)(f64(6, 2), levels(schedule, False))
    assert model.batches == batches


@by_path
def test_the_two_conventions_differ_by_one(schedule):
    """Ho and Salimans 2022, eq. 6: (1 + w) given - w free, with w = scale - 1."""
    model, x, t, w = Mixture(schedule), f64(6, 2), levels(schedule, True), 1.7
    theirs = (1 + w) * model(x, t, Y).eps - w * model(x, t).eps
    assert_close(cfg(model, Y, w + 1)(x, t).eps, theirs)


def test_cfg_of_a_network_is_the_same_in_one_call_as_in_two():
    torch.manual_seed(0)
    model = Denoiser(UNet(widths=(8, 8), classes=2), Cosine(), "v").eval()
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.2)  # a new network answers 0, whatever it is asked
    x, t = torch.randn(6, 1, 8, 8), torch.linspace(0.2, 0.9, 6)
    with torch.no_grad():
        est = cfg(model, Y, 2.5)(x, t)
        free, given = model(x, t, Y, NONE_KEPT), model(x, t, Y)
    assert (free.x0 - given.x0).abs().max() > 1e-3
    assert_close(est.x0, free.lerp(given, 2.5).x0, rtol=1e-4, atol=1e-4)
    assert_close(cfg(model, Y, 0)(x, t).x0, free.x0, rtol=1e-4, atol=1e-4)


# ---- classifier ----


def by_classifier(schedule, scale, calls=None):
    model = Mixture(schedule)

    def log_prob(x, t):
        if calls is not None:
            calls.append(len(x))
        return model.log_class(x, torch.as_tensor(t), Y)

    return classifier_guidance(model, log_prob, schedule, scale)


@by_path
@by_shape
def test_an_exact_classifier_makes_the_exact_conditional_model(schedule, one_level):
    """Bayes' rule: grad log p(x) + grad log p(y | x) = grad log p(x | y)."""
    x, t = 2 * f64(6, 2), levels(schedule, one_level)
    est, right = by_classifier(schedule, 1.0)(x, t), Mixture(schedule)(x, t, Y)
    assert_close(est.x0, right.x0, rtol=1e-8, atol=1e-8)
    assert_close(est.eps, right.eps, rtol=1e-8, atol=1e-8)


@by_path
@by_shape
@by_scale
def test_classifier_guidance_and_cfg_are_one_where_both_are_exact(schedule, one_level, scale):
    x, t = 2 * f64(6, 2), levels(schedule, one_level)
    est, right = by_classifier(schedule, scale)(x, t), cfg(Mixture(schedule), Y, scale)(x, t)
    assert_close(est.x0, right.x0, rtol=1e-7, atol=1e-7)
    explains(est, schedule, x, t)


@by_path
def test_the_score_gains_scale_times_the_gradient(schedule):
    x, t, pull = f64(6, 2), levels(schedule, False), torch.tensor([0.5, -2.0], dtype=torch.float64)
    model = Mixture(schedule)
    est = classifier_guidance(model, lambda x, t: x @ pull, schedule, 3.0)(x, t)
    sigma = expand_like(schedule.sigma(t), x)
    assert_close(-est.eps / sigma, -model(x, t).eps / sigma + 3.0 * pull)
    explains(est, schedule, x, t)


def test_the_classifier_is_not_asked_at_scale_0():
    calls = []
    x, t = f64(6, 2), torch.tensor(0.5, dtype=torch.float64)
    est = by_classifier(Cosine(), 0, calls)(x, t)
    assert_close(est.x0, Mixture(Cosine())(x, t).x0)
    assert calls == []
    by_classifier(Cosine(), 2.0, calls)(x, t)
    assert calls == [6]


@pytest.mark.parametrize("schedule", [Flow(), Cosine()], ids=["Flow", "Cosine"])
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_where_nothing_is_seen_the_denoiser_is_left_as_it_is(schedule, end):
    """At alpha = 0 the gain of x0 is 0/0; at sigma = 0 there is none. The other rows are steered."""
    t = torch.tensor([end, 0.5, end], dtype=torch.float64)

    def flat(x, t):
        alpha, sigma = schedule.at(t, x)
        return Estimate(torch.ones_like(x), (x - alpha) / torch.where(sigma > 0, sigma, 1))

    def spoiled(x, t):  # NaN in the gradient where a formula divides by alpha or sigma
        alpha, sigma = schedule.at(t, x)
        return (x / alpha / sigma).sum(1)

    x = f64(3, 2)
    plain, est = flat(x, t), classifier_guidance(flat, spoiled, schedule, 2.0)(x, t)
    assert torch.equal(est.x0[[0, 2]], plain.x0[[0, 2]])
    assert torch.equal(est.eps[[0, 2]], plain.eps[[0, 2]])
    assert (est.x0[1] != plain.x0[1]).all()
    alone = classifier_guidance(flat, spoiled, schedule, 2.0)(x, torch.tensor(end, dtype=torch.float64))
    assert_close(alone.x0, flat(x, torch.tensor(end)).x0)


def test_blind_is_far_below_what_any_network_is_told():
    assert BLIND <= -20
    assert EDM().logsnr(torch.tensor(EDM().t_max)) > BLIND


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@by_path
def test_all_samplers_run_with_a_classifier_though_they_turn_gradients_off(schedule, sampler):
    """At scale 1 the walk ends where that of the exact conditional model ends."""
    schedule = EDM(sigma_max=20.0) if isinstance(schedule, EDM) else schedule
    start = schedule.sigma(torch.tensor(schedule.t_max, dtype=torch.float64)) * f64(6, 2)
    ts = schedule.timesteps(200)
    if schedule.alpha(ts[0]) == 0:
        ts = ts[1:]  # at alpha = 0 classifier guidance has nothing to say, the conditional model has
    x = final_sample(sampler(by_classifier(schedule, 1.0), schedule, start, ts))
    model = Mixture(schedule)
    assert_close(x, final_sample(sampler(lambda x, t: model(x, t, Y), schedule, start, ts)), rtol=1e-5, atol=1e-5)
    assert not x.requires_grad


@pytest.mark.parametrize(
    ("log_prob", "says"),
    [
        (lambda x, t: x, r"log_prob: expected .* shape \(6,\), got shape \(6, 2\)"),
        (lambda x, t: x.sum(), r"log_prob: expected .* shape \(6,\), got shape \(\)"),
        (lambda x, t: None, "log_prob: expected .* got NoneType"),
        (lambda x, t: x.detach().sum(1), "log_prob: expected an answer that torch can differentiate"),
        (lambda x, t: torch.zeros(6, requires_grad=True), "log_prob: expected an answer .* ignores it"),
    ],
)
def test_an_unfit_log_prob_is_named(log_prob, says):
    with pytest.raises(ValueError, match=says):
        classifier_guidance(Mixture(Flow()), log_prob, Flow(), 1.0)(f64(6, 2), torch.tensor(0.5))


# ---- interval ----


def two_answers(schedule):
    def plain(x, t):
        return from_x0(x, torch.zeros_like(x), *schedule.at(t, x))

    def guided(x, t):
        return from_x0(x, torch.ones_like(x), *schedule.at(t, x))

    return guided, plain


@by_path
def test_interval_guides_inside_and_is_plain_outside(schedule):
    x, t = f64(6, 2), levels(schedule, False)
    logsnr = schedule.logsnr(t)  # decreasing
    est = guidance_interval(*two_answers(schedule), schedule, logsnr[3].item(), logsnr[1].item())(x, t)
    assert est.x0[:, 0].tolist() == [0, 1, 1, 1, 0, 0]
    explains(est, schedule, x, t)
    for level, inside in zip(t, (0, 1, 1, 1, 0, 0), strict=True):
        assert (
            guidance_interval(*two_answers(schedule), schedule, logsnr[3].item(), logsnr[1].item())(x, level).x0
            == inside
        ).all()


@by_path
def test_interval_asks_one_model_where_one_is_enough(schedule):
    asked = []

    def told(name, denoise):
        return lambda x, t: asked.append(name) or denoise(x, t)

    guided, plain = two_answers(schedule)
    t = levels(schedule, False)
    cut = (schedule.logsnr(t[2]) + schedule.logsnr(t[3])).item() / 2
    limited = guidance_interval(told("guided", guided), told("plain", plain), schedule, -inf, cut)
    for level, expected in ((t[0], ["plain"]), (t[5], ["guided"]), (t[:2], ["plain"]), (t[4:], ["guided"])):
        asked.clear()
        limited(f64(len(level) if level.ndim else 6, 2), level)
        assert asked == expected
    asked.clear()
    limited(f64(6, 2), t)
    assert sorted(asked) == ["guided", "plain"]


def test_an_open_interval_is_guidance_everywhere_also_at_the_ends():
    schedule = Cosine()
    est = guidance_interval(*two_answers(schedule), schedule, -inf, inf)(
        f64(3, 2), torch.tensor([0.4, 0.9, 1.0], dtype=torch.float64)
    )
    assert (est.x0 == 1).all()


# ---- autoguidance ----


@by_path
@by_shape
@by_scale
def test_autoguidance_walks_from_the_worse_answer_to_the_better_one_and_past_it(schedule, one_level, scale):
    x, t = f64(6, 2), levels(schedule, one_level)
    model = Mixture(schedule)

    def worse(x, t):
        return from_x0(x, 0.8 * model(x, t).x0, *schedule.at(t, x))

    est = autoguidance(model, worse, scale)(x, t)
    assert_close(est.x0, (0.8 + 0.2 * scale) * model(x, t).x0, rtol=1e-9, atol=1e-9)
    explains(est, schedule, x, t)


def test_autoguidance_is_cfg_where_the_worse_model_is_the_one_without_condition():
    schedule, x, t = Flow(), f64(6, 2), levels(Flow(), False)
    model = Mixture(schedule)
    est = autoguidance(lambda x, t: model(x, t, Y), model, 2.5)(x, t)
    assert_close(est.x0, cfg(model, Y, 2.5)(x, t).x0)


@by_scale
def test_autoguidance_of_a_model_by_itself_changes_nothing(scale):
    schedule, x, t = Flow(), f64(6, 2), levels(Flow(), False)
    model = Mixture(schedule)
    assert_close(autoguidance(model, model, scale)(x, t).x0, model(x, t).x0)


@pytest.mark.parametrize(("scale", "calls"), [(0, (0, 1)), (1, (1, 0)), (2.0, (1, 1))])
def test_autoguidance_asks_each_model_at_most_once(scale, calls):
    better, worse = Mixture(Flow()), Mixture(Flow())
    autoguidance(better, worse, scale)(f64(6, 2), torch.tensor(0.5))
    assert (len(better.batches), len(worse.batches)) == calls


# ---- all of them ----


@pytest.mark.parametrize("scale", [0, 1, 2.0])
def test_conditions_that_are_not_one_for_each_row_are_refused(scale):
    with pytest.raises(ValueError, match="y: expected one condition for each of the 5 rows of x, got 6"):
        cfg(Mixture(Flow()), Y, scale)(f64(5, 2), torch.tensor(0.5))


@by_path
def test_they_compose(schedule):
    model, x, t = Mixture(schedule), 2 * f64(6, 2), levels(schedule, False)
    steered = guidance_interval(cfg(model, Y, 4.0), lambda x, t: model(x, t, Y), schedule, -2.0, 2.0)
    est = clip_x0(autoguidance(steered, model, 2.0), schedule)(x, t)
    assert est.x0.abs().max() <= 1
    explains(est, schedule, x, t)


def test_what_wraps_a_model_knows_its_path_and_is_refused_on_another():
    """Asked on another path than its own, a model answers all the same, and wrongly."""
    model, y = Denoiser(UNet(widths=(8, 16), classes=3), Cosine(), "v"), torch.tensor([0, 1])
    known = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    x, levels, logs = torch.randn(2, 1, 8, 8), Cosine().timesteps(2), lambda x, t: -x.square().flatten(1).sum(1)
    wrapped = [
        cfg(model, y, 2.0),
        autoguidance(model, model, 2.0),
        autoguidance(lambda x, t: model(x, t, y), model, 2.0),
        guidance_interval(cfg(model, y, 2.0), model, Cosine(), -1, 1),
        classifier_guidance(model, logs, Cosine(), 1.0),
        clip_x0(cfg(model, y, 2.0), Cosine()),
        ddnm(model, Cosine(), *known),
        replacement(model, Cosine(), *known),
        pigdm(model, Cosine(), *known),
        with_image_cond(Denoiser(UNet(widths=(8, 16), cond_channels=1), Cosine(), "v"), x),
        convert_schedule(model, Cosine(), EDM()),
    ]
    for denoise in wrapped[:-1]:
        final_sample(ddim(denoise, Cosine(), x, levels))
        with pytest.raises(ValueError, match="schedule: expected Cosine"):
            ddim(denoise, Flow(), x, levels)
    with pytest.raises(ValueError, match="schedule: expected EDM"):
        ddim(wrapped[-1], Cosine(), x, levels)
    for wrong in (
        lambda: clip_x0(wrapped[0], EDM()),
        lambda: guidance_interval(model, wrapped[-1], Cosine(), -1, 1),
        lambda: autoguidance(model, wrapped[-1], 2.0),
        lambda: classifier_guidance(model, logs, Flow(), 1.0),
        lambda: convert_schedule(wrapped[0], Flow(), EDM()),
        lambda: ddnm(model, Flow(), *known),
        lambda: replacement(model, Flow(), *known),
        lambda: pigdm(model, Flow(), *known),
        lambda: repaint(model, Flow(), *known, levels, 1),
        lambda: diffedit_mask(model, wrapped[0], Flow(), x, 0.5),
        lambda: log_likelihood(model, Flow(), x, levels[:-1].flip(0)),
        lambda: elbo(model, Flow(), x, levels[:-1].flip(0)),
    ):
        with pytest.raises(ValueError, match="schedule: expected"):
            wrong()
