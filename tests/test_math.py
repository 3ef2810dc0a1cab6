"""Every formula of the course, elementwise, against a known answer. `pytest tests/test_math.py -v` lists them."""

from __future__ import annotations

from itertools import pairwise
from math import log, log2, pi

import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torch.testing import assert_close

from learn_diffusion import samplers
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import clip_x0
from learn_diffusion.process import Estimate, expand_like, from_x0, randn_like, renoise
from learn_diffusion.samplers import SAMPLERS, ddim, dpmpp_2m, final_sample, heun
from learn_diffusion.schedules import DDPM, EDM, VP, Cosine, Flow, convert_schedule
from learn_diffusion.targets import TARGETS, solve
from learn_diffusion.training import loss

PATHS = [DDPM(), VP(), Cosine(), EDM(), Flow()]
VARIANCE_PRESERVING = [DDPM(), VP(), Cosine()]
by_name = pytest.mark.parametrize("schedule", PATHS, ids=lambda schedule: type(schedule).__name__)
by_target = pytest.mark.parametrize("target", TARGETS)

MEAN, STD = 0.3, 0.5  # of the Gaussian data whose exact denoiser is known


def test_type_and_device_are_those_of_the_data():
    x, t = f64(3, 2).float(), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    assert Cosine().add_noise(x, x, t).dtype == torch.float32
    assert randn_like(torch.empty(2, 3, device="meta")).device.type == "meta"


def f64(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inner(schedule, n: int = 7) -> torch.Tensor:
    """n levels inside the path, and between the rows of the table of DDPM, where it has no kink: (n,) float64."""
    return schedule.time_at(torch.linspace(0.0503, 0.9503, n, dtype=torch.float64))


def exact(schedule):
    """The exact denoiser of data drawn from N(MEAN, STD^2): x0_hat = E[x0 | x_t]."""

    def denoise(x, t):
        alpha, sigma = schedule.at(t, x)
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        return from_x0(x, MEAN + gain * (x - alpha * MEAN), alpha, sigma)

    return denoise


def flow_map(schedule, x, t, s):
    """Where the probability-flow ODE carries x from t to s for that data: it keeps the standard score."""

    def spread(u):
        return (schedule.alpha(u) ** 2 * STD**2 + schedule.sigma(u) ** 2).sqrt()

    return schedule.alpha(s) * MEAN + spread(s) / spread(t) * (x - schedule.alpha(t) * MEAN)


# ---- schedules ----


def test_alpha_bar_is_the_running_product_of_one_minus_beta():
    schedule, product = DDPM(), 1.0
    for i, beta in enumerate(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).tolist(), start=1):
        product *= 1 - beta
        if i in (1, 2, 10, 500, 1000):
            t = torch.tensor(i / 1000, dtype=torch.float64)
            assert_close(schedule.alpha(t).item(), product**0.5, rtol=1e-9, atol=0)
            assert_close(schedule.sigma(t).item(), (1 - product) ** 0.5, rtol=1e-9, atol=0)


def test_the_beta_table_is_summed_in_float64_and_cast_once():
    t = torch.arange(1, 1001) / 1000
    assert_close(DDPM().alpha(t), DDPM().alpha(t.double()).float(), rtol=2e-6, atol=0)
    assert_close(DDPM().sigma(t), DDPM().sigma(t.double()).float(), rtol=2e-6, atol=0)


def test_linear_beta_is_the_limit_of_betas_with_many_steps():
    fine = DDPM(T=100_000, beta_1=0.1 / 100_000, beta_T=20 / 100_000)
    t = torch.linspace(0.1, 1, 10, dtype=torch.float64)
    assert_close(fine.alpha(t), VP().alpha(t), rtol=2e-3, atol=0)


@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING, ids=lambda schedule: type(schedule).__name__)
def test_variance_preserving_alpha_squared_plus_sigma_squared_is_one(schedule):
    t = inner(schedule)
    assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))


def test_cosine_is_a_quarter_circle_that_ends_at_exactly_zero():
    t = torch.linspace(0, 1, 9)
    assert_close(Cosine().alpha(t), torch.cos(pi / 2 * t))
    assert_close(Cosine().sigma(t), torch.sin(pi / 2 * t))
    assert Cosine().alpha(torch.tensor(1.0)) == 0
    assert Cosine().sigma(torch.tensor(0.0)) == 0


