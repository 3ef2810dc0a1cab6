"""Chapter 19, Can it fill in what we did not measure?"""

from __future__ import annotations

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, several

# kriging, by hand


def _curve():
    """A Gaussian curve with 40 places and a variance that grows along it; 6 measurements that err by 0.3."""
    at = torch.linspace(0, 1, 40, dtype=torch.float64)
    scale = 0.8 + 0.6 * at
    covariance = scale[:, None] * scale * torch.exp(-((at[:, None] - at) ** 2) / (2 * 0.12**2))
    places = torch.tensor([31, 2, 9, 17, 36, 24])  # in no order
    values = torch.tensor([0.4, -0.9, 0.5, 1.1, -0.3, 0.8], dtype=torch.float64)
    return covariance, places, values, 0.3


def _check_kriging(answer):
    covariance, places, values, noise = _curve()
    n = len(covariance)
    out = several(call(answer, covariance, places, values, noise), ("the mean", "the standard deviation"))
    mean, std = numbers(out[0], (n,), "the mean"), numbers(out[1], (n,), "the standard deviation")
    right_mean, right_std = my_kriging(covariance, places, values, noise)

    def gives(error):
        return agrees(mean, my_kriging(covariance, places, values, error)[0], 1e-3)

    if not agrees(mean, right_mean):
        if gives(1e-4):
            raise IncorrectAnswer(
                "The mean goes right through every measurement, as if none of them erred. Where is `noise`?"
            )
        if gives(noise**0.5):
            raise IncorrectAnswer("On the diagonal stands the *variance* of the errors, `noise` squared.")
        if agrees(mean, covariance[:, places] @ values, 1e-3):
            raise IncorrectAnswer(
                "Neighbouring measurements are counted as if each were alone: A⁻¹ is missing between the covariance and the values."
            )
        raise IncorrectAnswer(
            f"The mean is off by up to {(mean - right_mean).abs().max():.2f}. Is it B A⁻¹ values, with places in their order?"
        )
    if not agrees(std, right_std):
        if agrees(std, right_std**2):
            raise IncorrectAnswer(
                "The mean is right. The second result is the variance; its square root was asked for."
            )
        if agrees(std, covariance.diagonal().sqrt()):
            raise IncorrectAnswer(
                "The mean is right. The standard deviation is the one from before the measuring: it has to shrink near the sensors."
            )
        if agrees(std, (right_std**2 + noise**2).sqrt()):
            raise IncorrectAnswer(
                "The mean is right. The standard deviation is that of *another measurement* there, whose error is in it; asked was that of the field."
            )
        if bool((std > covariance.diagonal().sqrt() + 1e-6).any()):
            raise IncorrectAnswer(
                "The mean is right. But somewhere you are less certain than before the measuring: look at the sign."
            )
        raise IncorrectAnswer(
            f"The mean is right. The standard deviation is off by up to {(std - right_std).abs().max():.2f}; it is the root of the diagonal of covariance - B A⁻¹ Bᵀ."
        )
    return "Mean and standard deviation are those of the exact posterior."


def my_kriging(covariance, places, values, noise):
    B = covariance[:, places]  # (n, m): the field with what is measured
    A = covariance[places][:, places] + noise**2 * torch.eye(len(places), dtype=covariance.dtype)  # (m, m)
    weights = torch.linalg.solve(A, B.T).T  # (n, m): B A^-1, for A is symmetric
    variance = covariance.diagonal() - (weights * B).sum(1)
    return weights @ values, variance.sqrt()


def without_errors(covariance, places, values, noise):
    return my_kriging(covariance, places, values, 1e-6)


def not_squared(covariance, places, values, noise):
    return my_kriging(covariance, places, values, noise**0.5)


def without_the_inverse(covariance, places, values, noise):
    return covariance[:, places] @ values, my_kriging(covariance, places, values, noise)[1]


def sorted_places(covariance, places, values, noise):
    return my_kriging(covariance, places.sort().values, values, noise)


def variance_for_deviation(covariance, places, values, noise):
    mean, std = my_kriging(covariance, places, values, noise)
    return mean, std**2


def prior_deviation(covariance, places, values, noise):
    return my_kriging(covariance, places, values, noise)[0], covariance.diagonal().sqrt()


def of_a_measurement(covariance, places, values, noise):
    mean, std = my_kriging(covariance, places, values, noise)
    return mean, (std**2 + noise**2).sqrt()


def plus_for_minus(covariance, places, values, noise):
    mean, std = my_kriging(covariance, places, values, noise)
    return mean, (2 * covariance.diagonal() - std**2).sqrt()


def deviation_without_errors(covariance, places, values, noise):
    return my_kriging(covariance, places, values, noise)[0], my_kriging(covariance, places, values, 1e-3)[1]


