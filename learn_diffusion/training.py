"""Teach a network to undo noise: loss, a running average of the weights, and the loop."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from math import cos, pi
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from learn_diffusion import checkpoints, devices, team, validation
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.process import randn_like
from learn_diffusion.schedules import Schedule

ENDS_PROCESS = {"cpu"}  # devices on which the system would rather end the process than refuse memory
ImageCond = Callable[[Tensor, torch.Generator], Tensor]  # what a model may look at of data x0, with random choices


class Step(NamedTuple):
    """Where a training stands after an optimiser step."""

    step: int  # 1 ... steps
    loss: float  # of this step's batch
    model: Denoiser  # as trained so far
    ema: Denoiser  # the running average, the one to sample from


def loss(
    model: Denoiser,
    x0: Tensor,
    t: Tensor,
    y: Tensor | None = None,
    cond_mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    image_cond: Tensor | None = None,
    eps: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the network's answer, () tensor: noise x0 to level t, ask, compare with a x0 + b eps.

    x0 (B, ...) data; t (B,) levels; y (B, ...) conditions or None; cond_mask (B,) bool, False where y is dropped;
    image_cond (B, K, H, W) a picture to look at, or None; eps (B, ...) the noise, None to draw it. For target "eps" this is
    Ho et al. 2020, eq. 14. Raises TypeError or ValueError that names the argument.
    """
    validation.pictures_or_points("x0", x0)
    validation.level("t", t, len(x0), 0.0, model.schedule.t_max)
    alpha, sigma = model.schedule.at(t, x0)
    eps = randn_like(x0, generator) if eps is None else eps
    validation.floats("eps", eps)
    validation.same_shape("eps", eps, "x0", x0)
    a, b = model.target_coefficients(alpha, sigma)
    return F.mse_loss(model.raw_output(alpha * x0 + sigma * eps, t, y, cond_mask, image_cond), a * x0 + b * eps)