def test_edm_keeps_the_data_and_t_is_sigma():
    t = inner(EDM())
    assert_close(EDM().alpha(t), torch.ones_like(t))
    assert_close(EDM().sigma(t), t)


def test_flow_is_the_straight_line():
    t = inner(Flow())
    assert_close(Flow().alpha(t), 1 - t)
    assert_close(Flow().sigma(t), t)


@by_name
def test_logsnr_is_log_of_alpha_squared_over_sigma_squared_and_decreases(schedule):
    t = inner(schedule)
    assert_close(schedule.logsnr(t), (schedule.alpha(t) ** 2 / schedule.sigma(t) ** 2).log())
    assert (schedule.logsnr(t).diff() < 0).all()


@by_name
def test_t_of_logsnr_inverts_logsnr(schedule):
    t = inner(schedule)
    assert_close(schedule.t_of_logsnr(schedule.logsnr(t)), t, rtol=1e-8, atol=1e-9)


@by_name
def test_a_whole_number_is_as_good_a_level_as_a_float(schedule):
    x0, eps = torch.ones(1, 2), torch.ones(1, 2)
    assert_close(schedule.alpha(torch.tensor(1)).double(), schedule.alpha(torch.tensor(1.0)).double())
    assert_close(schedule.sigma(torch.tensor(1)).double(), schedule.sigma(torch.tensor(1.0)).double())
    assert_close(schedule.add_noise(x0, eps, 1), schedule.add_noise(x0, eps, 1.0))
    assert_close(schedule.velocity(Estimate(x0, eps), 1), schedule.velocity(Estimate(x0, eps), 1.0))
    assert_close(schedule.t_of_logsnr(torch.tensor(0)), schedule.t_of_logsnr(torch.tensor(0.0)))


@by_name
def test_grid_decreases_from_t_max_to_where_sigma_is_zero(schedule):
    for steps in (1, 2, 10, 1000):
        ts = schedule.timesteps(steps)
        assert ts.shape == (steps + 1,)
        assert_close(ts[0].item(), schedule.t_max)
        assert ts[-1] == 0
        assert schedule.sigma(ts[-1]) == 0
        assert (ts.diff() < 0).all()


def test_edm_grid_is_karras_rho_7():
    n, lo, hi = 10, 0.002, 80.0
    expected = [(hi ** (1 / 7) + i / (n - 1) * (lo ** (1 / 7) - hi ** (1 / 7))) ** 7 for i in range(n)] + [0.0]
    assert_close(EDM().timesteps(n), torch.tensor(expected, dtype=torch.float64))


@by_name
def test_velocity_is_the_derivative_of_the_sentence(schedule):
    x0, eps, t, h = f64(7, 3, seed=1), f64(7, 3, seed=2), inner(schedule), 1e-6
    slope = (schedule.add_noise(x0, eps, t + h) - schedule.add_noise(x0, eps, t - h)) / (2 * h)
    assert_close(schedule.velocity(Estimate(x0, eps), t), slope, rtol=1e-4, atol=1e-4)


def test_velocity_on_edm_is_eps_and_on_flow_is_eps_minus_x0():
    est = Estimate(f64(7, 3, seed=1), f64(7, 3, seed=2))
    assert_close(EDM().velocity(est, inner(EDM())), est.eps)
    assert_close(Flow().velocity(est, inner(Flow())), est.eps - est.x0)


# ---- the forward process ----


@by_name
def test_add_noise_is_alpha_x0_plus_sigma_eps(schedule):
    x0, eps, t = f64(7, 1, 2, 2, seed=1), f64(7, 1, 2, 2, seed=2), inner(schedule)
    out = schedule.add_noise(x0, eps, t)
    for i in range(7):
        assert_close(out[i], schedule.alpha(t[i]) * x0[i] + schedule.sigma(t[i]) * eps[i])


@pytest.mark.parametrize("steps", [1, 10, 100, 400, 1000])
def test_walking_the_markov_chain_is_one_jump(steps):
    """Single steps sqrt(1 - beta) x + sqrt(beta) z against the closed form: moments, then Kolmogorov-Smirnov."""
    schedule, n, value = DDPM(), 20_000, 0.7
    walked = torch.full((n,), value, dtype=torch.float64)
    for i, beta in enumerate(schedule.betas()[:steps]):
        walked = (1 - beta).sqrt() * walked + beta.sqrt() * f64(n, seed=i)
    jumped = schedule.add_noise(torch.full((n,), value, dtype=torch.float64), f64(n, seed=5000), steps / 1000)
    t = torch.tensor(steps / 1000, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t).item(), schedule.sigma(t).item()
    for x in (walked, jumped):
        assert abs(x.mean().item() - alpha * value) < 4 * sigma / n**0.5
        assert abs(x.std().item() - sigma) < 4 * sigma / (2 * n) ** 0.5
    assert ks_2samp(walked.numpy(), jumped.numpy()).pvalue > 1e-3
    assert kstest(walked.numpy(), "norm", args=(alpha * value, sigma)).pvalue > 1e-3