def at_the_sensors_only(covariance, places, values, noise):
    mean, std = my_kriging(covariance, places, values, noise)
    return mean[places], std[places]


def by_information(covariance, places, values, noise):
    # what each measurement tells adds up: the inverse covariances do
    told = torch.zeros(len(covariance), dtype=covariance.dtype)
    told[places] = 1 / noise**2
    ridge = 1e-10 * torch.eye(len(covariance), dtype=covariance.dtype)
    posterior = torch.linalg.inv(torch.linalg.inv(covariance + ridge) + torch.diag(told))
    seen = torch.zeros_like(told)
    seen[places] = values / noise**2
    return posterior @ seen, posterior.diagonal().sqrt()


def in_numpy(covariance, places, values, noise):
    C, at = covariance.numpy(), places.numpy()
    A = C[np.ix_(at, at)] + noise**2 * np.eye(len(at))
    mean = C[:, at] @ np.linalg.inv(A) @ values.numpy()
    return mean, np.sqrt(np.diag(C - C[:, at] @ np.linalg.inv(A) @ C[at]))


kriging = Exercise(
    "19.kriging",
    r"""Write kriging yourself: the exact posterior of a Gaussian field. The field has n places, mean 0 and a known `covariance` (n, n). You
    measured `values` (m,) at the places with the numbers `places` (m,), each with an independent error of standard deviation `noise`. Return the
    posterior mean and the posterior standard deviation of *the field*, at all n places, as two tensors (n,). Two Gaussians that vary together are
    enough: what is measured has a covariance of its own (m, m), and a covariance with the field (n, m).""",
    hints=[
        "What is measured is the field at those places *plus an error*. The errors are independent, so they change only the diagonal of its covariance: by their variance.",
        "With A the covariance of what is measured (m, m) and B that of the field with it (n, m): the mean is B A⁻¹ values, and the covariance is `covariance` - B A⁻¹ Bᵀ.",
        "`weights = torch.linalg.solve(A, B.T).T` is B A⁻¹. You need the diagonal of the posterior's covariance only: `(weights * B).sum(1)` is that of B A⁻¹ Bᵀ.",
    ],
    solution=my_kriging,
    check=_check_kriging,
    mistakes={
        "as if none of them erred": without_errors,
        "`noise` squared": not_squared,
        "as if each were alone": without_the_inverse,
        "with places in their order": sorted_places,
        "is the variance": variance_for_deviation,
        "from before the measuring": prior_deviation,
        "of *another measurement*": of_a_measurement,
        "look at the sign": plus_for_minus,
        "is off by up to": deviation_without_errors,
        "has the shape": at_the_sensors_only,
    },
    variants=[by_information, in_numpy],
)


# an interval from samples


def _check_interval(answer):
    g = torch.Generator().manual_seed(3)
    for m, level, j in ((39, 0.95, 1), (39, 0.5, 10), (39, 0.8, 4), (99, 0.9, 5), (19, 0.8, 2)):
        samples = torch.randn(m, 6, 5, generator=g).double().exp() * torch.arange(1, 7)[:, None]  # skewed, wider below
        out = several(call(answer, samples.clone(), level), ("lo", "hi"))
        lo, hi = numbers(out[0], (6, 5), "lo"), numbers(out[1], (6, 5), "hi")
        ordered = samples.sort(0).values
        if agrees(lo, ordered[j - 1]) and agrees(hi, ordered[-j]):
            continue
        raise IncorrectAnswer(f"With {m} samples and the level {level}: {_what_is_wrong(samples, level, j, lo, hi)}")
    return "Between lo and hi lies the share of the gaps that was asked for."


def _what_is_wrong(samples, level, j, lo, hi) -> str:
    ordered, m = samples.sort(0).values, len(samples)
    mean, std = samples.mean(0), samples.std(0)
    z = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor((1 + level) / 2, dtype=torch.float64))

    def gives(a, b, tolerance=0.02):
        return agrees(lo, a, tolerance) and agrees(hi, b, tolerance)

    if bool((lo > hi).any()):
        return "lo is above hi."
    if agrees(lo, lo[0, 0]) and agrees(hi, hi[0, 0]):
        return "all places get the same interval. Each has samples of its own."
    if gives(torch.quantile(samples, (1 - level) / 2, 0), torch.quantile(samples, (1 + level) / 2, 0), 1e-6):
        return "these are quantiles *of the samples*. They cut off their share inside the samples, and forget the two endless gaps: the interval is too narrow."
    if gives(mean - z * std, mean + z * std):
        return (
            "the interval is symmetric about the mean, as for a Gaussian. These samples are skewed, and theirs is not."
        )
    if gives(mean - z * std / m**0.5, mean + z * std / m**0.5):
        return "this is where the *mean* lies, an interval that shrinks with more samples. The truth is as uncertain as one sample."
    if gives(ordered[j], ordered[-j - 1], 1e-6):
        return f"one sample too far in: at each end {j} of the gaps may be left out, and here {j + 1} are."
    if j > 1 and gives(ordered[j - 2], ordered[1 - j], 1e-6):
        return f"one sample too far out: at each end {j} of the gaps may be left out, and here {j - 1} are. Is something rounded down?"
    if gives(ordered[0], ordered[-1], 1e-6):
        return "this goes from the smallest to the largest sample, whatever the level."
    if agrees(lo, ordered[0], 1e-6):
        return "everything that may be left out is left out at the upper end. Central means: half of it at each end."
    return f"expected the sample number {j} from below and from above; this covers {((ordered >= lo) & (ordered <= hi)).double().mean():.0%} of the samples."