def sample_timesteps(schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
    """n training levels (n,), spread along the schedule's own grid: one at random in each of n equal slices.

    Slicing makes every batch see all levels, which calms the loss (Kingma et al. 2021, app. I).
    """
    device = generator.device
    u = (torch.arange(n, device=device) + torch.rand(n, generator=generator, device=device)) / n
    return schedule.time_at(u)


class EMA:
    """An exponential moving average of a model's weights; sampling from it is steadier than from the last weights.

    halflife: in steps, after which a weight counts half. While young, the average is over all steps so far, so that
    the random initial weights are soon forgotten.
    """

    def __init__(self, model: Denoiser, halflife: float = 500.0):
        if not halflife > 0:
            raise ValueError(f"halflife: expected a number of steps above 0, got {halflife}")
        self.source = model
        self.model: Denoiser = copy.deepcopy(model).requires_grad_(False).eval()
        self.halflife = halflife
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model as it is now."""
        self.updates += 1
        decay = min(0.5 ** (1 / self.halflife), self.updates / (self.updates + 9))
        torch._foreach_lerp_(list(self.model.parameters()), list(self.source.parameters()), 1 - decay)


def lr_at_step(step: int, steps: int, peak: float) -> float:
    """Up in a straight line over the first twentieth, then down to 0 along half a cosine."""
    warmup = max(1, steps // 20)
    if step <= warmup:
        return peak * step / warmup
    return peak * (1 + cos(pi * (step - warmup) / (steps - warmup))) / 2


def train(
    model: Denoiser,
    data: Tensor,
    steps: int,
    *,
    labels: Tensor | None = None,
    cond_drop: float = 0.1,
    image_cond: ImageCond | Tensor | None = None,
    batch: int = 64,
    grad_accum_steps: int = 1,
    lr: float = 2e-3,
    halflife: float | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    bf16: bool | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    resume: bool = True,
    progress: bool = False,
) -> Iterator[Step]:
    """Train model in place and yield a Step after each optimiser step and EMA update.

    data        (N, C, H, W) pictures in [-1, 1], or (N, D) points
    labels      (N,) int64 labels or (N, L) int64 captions, dropped for a share cond_drop of each batch, or None
    image_cond        what a network with K cond_channels looks at: a function (x0 (B, C, H, W), generator) -> (B, K, H, W) that makes
                it from the data, or (N, K, H, W), one for each row of data
    batch       rows of data a step; where torchrun started several processes, of all of them together (see team)
    grad_accum_steps  parts in which a process goes through its rows, for a batch that does not fit into memory at once
    lr          peak learning rate of AdamW; it warms up and anneals to 0 over `steps`
    halflife    of the EMA in steps; None: a twentieth of the training
    seed        of everything random in the loop; the initial weights are the caller's
    bf16        compute in bfloat16; None: where devices.use_bf16 says so
    checkpoint  file saved atomically every `checkpoint_every` steps and at the end: EMA weights (what load gives), with weights,
                optimiser and random state, so that a training killed at any moment resumes to the same bytes
    resume      continue from that file if it is there; a finished one yields its last Step again
    progress    show a tqdm bar

    Raises TypeError or ValueError that names a bad argument; ValueError for a checkpoint of another training, for one
    that another process is writing, and for a batch that does not fit into memory; FloatingPointError when the loss is
    not finite. The last checkpoint is then still good.
    """
    validation.pictures_or_points("data", data)
    validation.positive_int("steps", steps)
    validation.positive_int("batch", batch)
    validation.positive_int("checkpoint_every", checkpoint_every)
    validation.positive_int("grad_accum_steps", grad_accum_steps)
    _check_choices(model, data, labels, image_cond, cond_drop, lr)
    shares = team.shares(batch, grad_accum_steps)
    device = team.join(devices.resolve_device(device))
    model.to(device).train()
    run = _Run(model, data, labels, steps, batch, lr, cond_drop, image_cond, halflife, seed, device, bf16, shares)
    writes = checkpoint is not None and team.first()
    with checkpoints.file_lock("checkpoint", checkpoint) if writes else nullcontext():
        if checkpoint is not None and resume:
            run.resume(checkpoint)
            if run.step == steps:
                yield run.report()
        with tqdm(total=steps, initial=run.step, disable=not (progress and team.first()), unit="step") as bar:
            while run.step < steps:
                run.advance()
                if writes and (run.step % checkpoint_every == 0 or run.step == steps):
                    run.save(checkpoint)
                bar.update()
                yield run.report()
    model.eval()


def _check_choices(
    model: object, data: Tensor, labels: Tensor | None, image_cond: object, cond_drop: float, lr: float
) -> None:
    if not isinstance(model, Denoiser):
        raise TypeError(f"model: expected a Denoiser, got {type(model).__name__}")
    validation.dtype_of("data", data, model)
    if labels is not None and not isinstance(labels, Tensor):
        raise TypeError(f"labels: expected a tensor of {len(data)} whole numbers, got {type(labels).__name__}")
    if labels is not None and (labels.shape[:1] != (len(data),) or labels.ndim > 2 or labels.is_floating_point()):
        raise ValueError(
            f"labels: expected {len(data)} whole numbers (or rows of them), got {labels.dtype} of {tuple(labels.shape)}"
        )
    if not (image_cond is None or isinstance(image_cond, Tensor) or callable(image_cond)):
        raise TypeError(
            f"image_cond: expected a tensor, a function of (x0, generator) or None, got {type(image_cond).__name__}"
        )
    if isinstance(image_cond, Tensor) and len(image_cond) != len(data):
        raise ValueError(f"image_cond: expected one for each of {len(data)} rows of data, got {len(image_cond)}")
    if not 0 <= cond_drop <= 1:
        raise ValueError(f"cond_drop: expected a share from 0 to 1, got {cond_drop}")
    if not 0 <= lr < float("inf"):
        raise ValueError(f"lr: expected a learning rate of 0 or more, got {lr}")


class _Run:
    """The state of one training: what has to be saved for it to go on as if nothing had happened."""

    def __init__(
        self, model, data, labels, steps, batch, lr, cond_drop, image_cond, halflife, seed, device, bf16, shares
    ):
        devices.disable_malloc_trim()
        self.model, self.shares = model, shares
        team.agree(model.state_dict().values())
        self.data = data.to(device)
        self.labels = None if labels is None else labels.to(device)
        self.image_cond = image_cond.to(device) if isinstance(image_cond, Tensor) else image_cond
        self.halflife = max(1.0, steps / 20) if halflife is None else halflife
        self.ema = EMA(model, self.halflife)
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.step, self.last_loss = 0, float("nan")
        self.bf16 = devices.use_bf16(device, data.shape[-1]) if bf16 is None else bf16
        self.recipe = {
            "steps": steps, "batch": batch, "lr": lr, "cond_drop": cond_drop, "halflife": self.halflife, "seed": seed,
            "bf16": self.bf16, "labels": labels is not None, "image_cond": image_cond is not None,
            "data_sha256": _fingerprint(data),
        }  # fmt: skip

    def advance(self) -> None:
        """One optimiser step and one EMA update."""
        try:
            value = self._optimizer_step()
        except RuntimeError as error:
            if not devices.is_oom(error):
                raise
            value = None  # the error holds on to the memory of the step that failed: it has to go first
        if value is None:
            raise ValueError(self._oom_message())
        self.step, self.last_loss = self.step + 1, value

    def _optimizer_step(self) -> float:
        recipe, value = self.recipe, torch.zeros((), device=self.data.device)
        drawn = self._draw(recipe["batch"], self.generator)
        self.optimiser.zero_grad()
        for rows in self.shares:
            share = self._loss(drawn, rows) * ((rows.stop - rows.start) / recipe["batch"])
            share.backward()
            value += share.detach()
        team.add_up([value, *(w.grad for w in self.model.parameters() if w.grad is not None)])
        if not torch.isfinite(value):
            raise FloatingPointError(
                f"loss: expected a finite number, got {value.item()} at step {self.step + 1}; "
                f"a smaller lr than {recipe['lr']} usually helps"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = lr_at_step(self.step + 1, recipe["steps"], recipe["lr"])
        self.optimiser.step()
        self.ema.update()
        return value.item()

    def _draw(self, batch: int, g: torch.Generator) -> dict[str, Tensor | None]:
        """As many random rows of the data, and all that is random about them."""
        device, y, cond_mask = self.data.device, None, None
        rows = torch.randint(len(self.data), (batch,), generator=g, device=device)
        t = sample_timesteps(self.model.schedule, batch, g)
        if self.labels is not None:
            y = self.labels[rows]
            cond_mask = torch.rand(batch, generator=g, device=device) >= self.recipe["cond_drop"]
        x0 = self.data[rows]
        with self._precision():
            image_cond = (
                self.image_cond[rows]
                if isinstance(self.image_cond, Tensor)
                else self.image_cond and self.image_cond(x0, g)
            )
        return {"x0": x0, "t": t, "y": y, "cond_mask": cond_mask, "image_cond": image_cond, "eps": randn_like(x0, g)}

    def _loss(self, drawn: dict[str, Tensor | None], rows: slice) -> Tensor:
        with self._precision():
            return loss(self.model, **{name: x if x is None else x[rows] for name, x in drawn.items()})

    def _precision(self) -> AbstractContextManager:
        return torch.autocast(self.data.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def _oom_message(self) -> str:
        """What to say about a batch that does not fit. On a GPU ever fewer rows at a time are tried, until they do."""
        batch, device, parts = self.recipe["batch"], self.data.device, len(self.shares)
        rows = -(-batch // (parts * team.size()))  # at a time
        message = f"batch: {batch} does not fit into the memory of {devices.hardware(device)}; "
        if rows > 1 and device.type in ENDS_PROCESS:
            return f"{message}try {batch // 2}, or grad_accum_steps={2 * parts}"
        while rows := rows // 2:
            self.optimiser.zero_grad()
            with suppress(RuntimeError):
                moments = [torch.empty_like(w) for w in self.model.parameters() for _ in "mv"]  # still to come
                drawn = self._draw(batch, torch.Generator(device))
                for _ in range(2):  # the second beside the gradients of the first
                    self._loss(drawn, slice(rows)).backward()
                del moments
                more = -(-batch // (rows * team.size()))
                return f"{message}{rows * parts * team.size()} does, and so does grad_accum_steps={more}"
        return f"{message}not even one row at a time does: take a smaller network, or another device"

    def report(self) -> Step:
        return Step(self.step, self.last_loss, self.model, self.ema.model)

    def save(self, path: str | Path) -> None:
        state = {f"weights/{name}": w for name, w in self.model.state_dict().items()}
        for i, moments in self.optimiser.state_dict()["state"].items():
            state |= {f"adam/{i}/{name}": torch.as_tensor(value) for name, value in moments.items()}
        state["random"] = self.generator.get_state()
        # no clock in the file: the same training gives the same bytes
        training = {"recipe": self.recipe, "step": self.step, "loss": self.last_loss}
        checkpoints.save(path, self.ema.model, state, training=training)

    def resume(self, path: str | Path) -> None:
        """From the file, where it is there."""
        if Path(path).exists():
            self.restore(path)
        if not team.agreed(self.step):
            raise ValueError(
                f"checkpoint: this process goes on from step {self.step}, others do not; put {path} into a folder that "
                f"all hosts see, or pass resume=False (learn-diffusion train: --restart) to start again"
            )

    def restore(self, path: str | Path) -> None:
        saved, state, metadata = checkpoints.read(path)
        training = metadata.get("training")
        recipe = training.get("recipe") if isinstance(training, dict) else None
        if not isinstance(recipe, dict):
            raise ValueError(f"checkpoint: {path} holds a model, not a training that can go on; name another file")
        mine = {"recipe": self.recipe, "model": checkpoints._describe(self.model)}
        theirs = {"recipe": recipe, "model": checkpoints._describe(saved)}
        if mine != theirs:
            differs = [k for k, v in self.recipe.items() if recipe.get(k) != v] or ["model"]
            raise ValueError(
                f"checkpoint: {path} is another training (it differs in {', '.join(differs)}); "
                f"name another file, or pass resume=False (learn-diffusion train: --restart) to start again over it"
            )
        try:
            self._restore(saved, state, training["step"], training["loss"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # a forged file: others fail their SHA-256
            raise checkpoints.CheckpointError(f"{path}: holds no whole state of a training: {error!r}") from error

    def _restore(self, saved: Denoiser, state: dict[str, Tensor], step: int, last_loss: float) -> None:
        if type(step) is not int or not 0 < step <= self.recipe["steps"]:
            raise ValueError(f"step {step!r}")
        self.model.load_state_dict(_group(state, "weights/"))
        self.ema.model.load_state_dict(saved.state_dict())
        self.ema.updates = self.step = step
        self.last_loss = float(last_loss)
        self.generator.set_state(state["random"])
        self._restore_adam(state)

    def _restore_adam(self, state: dict[str, Tensor]) -> None:
        packed = self.optimiser.state_dict()
        for i, w in enumerate(self.model.parameters()):
            moments = _group(state, f"adam/{i}/")
            shapes = {name: v.shape for name, v in moments.items() if v.is_floating_point()}
            if shapes != {"step": (), "exp_avg": w.shape, "exp_avg_sq": w.shape}:
                raise ValueError(f"moments {shapes} of weight {i}, {tuple(w.shape)}")
            # the fused optimiser reads memory in order, so its moments must lie in memory as the weights do
            packed["state"][i] = {k: torch.empty_like(w).copy_(v) if v.ndim else v for k, v in moments.items()}
        self.optimiser.load_state_dict(packed)


def _group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): w for name, w in tensors.items() if name.startswith(prefix)}


def _fingerprint(data: Tensor) -> str:
    return hashlib.sha256(data.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