@by_name
def test_renoise_twice_is_renoise_once_in_mean_and_variance(schedule):
    s, m, t = schedule.time_at(torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64))
    x = torch.full((100_000,), 0.7, dtype=torch.float64)[:, None]
    g = torch.Generator().manual_seed(0)
    twice = renoise(schedule, renoise(schedule, x, s, m, g), m, t, g)
    a = schedule.alpha(t) / schedule.alpha(s)
    std = (schedule.sigma(t) ** 2 - (a * schedule.sigma(s)) ** 2).sqrt()
    for out in (twice, renoise(schedule, x, s, t, g)):
        assert abs(out.mean() - a * 0.7) < 4 * std / 100_000**0.5
        assert abs(out.std() - std) < 4 * std / 200_000**0.5


@by_name
def test_renoise_to_the_same_level_adds_nothing(schedule):
    x, t = f64(3, 2), torch.tensor([0.0, 0.0, 0.5], dtype=torch.float64)
    assert torch.equal(renoise(schedule, x, t, t), x)
    assert torch.equal(renoise(schedule, x, 0.0, 0.0), x)


def test_renoise_by_one_step_of_betas_is_the_chain():
    schedule, x = DDPM(), f64(50_000, 1)
    s, t = torch.tensor([0.4, 0.401], dtype=torch.float64)
    beta = schedule.betas()[400]
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    out = renoise(schedule, x, s, t, torch.Generator().manual_seed(3))
    assert_close(out, (1 - beta).sqrt() * x + beta.sqrt() * z)


# ---- estimates and targets ----


@by_name
def test_from_x0_keeps_the_invariant(schedule):
    x, x0 = f64(7, 3, seed=1), f64(7, 3, seed=2)
    alpha, sigma = schedule.at(inner(schedule), x)
    est = from_x0(x, x0, alpha, sigma)
    assert_close(alpha * est.x0 + sigma * est.eps, x)


@by_name
def test_score_is_minus_eps_over_sigma(schedule):
    """Against the derivative of the log density of Gaussian data."""
    x, t = f64(7, 3).requires_grad_(), inner(schedule)
    alpha, sigma = schedule.at(t, x)
    log_p = torch.distributions.Normal(alpha * MEAN, (alpha**2 * STD**2 + sigma**2).sqrt()).log_prob(x)
    (score,) = torch.autograd.grad(log_p.sum(), x)
    assert_close(-exact(schedule)(x.detach(), t).eps / sigma, score)


@by_name
def test_lerp_of_two_estimates_keeps_the_invariant(schedule):
    x = f64(7, 3)
    alpha, sigma = schedule.at(inner(schedule), x)
    one, two = (from_x0(x, f64(7, 3, seed=seed), alpha, sigma) for seed in (1, 2))
    for w in (0.0, 0.3, 1.0, 2.5):
        mixed = one.lerp(two, w)
        assert_close(mixed.x0, (1 - w) * one.x0 + w * two.x0)
        assert_close(alpha * mixed.x0 + sigma * mixed.eps, x)


@by_name
def test_clip_x0_clips_and_keeps_the_invariant(schedule):
    x, t = 3 * f64(7, 3), inner(schedule)
    alpha, sigma = schedule.at(t, x)
    est = clip_x0(lambda x, t: from_x0(x, 3 * f64(7, 3, seed=1), alpha, sigma), schedule)(x, t)
    assert est.x0.abs().max() == 1
    assert_close(alpha * est.x0 + sigma * est.eps, x)


@by_name
@by_target
def test_solve_inverts_every_target_on_every_path(schedule, target):
    x0, eps = f64(7, 3, seed=1), f64(7, 3, seed=2)
    alpha, sigma = schedule.at(inner(schedule), x0)
    a, b = TARGETS[target](alpha, sigma)
    est = solve(alpha * x0 + sigma * eps, a * x0 + b * eps, alpha, sigma, (a, b))
    assert_close(est.x0, x0, rtol=1e-7, atol=1e-9)
    assert_close(est.eps, eps, rtol=1e-7, atol=1e-9)


