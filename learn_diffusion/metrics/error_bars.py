"""Means with their error bars, and whether two of them differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.metrics.distributions import feature_pair


class MeanWithError(NamedTuple):
    """A number with its error bar. str() gives 1.2 ± 0.1; a format applies to both: f"{x:.0%}" gives 12% ± 1%."""

    value: float
    error: float  # one standard error, or a standard deviation where the function says so

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {self.error:.1g}"

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} ± {self.error:{spec}}" if spec else str(self)


def mean_and_error(values: Tensor | Sequence[float]) -> MeanWithError:
    """The mean of n >= 2 independent values, (n,), and its standard error, s / sqrt(n)."""
    x = _values("values", values)
    return MeanWithError(x.mean().item(), x.std().item() / math.sqrt(len(x)))


def mean_and_spread(values: Tensor | Sequence[float]) -> MeanWithError:
    """The mean of n >= 2 values, (n,), and their standard deviation: how much the next one may differ."""
    x = _values("values", values)
    return MeanWithError(x.mean().item(), x.std().item())


def paired_difference(a: Tensor | Sequence[float], b: Tensor | Sequence[float]) -> MeanWithError:
    """Mean of a - b with its standard error, where a[i] and b[i] share what they depend on (a seed, a picture)."""
    x, y = _values("a", a), _values("b", b)
    if len(x) != len(y):
        raise ValueError(f"b: expected {len(x)} values, one for each of a, got {len(y)}")
    return mean_and_error(x - y)


def ratio_of_means(a: Tensor | Sequence[float], b: Tensor | Sequence[float]) -> MeanWithError:
    """mean(a) / mean(b) where a[i] and b[i] are of one unit (a picture), n >= 2, and its standard error.

    The error is that of a - ratio * b over mean(b): exact to first order in 1 / n (Cochran 1977, ch. 6). A mean of
    ratios a[i] / b[i] would let units with a small b[i] decide.
    """
    x, y = _values("a", a), _values("b", b)
    if len(x) != len(y):
        raise ValueError(f"b: expected {len(x)} values, one for each of a, got {len(y)}")
    if y.mean() == 0:
        raise ValueError("b: expected values whose mean is not 0")
    ratio = x.mean() / y.mean()
    return MeanWithError(ratio.item(), mean_and_error((x - ratio * y) / y.mean()).error)


class Welch(NamedTuple):
    """What welch finds."""

    difference: float  # mean of a minus mean of b
    error: float  # its standard error
    limit: float  # |difference| beyond this many errors happens by chance less often than alpha
    differ: bool


def welch(a: Tensor | Sequence[float], b: Tensor | Sequence[float], alpha: float = 0.05) -> Welch:
    """Welch's t-test (1947): do two samples of unequal variance have different means? Two-sided, at level alpha."""
    from scipy import stats  # slow to import, and comes with scikit-learn

    validation.number("alpha", alpha)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: expected a probability between 0 and 1, got {alpha}")
    x, y = _values("a", a), _values("b", b)
    u, v = x.var().item() / len(x), y.var().item() / len(y)
    difference, error = (x.mean() - y.mean()).item(), math.sqrt(u + v)
    if error == 0:
        return Welch(difference, 0.0, math.inf, difference != 0)
    dof = (u + v) ** 2 / (u**2 / (len(x) - 1) + v**2 / (len(y) - 1))  # Welch-Satterthwaite
    limit = float(stats.t.ppf(1 - alpha / 2, dof))
    return Welch(difference, error, limit, abs(difference) > limit * error)


def _values(name: str, values: Tensor | Sequence[float]) -> Tensor:
    try:
        x = validation.to_double(torch.as_tensor(values)).flatten()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}: expected numbers, got {values!r:.80}") from None
    if len(x) < 2:
        raise ValueError(f"{name}: expected at least 2 values, got {len(x)}")
    validation.finite(name, x)
    return x


def with_standard_error(
    metric: Callable[[Tensor, Tensor], float], a: Tensor, b: Tensor, draws: int = 50, seed: int = 0
) -> MeanWithError:
    """metric(a, b), and the standard error that comes from having these rows and no others.

    Half of the rows of both are drawn without replacement, `draws` times: what the metric scatters by from half to half
    is the standard error for all rows, if it falls like 1 / sqrt(rows). (A bootstrap would repeat rows, and a repeated
    row is its own nearest neighbour.) For the scatter between trainings, train several times.
    """
    validation.positive_int("draws", draws)
    a, b = feature_pair("a", a, "b", b, at_least=4)
    g = torch.Generator().manual_seed(seed)

    def half(x: Tensor) -> Tensor:
        return x[torch.randperm(len(x), generator=g, device="cpu")[: len(x) // 2]]

    scattered = torch.tensor([metric(half(a), half(b)) for _ in range(max(2, draws))], dtype=torch.float64)
    return MeanWithError(float(metric(a, b)), scattered.std().item())
