"""Denoiser: network + schedule + prediction target -> Estimate(x0, eps)."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from learn_diffusion import validation
from learn_diffusion.process import Estimate
from learn_diffusion.schedules import Schedule, knows
from learn_diffusion.targets import row_of, solve

NULL_LABEL = -1  # a dropped label; a network with labels must know this value
LOGSNR_RANGE = (-20.0, 20.0)  # range of the network's input: log-SNR is infinite at the ends of most paths


def drop_cond(y: Tensor, cond_mask: Tensor | None) -> Tensor:
    """y (B, ...) with the conditions of the rows where cond_mask (B,) bool is False replaced by NULL_LABEL."""
    if cond_mask is None:
        return y
    return torch.where(cond_mask.reshape(cond_mask.shape + (1,) * (y.ndim - 1)), y, NULL_LABEL)


@final
class Denoiser(nn.Module):
    """net(c x_t, logsnr, condition) is read as the target F = a x0 + b eps, and solved for x0 and eps.

    net       an nn.Module with forward(x (B, ...), logsnr (B,), cond) -> (B, ...); it gets the log-SNR, not a step
              index, so one network can be sampled with any timesteps and schedule
    schedule  the schedule it is trained with
    target    a name in targets.TARGETS: what the network regresses

    The input is scaled by c = 1 / sqrt(sigma^2 + sigma_data^2 alpha^2), so that it has unit variance with every
    schedule (Karras et al. 2022, tab. 1); sigma_data is the schedule's.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, target: str):
        super().__init__()
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule: expected a Schedule such as Cosine(), got {schedule!r}")
        self.net, self.schedule, self.target = net, schedule, target
        self._row = row_of(target)

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU for a network without any."""
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

    def target_coefficients(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """The target's row (a, b) at these coefficients."""
        return self._row(alpha, sigma, self.schedule.sigma_data)

    def raw_output(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        cond_mask: Tensor | None = None,
        image_cond: Tensor | None = None,
        at: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The network's output F, (B, ...) like x, before it is solved for x0 and eps.

        Arguments and errors as in forward; at: (alpha, sigma) at t, where they are known already.
        """
        t = validation.as_level("t", t)
        validation.fits_weights("x", x, self.net)
        y = _checked_condition(x, y, cond_mask, image_cond)
        _check_channels(self.net, image_cond)
        alpha, sigma = self.schedule.at(t, x) if at is None else at
        c = (sigma**2 + (self.schedule.sigma_data * alpha) ** 2) ** -0.5
        logsnr = self.schedule.logsnr(t).clamp(*LOGSNR_RANGE)
        if validation.readable(logsnr) and logsnr.ndim == 0:  # a copy to a GPU would wait for it, filling does not
            logsnr = torch.full((len(x),), logsnr.item(), dtype=x.dtype, device=x.device)
        seen = c * x if image_cond is None else torch.cat([c * x, image_cond.to(x.dtype)], dim=1)
        out = self.net(seen, logsnr.to(x.dtype).expand(len(x)), None if y is None else drop_cond(y, cond_mask))
        if not isinstance(out, Tensor):
            raise TypeError(f"net: expected a tensor of the shape of x, {tuple(x.shape)}, got {type(out).__name__}")
        if out.shape != x.shape:
            raise ValueError(f"net: expected an answer of the shape of x, {tuple(x.shape)}, got {tuple(out.shape)}")
        return out.to(x.dtype)

    def forward(
        self,
        x: Tensor,
        t: Tensor | float,
        y: Tensor | None = None,
        cond_mask: Tensor | None = None,
        image_cond: Tensor | None = None,
    ) -> Estimate:
        """Estimate x0 and eps of x_t.

        x           (B, ...) float
        t           () or (B,), the noise level, within the schedule
        y           (B, ...) condition, or None: whole numbers of any type, or what a network of your own reads
        cond_mask   (B,) bool, False where the condition is dropped; None keeps all
        image_cond  (B, K, H, W) concatenated to x_t, for a network with cond_channels=K; never dropped. See
              with_image_cond

        All on the device of the weights; a () level may stay on the CPU. Raises TypeError for an x of another type
        than the weights, ValueError for another device, levels outside the schedule (where the host can see them), a
        condition that does not fit, and a target that cannot be solved (eps where alpha is 0).
        """
        t = validation.as_level("t", t)
        validation.floats("x", x)
        alpha, sigma = self.schedule.at(t, x)
        a, b = self.target_coefficients(alpha, sigma)
        if validation.readable(t) and not bool((abs(alpha * b - sigma * a) > 0).all()):
            at = " or ".join(f"{level:g}" for level in sorted({t.max().item(), t.min().item()}))
            raise ValueError(
                f"t: the target {self.target!r} does not determine x0 and eps at t = {at} of {self.schedule}, where "
                f"|det| is 0; train 'v' or 'u', or leave out that timestep"
            )
        return solve(x, self.raw_output(x, t, y, cond_mask, image_cond, (alpha, sigma)), alpha, sigma, (a, b))


def _checked_condition(
    x: Tensor, y: Tensor | None, cond_mask: Tensor | None, image_cond: Tensor | None
) -> Tensor | None:
    """y, whole numbers as int64, if all three fit x."""
    n = len(x)
    for name, value in (("y", y), ("cond_mask", cond_mask), ("image_cond", image_cond)):
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"{name}: expected a tensor or None, got {type(value).__name__}")
            validation.same_device(name, value, "x", x.device)
    if y is not None and (y.ndim == 0 or len(y) != n):
        got = "a single one" if y.ndim == 0 else len(y)
        raise ValueError(f"y: expected one condition for each of the {n} rows of x, got {got}")
    if y is not None and y.dtype == torch.bool:
        raise ValueError(f"y: expected numbers, got {y.dtype}")
    if cond_mask is not None and (cond_mask.dtype != torch.bool or cond_mask.shape != (n,)):
        raise ValueError(f"cond_mask: expected ({n},) bool, got {cond_mask.dtype} of shape {tuple(cond_mask.shape)}")
    if image_cond is not None:
        validation.floats("image_cond", image_cond)
    if image_cond is not None and (
        image_cond.ndim != 4 or image_cond.shape[:1] + image_cond.shape[2:] != x.shape[:1] + x.shape[2:]
    ):
        raise ValueError(
            f"image_cond: expected (B, K, H, W) that fits x {tuple(x.shape)}, got {tuple(image_cond.shape)}"
        )
    return y if y is None or y.is_floating_point() else y.long()


def check_known(name: str, y: Tensor, net: nn.Module) -> None:
    """Labels (B,) or tokens (B, L) must be among those that a network of learn_diffusion.nets knows: on a GPU any other
    would stop the process. Looks at all values.
    """
    classes = getattr(net, "config", {}).get("classes", 0)
    words = getattr(getattr(net, "text", None), "token_embedding", None)  # its rows: -1, 0, and the words
    for ndim, least, most in ((1, 0, classes - 1), (2, -1, words.num_embeddings - 2 if words else -1)):
        if y.ndim == ndim and y.numel() and most >= 0 and not y.is_floating_point():
            low, high = int(y.min()), int(y.max())  # bytes know no -1, what was dropped
            if low < -1 or high > most:
                raise ValueError(f"{name}: expected numbers from {least} to {most}, got {low} to {high}")


def _check_channels(net: nn.Module, image_cond: Tensor | None) -> None:
    """A network that says how many channels its image condition has must get so many."""
    expected = getattr(net, "config", {}).get("cond_channels")
    got = 0 if image_cond is None else image_cond.shape[1]
    if expected is not None and got != expected:
        raise ValueError(f"image_cond: expected {expected} channels, as this network's cond_channels says, got {got}")


def with_image_cond(model: Denoiser, image_cond: Tensor) -> Callable[..., Estimate]:
    """Bind image_cond (B, K, H, W) to the model; the result takes x, t, y and cond_mask.

    cfg evaluates each row twice in one batch; image_cond is then repeated likewise.
    """

    def bound(x: Tensor, t: Tensor, y: Tensor | None = None, cond_mask: Tensor | None = None) -> Estimate:
        if len(x) % len(image_cond):
            raise ValueError(f"image_cond: expected one for each of the {len(x)} rows of x, got {len(image_cond)}")
        return model(x, t, y, cond_mask, image_cond.repeat(len(x) // len(image_cond), 1, 1, 1))

    return knows(bound, getattr(model, "schedule", None))