@by_name
@by_target
def test_error_of_a_target_is_det_over_sigma_times_error_of_x0(schedule, target):
    x, out, off = f64(7, 3, seed=1), f64(7, 3, seed=2), 1e-2 * f64(7, 3, seed=3)
    alpha, sigma = schedule.at(inner(schedule), x)
    a, b = TARGETS[target](alpha, sigma)
    det = alpha * b - sigma * a
    moved = solve(x, out + off, alpha, sigma, (a, b)).x0 - solve(x, out, alpha, sigma, (a, b)).x0
    assert_close(off**2, (det / sigma) ** 2 * moved**2, rtol=1e-6, atol=1e-12)


def test_determinants_of_the_targets():
    alpha, sigma = torch.tensor(0.8), torch.tensor(0.6)
    det = {name: alpha * b - sigma * a for name, (a, b) in ((n, row(alpha, sigma)) for n, row in TARGETS.items())}
    assert_close(det["x0"], -sigma)
    assert_close(det["eps"], alpha)
    assert_close(det["v"], alpha**2 + sigma**2)
    assert_close(det["u"], alpha + sigma)


def test_v_is_alpha_eps_minus_sigma_x0_and_u_is_eps_minus_x0():
    alpha, sigma, x0, eps = 0.8, 0.6, f64(3, seed=1), f64(3, seed=2)
    a, b = TARGETS["v"](alpha, sigma)
    assert_close(a * x0 + b * eps, alpha * eps - sigma * x0)
    a, b = TARGETS["u"](alpha, sigma)
    assert_close(a * x0 + b * eps, eps - x0)


def test_edm_target_is_karras_preconditioning_where_alpha_is_one():
    sd = 0.5
    for sigma in (0.01, 0.5, 3.0, 80.0):
        c_skip = sd**2 / (sigma**2 + sd**2)
        c_out = sigma * sd / (sigma**2 + sd**2) ** 0.5
        a, b = TARGETS["edm"](1.0, sigma, sd)
        assert_close(a, (1 - c_skip) / c_out)
        assert_close(b, -c_skip * sigma / c_out)
        assert_close(b - sigma * a, -sigma / c_out)


@by_name
def test_edm_target_does_not_depend_on_the_path(schedule):
    """On any path F asks for the same mixture as at alpha = 1 and the same log-SNR."""
    t = inner(schedule)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    here, there = TARGETS["edm"](alpha, sigma, 0.5), TARGETS["edm"](torch.ones_like(t), sigma / alpha, 0.5)
    assert_close(torch.stack(here), torch.stack(there))


@pytest.mark.parametrize(("schedule", "target"), [(DDPM(), "eps"), (Cosine(), "v"), (Flow(), "u"), (EDM(), "edm")])
def test_denoiser_reads_a_perfect_network_rightly(schedule, target):
    """A network that answers the target exactly gives back the data; its input is scaled by EDM's c_in."""
    x0, eps, t = f64(7, 3, seed=1), f64(7, 3, seed=2), inner(schedule)
    alpha, sigma = schedule.at(t, x0)
    xt = schedule.add_noise(x0, eps, t)

    class Net(torch.nn.Module):
        def forward(self, x, logsnr, cond):
            assert_close(x, xt / (sigma**2 + (schedule.sigma_data * alpha) ** 2).sqrt())
            assert_close(logsnr, schedule.logsnr(t).clamp(-20, 20))
            a, b = TARGETS[target](alpha, sigma, schedule.sigma_data)
            return a * x0 + b * eps

    est = Denoiser(Net(), schedule, target)(xt, t)
    assert_close(est.x0, x0, rtol=1e-6, atol=1e-8)
    assert_close(est.eps, eps, rtol=1e-6, atol=1e-8)


# ---- samplers ----


@by_name
def test_ddim_eta_0_rewrites_the_sentence(schedule):
    x, (t, s) = f64(7, 3), schedule.time_at(torch.tensor([0.8, 0.5], dtype=torch.float64))
    state = next(ddim(exact(schedule), schedule, x, torch.stack([t, s])))
    x0, eps = exact(schedule)(x, t)
    assert_close(state.x, schedule.alpha(s) * x0 + schedule.sigma(s) * eps)
    assert_close(state.t, s)


