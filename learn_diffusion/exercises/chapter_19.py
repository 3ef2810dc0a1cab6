"""Chapter 19, Can it fill in what we did not measure?"""

from __future__ import annotations

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise, agrees

# kriging, by hand, from sensors that each see several places


def my_kriging(covariance, sensors, values, noise):
    B = covariance @ sensors.T  # (n, m): the field with what is measured
    A = sensors @ B + noise**2 * torch.eye(len(sensors), dtype=covariance.dtype)  # (m, m)
    weights = torch.linalg.solve(A, B.T).T  # (n, m): B A^-1, for A is symmetric
    variance = covariance.diagonal() - (weights * B).sum(1)
    return weights @ values, variance.sqrt()


def _deviation(wrong):
    """The right mean, and wrong(std, prior std, noise)."""

    def kriging(covariance, sensors, values, noise):
        mean, std = my_kriging(covariance, sensors, values, noise)
        return mean, wrong(std, covariance.diagonal().sqrt(), noise)

    return kriging


def _middles(sensors):
    """As if each sensor saw one place, the middle of its patch."""
    at = (sensors @ torch.arange(sensors.shape[1], dtype=sensors.dtype)).round().long()
    return torch.eye(sensors.shape[1], dtype=sensors.dtype)[at]


def by_information(covariance, sensors, values, noise):
    # what each measurement tells adds up: the inverse covariances do
    ridge = 1e-10 * torch.eye(len(covariance), dtype=covariance.dtype)
    posterior = torch.linalg.inv(torch.linalg.inv(covariance + ridge) + sensors.T @ sensors / noise**2)
    return posterior @ sensors.T @ values / noise**2, posterior.diagonal().sqrt()


def in_numpy(covariance, sensors, values, noise):
    C, H = covariance.numpy(), sensors.numpy()
    gain = C @ H.T @ np.linalg.inv(H @ C @ H.T + noise**2 * np.eye(len(H)))
    return gain @ values.numpy(), np.sqrt(np.diag(C - gain @ H @ C))


def _curve():
    """A Gaussian curve with 40 places and a variance that grows along it; 6 sensors, means over patches, err by 0.3."""
    at = torch.linspace(0, 1, 40, dtype=torch.float64)
    scale = 0.8 + 0.6 * at
    covariance = scale[:, None] * scale * torch.exp(-((at[:, None] - at) ** 2) / (2 * 0.12**2))
    sensors = torch.zeros(6, 40, dtype=torch.float64)
    for row, (first, width) in zip(sensors, [(27, 9), (0, 5), (8, 3), (14, 7), (35, 3), (24, 1)], strict=True):
        row[first : first + width] = 1 / width
    values = torch.tensor([0.4, -0.9, 0.5, 1.1, -0.3, 0.8], dtype=torch.float64)
    return [(covariance, sensors, values, 0.3)]


def _off(got, expected, *args):
    mean, std = ((a - b).abs().max() for a, b in zip(got, expected, strict=True))
    if not agrees(got[0], expected[0]):
        return f"The mean is off by up to {mean:.2f}. Is it B A⁻¹ values?"
    return (
        f"The mean is right. The standard deviation is off by up to {std:.2f}; "
        "it is the root of the diagonal of covariance - B A⁻¹ Bᵀ."
    )


Exercise(
    "19.kriging",
    r"""Write kriging for sensors that see more than one place, as a satellite does. The field has n places, mean 0 and a known `covariance` (n, n).
    Row i of `sensors` (m, n) holds the weight of every place in what sensor i sees: it reads `sensors[i] @ field`, with an independent error of
    standard deviation `noise`. The readings are `values` (m,). Return the posterior mean and the posterior standard deviation of *the field*, at all n
    places, as two tensors (n,). The formulas are those of the chapter's box, once you know two covariances: of what is measured with itself (m, m), and
    of the field with what is measured (n, m).""",
    hints=[
        "What is measured is `sensors @ field` *plus an error*. The errors are independent, so they change only the diagonal of its covariance: by their variance.",
        "The covariance of `H @ field` with itself is H C Hᵀ, where C is that of the field, and that of the field with it is C Hᵀ.",
        "With A the covariance of what is measured (m, m) and B that of the field with it (n, m): the mean is B A⁻¹ values, and the covariance is `covariance` - B A⁻¹ Bᵀ.",
        "`weights = torch.linalg.solve(A, B.T).T` is B A⁻¹. You need the diagonal of the posterior's covariance only: `(weights * B).sum(1)` is that of B A⁻¹ Bᵀ.",
    ],
    solution=my_kriging,
    inputs=_curve,
    result=("the mean", "the standard deviation"),
    mistakes={
        "The mean goes right through every measurement, as if none of them erred. Where is `noise`?": (
            lambda covariance, sensors, values, noise: my_kriging(covariance, sensors, values, 1e-6)
        ),
        "On the diagonal stands the *variance* of the errors, `noise` squared.": (
            lambda covariance, sensors, values, noise: my_kriging(covariance, sensors, values, noise**0.5)
        ),
        "Neighbouring measurements are counted as if each were alone: A⁻¹ is missing between the covariance and the values.": (
            lambda covariance, sensors, values, noise: (
                covariance @ sensors.T @ values,
                my_kriging(covariance, sensors, values, noise)[1],
            )
        ),
        "Each sensor is taken to see only the middle of its patch. What it reads is `sensors[i] @ field`.": (
            lambda covariance, sensors, *rest: my_kriging(covariance, _middles(sensors), *rest)
        ),
        "The mean is that of sums of the places that a sensor sees at all. Use the weights.": (
            lambda covariance, sensors, *rest: my_kriging(covariance, (sensors > 0).to(sensors), *rest)
        ),
        "The mean is right. The second result is the variance; its square root was asked for.": _deviation(
            lambda std, prior, noise: std**2
        ),
        "The mean is right. The standard deviation is the one from before the measuring: it has to shrink near the sensors.": (
            _deviation(lambda std, prior, noise: prior)
        ),
        "The mean is right. The standard deviation is that of *another measurement* there, whose error is in it; asked was that of the field.": (
            _deviation(lambda std, prior, noise: (std**2 + noise**2).sqrt())
        ),
        "The mean is right. But somewhere you are less certain than before the measuring: look at the sign.": (
            _deviation(lambda std, prior, noise: (2 * prior**2 - std**2).sqrt())
        ),
        "The mean is right. The standard deviation is off by up to `noise`: it is that of measurements without errors.": (
            lambda covariance, sensors, values, noise: (
                my_kriging(covariance, sensors, values, noise)[0],
                my_kriging(covariance, sensors, values, 1e-3)[1],
            )
        ),
        "A field has values between the sensors, too: return them at all n places.": lambda covariance, sensors, *rest: [
            sensors @ part for part in my_kriging(covariance, sensors, *rest)
        ],
    },
    variants=[by_information, in_numpy],
    right="Mean and standard deviation are those of the exact posterior.",
    otherwise=_off,
)

