"""Do two sets of pictures have one distribution? A classifier that has to tell them apart, and paired distances."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.metrics.distributions import frechet
from learn_diffusion.metrics.error_bars import MeanWithError, mean_and_error, with_standard_error


def told_apart(a: Tensor, b: Tensor, folds: int = 4, seed: int = 0) -> MeanWithError:
    """Classifier two-sample test (Lopez-Paz & Oquab 2017): how often a classifier says right of which set a row is.

    a, b (n, k, D): features of k parts of each of n pictures, as many in both. 0.5: it cannot tell. A forest of 100
    extremely randomised trees (Geurts et al. 2006), tested on pictures that it was not trained on: all parts of
    picture i of a, and of b, are in one fold. The error is one standard error over the n pairs of pictures.
    """
    from sklearn.ensemble import ExtraTreesClassifier  # slow to import
    from sklearn.model_selection import GroupKFold, cross_val_predict

    validation.floats("a", a, ndim=3)
    validation.same_shape("b", b, "a", a)
    n, k, _ = a.shape
    if n < folds:
        raise ValueError(f"a: expected at least {folds} pictures, one for each fold, got {n}")
    x = torch.stack([a, b], dim=1).flatten(0, 2).cpu().numpy()
    truth = np.tile(np.repeat([1, 0], k), n)
    forest = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=seed)
    said = cross_val_predict(forest, x, truth, groups=np.repeat(np.arange(n), 2 * k), cv=GroupKFold(folds))
    return mean_and_error((said == truth).reshape(n, -1).mean(1).tolist())


def frechet_difference(a: Tensor, b: Tensor, real: Tensor, draws: int = 50, seed: int = 0) -> MeanWithError:
    """frechet(a, real) - frechet(b, real), where row i of a and of b, (N, D), are of one picture, with its error.

    The error is that of with_standard_error, the same halves drawn for both: what a and b share by being finite, and
    by being compared with the same real (M, D), cancels. Halves must have more rows than D.
    """
    validation.same_shape("b", b, "a", a)
    if min(len(a), len(real)) < 2 * a.shape[1] + 2:
        raise ValueError(f"a, real: expected more than {2 * a.shape[1] + 1} rows for {a.shape[1]} features")

    def difference(both: Tensor, twice: Tensor) -> float:
        (x, y), (r, _) = both.chunk(2, dim=1), twice.chunk(2, dim=1)
        return frechet(x, r) - frechet(y, r)

    return with_standard_error(difference, torch.cat([a, b], dim=1), real.repeat(1, 2), draws, seed)