@by_name
def test_ddim_eta_1_is_ho_posterior_mean_and_variance(schedule):
    x, (t, s) = f64(1, 3), schedule.time_at(torch.tensor([0.8, 0.5], dtype=torch.float64))
    many = x.expand(200_000, 3)
    out = next(ddim(exact(schedule), schedule, many, torch.stack([t, s]), 1.0, torch.Generator().manual_seed(0))).x
    x0 = exact(schedule)(x, t).x0
    a, alpha_s, sigma_s, sigma_t = (
        schedule.alpha(t) / schedule.alpha(s),
        schedule.alpha(s),
        schedule.sigma(s),
        schedule.sigma(t),
    )
    beta = sigma_t**2 - a**2 * sigma_s**2  # 1 - a^2 on a variance-preserving path
    mean = alpha_s * beta / sigma_t**2 * x0 + a * sigma_s**2 / sigma_t**2 * x  # Ho et al. 2020, eq. 7
    std = (sigma_s**2 / sigma_t**2 * beta).sqrt()
    assert ((out.mean(0) - mean).abs() < 4 * std / 200_000**0.5).all()
    assert ((out.std(0) - std).abs() < 4 * std / 400_000**0.5).all()


def test_ddim_eta_1_is_ho_beta_tilde_in_his_own_symbols():
    """At neighbouring steps of the table, with betas and alpha_bars only."""
    schedule, i = DDPM(), 700
    beta, alpha_bar = schedule.betas()[i - 1], torch.cumprod(1 - schedule.betas(), 0)
    now, before = alpha_bar[i - 1], alpha_bar[i - 2]
    x, ts = f64(5, 3), torch.tensor([i / 1000, (i - 1) / 1000], dtype=torch.float64)
    x0, eps = exact(schedule)(x, ts[0])
    mean = before.sqrt() * beta / (1 - now) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - now) * x
    std = ((1 - before) / (1 - now) * beta).sqrt()
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state = next(ddim(exact(schedule), schedule, x, ts, 1.0, torch.Generator().manual_seed(1)))
    share = 1 - (schedule.logsnr(ts[0]) - schedule.logsnr(ts[1])).exp()
    assert_close(schedule.sigma(ts[1]) * share.sqrt(), std)
    assert_close(schedule.alpha(ts[1]) * x0 + schedule.sigma(ts[1]) * (1 - share).sqrt() * eps, mean)
    assert_close(state.x, mean + std * z)


@pytest.mark.parametrize("eta", [0.3, 0.7])
def test_ddim_with_eta_between_adds_the_noise_of_song_2021_eq_16(eta):
    schedule, i, j = DDPM(), 700, 500
    alpha_bar = torch.cumprod(1 - schedule.betas(), 0)
    a_t, a_s = alpha_bar[i - 1], alpha_bar[j - 1]
    x, ts = f64(5, 3), torch.tensor([i / 1000, j / 1000], dtype=torch.float64)
    x0, eps = exact(schedule)(x, ts[0])
    added = eta * ((1 - a_s) / (1 - a_t)).sqrt() * (1 - a_t / a_s).sqrt()
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = a_s.sqrt() * x0 + (1 - a_s - added**2).sqrt() * eps + added * z  # eq. 12
    assert_close(next(ddim(exact(schedule), schedule, x, ts, eta, torch.Generator().manual_seed(1))).x, expected)


@by_name
def test_ddpm_samples_have_the_mean_and_std_of_the_data(schedule):
    n = 20_000
    noise = schedule.alpha(torch.tensor(schedule.t_max)) * MEAN + schedule.sigma(torch.tensor(schedule.t_max)) * f64(
        n, 1
    )
    out = final_sample(
        ddim(exact(schedule), schedule, noise, schedule.timesteps(200), 1.0, torch.Generator().manual_seed(0))
    )
    assert abs(out.mean() - MEAN) < 0.02
    assert abs(out.std() - STD) < 0.03


def test_heun_is_karras_algorithm_1_in_his_own_symbols():
    schedule, x, (t, s) = EDM(), 3 * f64(5, 3), torch.tensor([5.0, 2.0], dtype=torch.float64)
    d = (x - exact(schedule)(x, t).x0) / t
    ahead = x + (s - t) * d
    d_ahead = (ahead - exact(schedule)(ahead, s).x0) / s
    state = next(heun(exact(schedule), schedule, x, torch.stack([t, s])))
    assert_close(state.x, x + (s - t) * (d + d_ahead) / 2)
    last_step = next(heun(exact(schedule), schedule, x, torch.stack([t, 0 * t])))
    assert_close(last_step.x, x - t * d)  # to sigma = 0: one call, Euler