# an interval from samples


def my_interval(samples, level):
    ordered = samples.sort(dim=0).values
    j = round((1 - level) / 2 * (len(samples) + 1))  # gaps to leave out at each end
    return ordered[j - 1], ordered[-j]


def _leaving_out(gaps):
    """gaps(level, m + 1) at each end."""

    def interval(samples, level):
        ordered, j = samples.sort(dim=0).values, gaps(level, len(samples) + 1)
        return ordered[j - 1], ordered[-j]

    return interval


def _about_the_mean(correction, of_the_mean=False):
    def interval(samples, level):
        z = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor((1 + level) / 2, dtype=torch.float64))
        off = z * samples.std(0, correction=correction) / (len(samples) ** 0.5 if of_the_mean else 1)
        return samples.mean(0) - off, samples.mean(0) + off

    return interval


def _quantiles(samples, level):
    return torch.quantile(samples, (1 - level) / 2, 0), torch.quantile(samples, (1 + level) / 2, 0)


def _pooled(interval):
    return lambda samples, level: [end.expand(samples.shape[1:]) for end in interval(samples.flatten(), level)]


def by_counting(samples, level):
    j = round((1 - level) * (len(samples) + 1) / 2)
    return samples.kthvalue(j, dim=0).values, samples.kthvalue(len(samples) + 1 - j, dim=0).values


def by_weibulls_quantiles(samples, level):
    ends = [(1 - level) / 2, (1 + level) / 2]
    return tuple(np.quantile(samples.numpy(), ends, axis=0, method="weibull"))


def _samples():
    """Skewed, and wider below."""
    g = torch.Generator().manual_seed(3)
    sizes = (39, 0.95), (39, 0.5), (39, 0.8), (99, 0.9), (19, 0.8)
    return [(torch.randn(m, 6, 5, generator=g).double().exp() * torch.arange(1, 7)[:, None], p) for m, p in sizes]


UPSIDE_DOWN = "lo is above hi."


def _covers(got, expected, samples, level):
    lo, hi = got
    if (lo > hi).any():
        return UPSIDE_DOWN
    return (
        f"With {len(samples)} samples and the level {level}: expected the sample number {round((1 - level) / 2 * (len(samples) + 1))} "
        f"from below and from above; this covers {((samples >= lo) & (samples <= hi)).double().mean():.0%} of the samples."
    )


Exercise(
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
    inputs=_samples,
    result=("lo", "hi"),
    mistakes={
        UPSIDE_DOWN: lambda *args: my_interval(*args)[::-1],
        "All places get the same interval. Each has samples of its own.": [_pooled(my_interval), _pooled(_quantiles)],
        "These are quantiles *of the samples*. They cut off their share inside the samples, and forget the two endless gaps: the interval is too narrow.": (
            _quantiles
        ),
        "The interval is symmetric about the mean, as for a Gaussian. These samples are skewed, and theirs is not.": [
            _about_the_mean(1),
            _about_the_mean(0),
        ],
        "This is where the *mean* lies, an interval that shrinks with more samples. The truth is as uncertain as one sample.": [
            _about_the_mean(1, of_the_mean=True),
            _about_the_mean(0, of_the_mean=True),
        ],
        "With the level {level}, this is one sample too far in: counting starts at 0.": _leaving_out(
            lambda level, gaps: round((1 - level) / 2 * gaps) + 1
        ),
        "With the level {level}, this is one sample too far out. Is something rounded down?": [
            _leaving_out(lambda level, gaps: max(1, int((1 - level) / 2 * gaps - 1e-9))),
            _leaving_out(lambda level, gaps: int((1 - level) / 2 * gaps)),
        ],
        "This goes from the smallest to the largest sample, whatever the level.": _leaving_out(lambda level, gaps: 1),
        "Everything that may be left out is left out at the upper end. Central means: half of it at each end.": (
            lambda samples, level: (samples.amin(0), my_interval(samples, 2 * level - 1)[1])
        ),
        "Sort along the first axis: along the last one, the samples of different places are mixed up.": (
            lambda samples, level: (samples.amin(-1), samples.amax(-1))
        ),
        "`level` is what you leave out: expected the sample number (1 - level) / 2 * (m + 1) at each end.": (
            lambda samples, level: my_interval(samples, 1 - level)
        ),
    },
    variants=[by_counting, by_weibulls_quantiles],
    right="Between lo and hi lies the share of the gaps that was asked for.",
    otherwise=_covers,
)