def my_interval(samples, level):
    ordered = samples.sort(dim=0).values
    j = round((1 - level) / 2 * (len(samples) + 1))  # gaps to leave out at each end
    return ordered[j - 1], ordered[-j]


def quantiles(samples, level):
    return torch.quantile(samples, (1 - level) / 2, 0), torch.quantile(samples, (1 + level) / 2, 0)


def gaussian(samples, level):
    z = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor((1 + level) / 2, dtype=torch.float64))
    return samples.mean(0) - z * samples.std(0), samples.mean(0) + z * samples.std(0)


def of_the_mean(samples, level):
    z = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor((1 + level) / 2, dtype=torch.float64))
    off = z * samples.std(0) / len(samples) ** 0.5
    return samples.mean(0) - off, samples.mean(0) + off


def pooled(samples, level):
    lo, hi = my_interval(samples.flatten(), level)
    return lo.expand(samples.shape[1:]), hi.expand(samples.shape[1:])


def counted_from_one(samples, level):
    ordered = samples.sort(dim=0).values
    j = round((1 - level) / 2 * (len(samples) + 1))
    return ordered[j], ordered[-j - 1]


def rounded_down(samples, level):
    ordered = samples.sort(dim=0).values
    j = max(1, int((1 - level) / 2 * (len(samples) + 1) - 1e-9))
    return ordered[j - 1], ordered[-j]


def extremes(samples, level):
    return samples.amin(0), samples.amax(0)


def one_sided(samples, level):
    ordered = samples.sort(dim=0).values
    return ordered[0], ordered[-round((1 - level) * (len(samples) + 1))]


def upside_down(samples, level):
    return my_interval(samples, level)[::-1]


def sorted_along_the_places(samples, level):
    ordered = samples.sort(dim=-1).values
    return ordered[..., 0], ordered[..., -1]


def level_for_its_rest(samples, level):
    return my_interval(samples, 1 - level)


def by_counting(samples, level):
    j = round((1 - level) * (len(samples) + 1) / 2)
    return samples.kthvalue(j, dim=0).values, samples.kthvalue(len(samples) + 1 - j, dim=0).values


def by_weibulls_quantiles(samples, level):
    ends = [(1 - level) / 2, (1 + level) / 2]
    return tuple(np.quantile(samples.numpy(), ends, axis=0, method="weibull"))


interval = Exercise(
    "19.interval",
    r"""From `samples` (m, ...), m samples of a posterior, make the central interval that holds the truth with probability `level`: two tensors
    `lo` and `hi` of the shape (...), one interval for each place. The truth is one more draw from the same distribution. So it is equally likely
    to fall into any of the m + 1 gaps that m sorted samples make (the two outermost are endless). Leave out as many gaps at each end as `level`
    allows. The numbers are chosen so that this comes out even: with 39 samples and 0.95 it is one of 40 gaps at each end.""",
    hints=[
        "How many of the m + 1 gaps may be left out in all, and how many at each end?",
        "With j gaps left out at each end, the interval goes from the j-th smallest sample to the j-th largest.",
        "Sort along the first axis. Counting starts at 0, so the j-th smallest is `ordered[j - 1]` and the j-th largest `ordered[-j]`. Round j: computers write (1 - 0.8) / 2 * 40 as 3.9999999999999996.",
    ],
    solution=my_interval,
    check=_check_interval,
    mistakes={
        "quantiles *of the samples*": quantiles,
        "as for a Gaussian": gaussian,
        "where the *mean* lies": of_the_mean,
        "the same interval": pooled,
        "one sample too far in": counted_from_one,
        "rounded down": rounded_down,
        "whatever the level": extremes,
        "half of it at each end": one_sided,
        "lo is above hi": upside_down,
        "has the shape": sorted_along_the_places,
        "expected the sample number": level_for_its_rest,
    },
    variants=[by_counting, by_weibulls_quantiles],
)