@by_name
def test_dpmpp_2m_is_lu_algorithm_2_in_his_own_symbols(schedule):
    ts, x = schedule.time_at(torch.tensor([0.9, 0.7, 0.4], dtype=torch.float64)), f64(5, 3)
    alpha, sigma, lam = schedule.alpha(ts), schedule.sigma(ts), schedule.logsnr(ts) / 2
    h_1, h_2 = lam.diff()
    one = exact(schedule)(x, ts[0]).x0
    x_1 = sigma[1] / sigma[0] * x - alpha[1] * torch.expm1(-h_1) * one
    two, r = exact(schedule)(x_1, ts[1]).x0, h_1 / h_2
    d = (1 + 1 / (2 * r)) * two - 1 / (2 * r) * one
    x_2 = sigma[2] / sigma[1] * x_1 - alpha[2] * torch.expm1(-h_2) * d
    first, second = dpmpp_2m(exact(schedule), schedule, x, ts)
    assert_close(first.x, x_1)
    assert_close(second.x, x_2)


def test_euler_on_the_flow_path_is_ddim():
    x, ts = f64(7, 3), Flow().timesteps(10)
    euler = x
    for (t, s), state in zip(pairwise(ts), ddim(exact(Flow()), Flow(), x, ts), strict=True):
        euler = euler + (s - t) * Flow().velocity(exact(Flow())(euler, t), t)
        assert_close(state.x, euler)


@pytest.mark.parametrize("sampler", [ddim, dpmpp_2m])
@pytest.mark.parametrize("dst", [Cosine(), Flow(), EDM()], ids=lambda schedule: type(schedule).__name__)
def test_ddim_and_dpmpp_2m_agree_on_any_two_paths_matched_by_logsnr(sampler, dst):
    src = VP()
    ts = src.time_at(torch.linspace(0.9, 0.05, 12, dtype=torch.float64))
    ts_dst = dst.t_of_logsnr(src.logsnr(ts))
    x = f64(7, 3)
    scale = (src.alpha(ts) / dst.alpha(ts_dst))[[0, -1]]
    here = final_sample(sampler(exact(src), src, x, ts))
    there = final_sample(sampler(convert_schedule(exact(src), src, dst), dst, x / scale[0], ts_dst))
    assert_close(there * scale[1], here, rtol=1e-6, atol=1e-8)


def test_heun_depends_on_the_path():
    """The contrast that makes the test above mean something."""
    src, dst = VP(), Flow()
    ts = src.time_at(torch.linspace(0.9, 0.05, 12, dtype=torch.float64))
    ts_dst = dst.t_of_logsnr(src.logsnr(ts))
    scale = (src.alpha(ts) / dst.alpha(ts_dst))[[0, -1]]
    here = final_sample(heun(exact(src), src, f64(7, 3), ts))
    there = final_sample(heun(convert_schedule(exact(src), src, dst), dst, f64(7, 3) / scale[0], ts_dst))
    assert (there * scale[1] - here).abs().max() > 1e-4


@by_name
def test_on_path_shows_the_model_the_same_picture_and_keeps_the_estimate(schedule):
    src, x, t = Cosine(), f64(7, 3), inner(schedule)
    t_src = src.t_of_logsnr(schedule.logsnr(t))
    expected = exact(src)(expand_like(src.alpha(t_src) / schedule.alpha(t), x) * x, t_src)
    moved = convert_schedule(exact(src), src, schedule)(x, t)
    assert_close(moved.x0, expected.x0)
    assert_close(moved.eps, expected.eps, rtol=1e-6, atol=1e-7)


def test_on_path_is_finite_at_both_noisy_ends():
    for src, dst in ((Cosine(), Flow()), (DDPM(), Flow()), (Flow(), EDM()), (EDM(), Cosine())):
        t = torch.tensor(dst.t_max, dtype=torch.float64)
        est = convert_schedule(exact(src), src, dst)(f64(4, 3), t)
        assert torch.isfinite(est.x0).all()
        assert torch.isfinite(est.eps).all()


