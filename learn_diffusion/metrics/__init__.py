"""What the course measures, by subject; each metric says its source, and is tested against a known answer.

distributions: how close samples are to real data. error_bars: means, their errors, and whether two differ.
The other modules measure what single chapters need, and are imported by their own names.
"""

from learn_diffusion.metrics.distributions import (
    AllMetrics,
    all_metrics,
    density_coverage,
    frechet,
    kernel_distance,
    modes,
    nn_distance_ratio,
    precision_recall,
)
from learn_diffusion.metrics.error_bars import (
    MeanWithError,
    mean_and_error,
    mean_and_spread,
    paired_difference,
    welch,
    with_standard_error,
)

__all__ = [
    "AllMetrics",
    "MeanWithError",
    "all_metrics",
    "density_coverage",
    "frechet",
    "kernel_distance",
    "mean_and_error",
    "mean_and_spread",
    "modes",
    "nn_distance_ratio",
    "paired_difference",
    "precision_recall",
    "welch",
    "with_standard_error",
]
