"""Muon for the matrices inside a network, AdamW for everything else.

A gradient that says mostly one thing moves a weight matrix in mostly one direction, and what it says more quietly has
to wait. Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) makes every direction of an update
equally loud: it replaces the running mean of the gradients by the nearest matrix whose singular values are all 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

MUON_TO_ADAMW = 10.0  # Muon's learning rate over AdamW's in one training
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of Jordan et al. 2024: five rounds bring singular values near 1


def orthogonalise(x: Tensor) -> Tensor:
    """Matrices (..., M, N) with the same singular vectors and singular values near 1 (from 0.7 to 1.2).

    A round of Newton-Schulz applies the odd polynomial a s + b s^3 + c s^5 to all singular values s at once: it
    multiplies x by p(x x^T), p a polynomial, and so x x^T by p(x x^T)^2. So all rounds are done on that product, which
    is square and of the smaller side, and x is multiplied once, at the end.
    """
    a, b, c = NEWTON_SCHULZ
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram, product = x @ x.mT, None
    for last in (False, False, False, False, True):
        p = b * gram + c * gram @ gram
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        product = p if product is None else p @ product
        if not last:
            gram = p @ gram @ p
    x = product @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised; a convolution counts as the matrix (C_out, C_in * height * width).

    params    weights of two or more dimensions
    lr        learning rate: how far an update moves every direction, times sqrt(M / N) for a matrix taller than wide,
              so that features change as much whatever the shape
    momentum  of the running mean of the gradients, looked ahead once (Nesterov)
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim < 2:
                raise ValueError(f"params: expected weights of two or more dimensions, got shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every weight that has a gradient. Weights of one shape are orthogonalised together."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for p in weights:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            grads, means = [p.grad for p in weights], [self.state[p]["momentum"] for p in weights]
            torch._foreach_lerp_(means, grads, 1 - group["momentum"])
            ahead = torch._foreach_lerp(grads, means, group["momentum"])
            alike = defaultdict(list)
            for p, update in zip(weights, ahead, strict=True):
                alike[len(p), p[0].numel()].append((p, update.flatten(1)))
            for (rows, columns), pairs in alike.items():
                updates = orthogonalise(torch.stack([update for _, update in pairs]))
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.sub_(update.view(p.shape), alpha=scale)


def hidden_matrices(net: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: matrices and convolutions that turn features into features.

    Not the layers that a network names in `outer`, which touch data, noise level, labels or the answer; where it names
    none, its first and last layer. Never tables of embeddings, norms, biases, or parameters that no layer owns.
    """
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    outer = net.outer if hasattr(net, "outer") else [*layers[:1], *layers[-1:]]
    excluded = {m for part in outer for m in part.modules()}
    return [m.weight for m in layers if m not in excluded]


def optimizers(net: nn.Module, lr: float, muon: bool = True) -> list[torch.optim.Optimizer]:
    """AdamW of this learning rate for all weights of net or, with muon, Muon of ten times that for hidden_matrices."""
    hidden = hidden_matrices(net) if muon else []
    ids = {id(p) for p in hidden}
    rest = [p for p in net.parameters() if id(p) not in ids]
    adamw = torch.optim.AdamW(rest, lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    return [adamw, Muon(hidden, MUON_TO_ADAMW * lr)] if hidden else [adamw]