# heun on DDPM is left out: at each row of its table the slope jumps, so there is no order to observe in t
ORDERS = (
    [(ddim, 0.9, 1.1, schedule) for schedule in PATHS]
    + [(heun, 1.9, 2.15, schedule) for schedule in PATHS[1:]]
    + [(dpmpp_2m, 1.9, 2.2, schedule) for schedule in PATHS]
)


def test_every_sampler_is_registered_and_has_an_order():
    public = {
        name: f
        for name, f in vars(samplers).items()
        if not name.startswith("_") and getattr(f, "__annotations__", {}).get("return") == "Iterator[State]"
    }
    assert public == SAMPLERS
    assert {order[0] for order in ORDERS} == set(SAMPLERS.values())


@pytest.mark.parametrize(
    ("sampler", "low", "high", "schedule"),
    ORDERS,
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_observed_order_on_a_gaussian_with_a_known_answer(sampler, low, high, schedule):
    """Halving the step divides the error by 2^order; the answer is the exact flow map."""
    logsnr = torch.tensor([-2.0, 3.0], dtype=torch.float64)
    t, s = schedule.t_of_logsnr(logsnr)
    x = f64(50, 1)
    answer, errors = flow_map(schedule, x, t, s), []
    for steps in (64, 128, 256):
        # even in t^(1/rho) for heun, whose order is in t; even in log-SNR for the others, whose order is in it
        if sampler is heun:
            u = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
            ts = (s ** (1 / schedule.rho) + u * (t ** (1 / schedule.rho) - s ** (1 / schedule.rho))) ** schedule.rho
        else:
            ts = schedule.t_of_logsnr(torch.linspace(-2.0, 3.0, steps + 1, dtype=torch.float64))
        ts[0], ts[-1] = t, s
        errors.append((final_sample(sampler(exact(schedule), schedule, x, ts)) - answer).abs().max().item())
    assert low < log2(errors[1] / errors[2]) < high, errors


@by_name
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_samplers_reach_the_data_from_the_noisy_end(sampler, schedule):
    noise = schedule.alpha(torch.tensor(schedule.t_max)) * MEAN + schedule.sigma(torch.tensor(schedule.t_max)) * f64(
        20_000, 1
    )
    out = final_sample(sampler(exact(schedule), schedule, noise, schedule.timesteps(200)))
    assert abs(out.mean() - MEAN) < 0.02
    assert abs(out.std() - STD) < 0.03


# ---- training ----


@by_target
def test_loss_of_the_exact_answer_is_zero_for_a_single_point(target):
    """With one picture in the data the right answer is known: a correct loss gives it exactly nothing."""
    schedule, point = (EDM() if target == "edm" else Cosine()), 0.3

    class Knows(torch.nn.Module):
        def forward(self, x, logsnr, cond):
            alpha, sigma = schedule.at(t, x)
            xt = x * (sigma**2 + (schedule.sigma_data * alpha) ** 2).sqrt()
            a, b = TARGETS[target](alpha, sigma, schedule.sigma_data)
            return a * point + b * (xt - alpha * point) / sigma

    t = inner(schedule, 16)
    value = loss(Denoiser(Knows(), schedule, target), torch.full((16, 1, 4, 4), point, dtype=torch.float64), t)
    assert value < 1e-12


def test_optimal_loss_of_gaussian_data_is_known_and_not_zero():
    """For data N(0, STD^2) the best eps-loss at level t is alpha^2 STD^2 / (alpha^2 STD^2 + sigma^2)."""
    schedule, t = VP(), torch.tensor(0.4, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x0, eps = STD * f64(200_000, seed=1), f64(200_000, seed=2)
    xt = alpha * x0 + sigma * eps
    best = sigma / (alpha**2 * STD**2 + sigma**2) * xt  # E[eps | x_t]
    expected = alpha**2 * STD**2 / (alpha**2 * STD**2 + sigma**2)
    assert_close((eps - best).square().mean(), expected, rtol=2e-2, atol=0)
    assert log(expected) < 0 < expected


# ---- the known failures of other courses: each wrong formula is caught by the test that guards it ----


def _chain(n, steps, noise_scale, noise=None):
    x = torch.full((n,), 0.7, dtype=torch.float64)
    for i, beta in enumerate(DDPM().betas()[:steps]):
        z = f64(n, seed=i) if noise is None else noise(n, i)
        x = (1 - beta).sqrt() * x + noise_scale(beta) * z
    return x


def _agrees_with_the_jump(x, steps):
    t = torch.tensor(steps / 1000, dtype=torch.float64)
    args = (DDPM().alpha(t).item() * 0.7, DDPM().sigma(t).item())
    return kstest(x.numpy(), "norm", args=args).pvalue > 1e-3


def test_wrong_beta_for_sqrt_beta_is_caught():
    assert _agrees_with_the_jump(_chain(5000, 100, lambda beta: beta.sqrt()), 100)
    assert not _agrees_with_the_jump(_chain(5000, 100, lambda beta: beta), 100)


def test_wrong_uniform_noise_for_normal_is_caught():
    def uniform(n, i):
        return torch.rand(n, generator=torch.Generator().manual_seed(i), dtype=torch.float64)

    assert not _agrees_with_the_jump(_chain(5000, 1, lambda beta: beta.sqrt(), uniform), 1)
    assert not _agrees_with_the_jump(_chain(5000, 100, lambda beta: beta.sqrt(), uniform), 100)


def test_wrong_missing_minus_in_the_score_is_caught():
    """score = -eps / sigma, checked against the derivative of the log density of Gaussian data."""
    schedule, t, x = Cosine(), torch.tensor(0.4, dtype=torch.float64), f64(5, 1)
    alpha, sigma = schedule.at(t, x)
    var = alpha**2 * STD**2 + sigma**2
    score = -(x - alpha * MEAN) / var
    eps = exact(schedule)(x, t).eps
    assert_close(-eps / sigma, score)
    assert not torch.allclose(eps / sigma, score)


def test_wrong_missing_sqrt_in_a_sampler_is_caught():
    """Fresh noise scaled by the variance in place of its root gives samples of the wrong spread."""
    schedule, n = Cosine(), 20_000
    x = f64(n, 1)
    for i, (t, s) in enumerate(pairwise(schedule.timesteps(100))):
        est = exact(schedule)(x, t)
        share = -torch.expm1(schedule.logsnr(t) - schedule.logsnr(s))
        x = schedule.alpha(s) * est.x0 + schedule.sigma(s) * ((1 - share).sqrt() * est.eps + share * f64(n, 1, seed=i))
    assert abs(x.std() - STD) > 0.03  # the bound that test_ddpm_samples_have_... holds


def test_wrong_ddim_direction_term_is_caught():
    """Keeping all of eps and adding fresh noise on top leaves more noise than level s allows."""
    schedule, (t, s) = Cosine(), torch.tensor([0.8, 0.6], dtype=torch.float64)
    x0, eps, z = torch.zeros(100_000), f64(100_000, seed=1), f64(100_000, seed=2)
    share = -torch.expm1(schedule.logsnr(t) - schedule.logsnr(s))
    right = schedule.sigma(s) * ((1 - share).sqrt() * eps + share.sqrt() * z)
    wrong = schedule.sigma(s) * (eps + share.sqrt() * z)
    denoise = lambda x, t: Estimate(x0[:, None].double(), eps[:, None])  # noqa: E731
    ours = next(ddim(denoise, schedule, eps[:, None], torch.stack([t, s]), 1.0, torch.Generator().manual_seed(3))).x
    assert_close(right.std(), schedule.sigma(s), rtol=1e-2, atol=0)
    assert_close(ours.std(), schedule.sigma(s), rtol=1e-2, atol=0)
    assert wrong.std() > 1.1 * schedule.sigma(s)


def test_wrong_noise_drawn_twice_is_caught():
    """The single-point oracle gets a loss of 0 only when the noise asked about is the noise mixed in."""
    schedule, x0, t = Cosine(), torch.full((64, 4), 0.3, dtype=torch.float64), inner(Cosine(), 64)
    alpha, sigma = schedule.at(t, x0)
    mixed, asked = f64(64, 4, seed=1), f64(64, 4, seed=2)
    answer = (schedule.add_noise(x0, mixed, t) - alpha * x0) / sigma
    assert (answer - mixed).square().mean() < 1e-12
    assert (answer - asked).square().mean() > 1


@pytest.mark.parametrize(("steps", "left"), [(50, 0.78), (150, 0.47), (1000, 0.006)])
def test_wrong_too_few_steps_leak_the_signal(steps, left):
    """Ho's betas with T = 50 or 150 never reach noise: sqrt(alpha_bar_T) stays large."""
    alpha = DDPM(T=steps).alpha(torch.tensor(1.0)).item()
    assert abs(alpha - left) < 0.1 * left
    assert (alpha > 0.05) == (steps < 1000)
