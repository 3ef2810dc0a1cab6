"""Flow maps: a network that jumps from one time of the flow schedule to an earlier one in a single call.

It answers with the average velocity u(x_t, r, t) between r and t of the path through x_t, so x_r = x_t - (t - r) u
(Geng et al. 2025, "Mean Flows for One-step Generative Modeling"; Boffi et al. 2024 call the jump a flow map). At r = t
it is the velocity of flow matching. Time runs as everywhere in this package: 0 is data, 1 is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from learn_diffusion import validation
from learn_diffusion.nets.embedding import Embedding

AverageVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x (B, ...), r (B,), t (B,)) -> u (B, ...)
CLOCK = 8.0  # times are shown to an Embedding as CLOCK at 0 to -CLOCK at 1: a log-SNR would be infinite at both ends


@final
class TwoTimes(nn.Module):
    """In place of a network's Embedding: reads two numbers (B, 2), the second through an Embedding of its own.

    The second one starts silent: before training, a network hears the first time only.
    """

    def __init__(self, first: Embedding):
        super().__init__()
        self.first, self.second = first, Embedding(first.layers[-1].out_features)
        nn.init.zeros_(self.second.layers[-1].weight)
        nn.init.zeros_(self.second.layers[-1].bias)
        self.second.to(first.layers[-1].weight)

    def forward(self, times: Tensor, label: Tensor | None = None) -> Tensor:
        return self.first(times[:, 0], label) + self.second(times[:, 1])


@final
class FlowMap(nn.Module):
    """u(x_t, r, t), from a network of learn_diffusion.nets, which was made to be told one time.

    net  an MLP, UNet or DiT. Its embedding is replaced by TwoTimes, so from then on it answers through this FlowMap
         only. Raises TypeError for a network that has none.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        if not isinstance(getattr(net, "embedding", None), Embedding):
            raise TypeError(f"net: expected a network with an Embedding, such as MLP or UNet, got {type(net).__name__}")
        net.embedding = TwoTimes(net.embedding)
        self.net = net

    @property
    def outer(self) -> list[nn.Module]:
        """The layers that touch data, times, labels or the answer: see optim.hidden_matrices."""
        return self.net.outer

    def forward(self, x: Tensor, r: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x (B, ...) at the times t (B,); r (B,) from 0 to t; y (B,) labels or None. Returns (B, ...).

        The network is told t, and the length t - r of the jump.
        """
        for name, time in (("r", r), ("t", t)):
            if time.shape != (len(x),):
                raise ValueError(f"{name}: expected a time for each row of x, ({len(x)},), got {tuple(time.shape)}")
        return self.net(x, CLOCK * (1 - 2 * torch.stack([t, t - r], dim=1)), y)


def jumps(model: AverageVelocity, x: Tensor, calls: int, average: bool = True) -> Iterator[Tensor]:
    """x_s after each of so many equal jumps from noise x (B, ...) at t = 1 to s = 0; the last is a sample of the data.

    average  False asks for u(x, t, t), the velocity where the step begins, and goes straight on: Euler's method
    """
    validation.floats("x", x)
    validation.finite("x", x)
    calls = validation.positive_int("calls", calls)

    @torch.no_grad()
    def run(x: Tensor) -> Iterator[Tensor]:
        for t, s in pairwise(torch.linspace(1, 0, calls + 1).tolist()):
            r = s if average else t
            x = x - (t - s) * model(x, x.new_full((len(x),), r), x.new_full((len(x),), t))
            yield x

    return run(x)


@torch.no_grad()
def along_path(model: AverageVelocity, x: Tensor, r: Tensor, t: Tensor, v: Tensor, step: float = 0.002) -> Tensor:
    """How u(x, r, t) changes while t grows and x moves at the velocity v: v . grad_x u + du/dt, (B, ...).

    The difference over two steps, without gradients. torch.func.jvp gives the exact derivative (tests compare them);
    it has no rule for norms over channels_last, which UNet computes, and took longer on a CPU.
    """
    return (model(x + step * v, r, t + step) - model(x - step * v, r, t - step)) / (2 * step)
