"""Teach a network to undo noise: loss, a running average of the weights, and the loop."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass
from math import cos, inf, isfinite, pi, ulp
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from learn_diffusion import checkpoints, devices, optim, validation
from learn_diffusion.denoiser import Denoiser, check_known
from learn_diffusion.distributed import (
    World,
    all_equal,
    all_reduce_sum,
    barrier,
    init_process_group,
    microbatches,
    world,
)
from learn_diffusion.process import randn_like
from learn_diffusion.schedules import Schedule

UNREAD = 50  # steps on a GPU between two looks at the loss: each look waits for all that is still to be computed
ImageCond = Callable[[Tensor, torch.Generator], Tensor]  # what a model may look at of data x0, with random choices


@dataclass(frozen=True, eq=False)
class Step:
    """Where a training stands after an optimiser step. Its two models are the live ones: they go on being trained, and
    a Step that is kept holds the last weights. copy() keeps those of its own step."""

    step: int  # 1 ... steps
    loss_tensor: Tensor  # () of this step's batch, on the device
    model: Denoiser  # as trained so far
    ema: Denoiser  # the running average, the one to sample from

    @property
    def loss(self) -> float:
        """The loss of this step's batch. On a GPU, reading it waits until the step is done."""
        return float(self.loss_tensor)

    def copy(self) -> Step:
        """This step with weights of its own."""
        return Step(self.step, self.loss_tensor.clone(), copy.deepcopy(self.model), copy.deepcopy(self.ema))


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
    image_cond (B, K, H, W) or None; eps (B, ...) the noise, None to draw it. For target "eps" this is Ho et al. 2020,
    eq. 14. Raises TypeError or ValueError that names the argument; values are looked at on the CPU only.
    """
    validation.pictures_or_points("x0", x0, values=validation.readable(x0))
    validation.level("t", t, len(x0), 0.0, model.schedule.t_max)
    alpha, sigma = model.schedule.at(t, x0)
    eps = randn_like(x0, generator) if eps is None else eps
    validation.floats("eps", eps)
    validation.same_shape("eps", eps, "x0", x0)
    validation.same_device("eps", eps, "x0", x0.device)
    a, b = model.target_coefficients(alpha, sigma)
    out = model.raw_output(alpha * x0 + sigma * eps, t, y, cond_mask, image_cond, (alpha, sigma))
    return F.mse_loss(out, a * x0 + b * eps)


def sample_timesteps(schedule: Schedule, n: int, generator: torch.Generator, noisiest: float = 1.0) -> Tensor:
    """n training levels (n,), spread along the schedule's own grid: one at random in each of n equal slices.

    Slicing makes every batch see all levels, which calms the loss (Kingma et al. 2021, app. I).
    noisiest: the share of the grid to be spread along, from its noisy end.
    """
    device = generator.device
    chance = torch.rand(n, generator=generator, device=device, dtype=torch.float32)
    u = (torch.arange(n, device=device) + chance) / n
    u = u if noisiest == 1 else 1 - noisiest * (1 - u)  # as it is: 1 - (1 - u) is rounded
    return schedule.time_at(u)


class EMA:
    """An exponential moving average of a model's weights; sampling from it is steadier than from the last weights.

    halflife: in steps, after which a weight counts half. While young, the average is over all steps so far, so that
    the random initial weights are soon forgotten.
    """

    def __init__(self, model: Denoiser, halflife: float = 500.0):
        validation.number("halflife", halflife)
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
        for mine, its in zip(self.model.buffers(), self.source.buffers(), strict=True):
            mine.copy_(its)  # statistics, such as those of BatchNorm, are averages already


class FiniteLosses:
    """Sees to it that losses are finite, without waiting for a GPU at each: there it looks at many of them together."""

    def __init__(self, advice: str):
        self.advice = advice
        self.unread: list[tuple[int, Tensor]] = []

    def add(self, step: int, loss: Tensor) -> None:
        """The loss () of a step. Raises FloatingPointError as check does."""
        self.unread.append((step, loss.detach()))
        if validation.readable(loss) or len(self.unread) == UNREAD:
            self.check()

    def check(self) -> None:
        """Raises FloatingPointError where a loss that nobody has looked at yet is not finite."""
        unread, self.unread = self.unread, []
        values = torch.stack([value for _, value in unread]).tolist() if unread else []  # one wait for all
        for (step, _), value in zip(unread, values, strict=True):
            if not isfinite(value):
                raise FloatingPointError(f"loss: expected a finite number, got {value} at step {step}; {self.advice}")


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
    optimizer: str = "muon",
    halflife: float | None = None,
    noisiest: float = 1.0,
    seed: int = 0,
    device: str | torch.device | None = None,
    distributed: bool | None = None,
    bf16: bool | None = None,
    compile: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    resume: bool = True,
    progress: bool = False,
) -> Iterator[Step]:
    """Train model in place: the iterator yields a Step after each optimiser step and EMA update.

    The call checks the arguments and changes nothing; the training is the loop over what it returns.

    data        (N, C, H, W) pictures in [-1, 1], or (N, D) points
    labels      (N,) int64 labels or (N, L) int64 captions, dropped for a share cond_drop of each batch, or None
    image_cond  image condition of a network with cond_channels=K: a function (x0 (B, C, H, W), generator) ->
                (B, K, H, W) that makes it from the data, or a tensor (N, K, H, W), one for each row of data
    batch       rows of data a step, of all processes together
    grad_accum_steps  parts in which a process goes through its rows, for a batch that does not fit into memory at once
    lr          peak learning rate; it warms up and anneals to 0 over `steps`
    optimizer   "muon": Muon, at ten times lr, for the matrices inside the network (optim.hidden_matrices) and AdamW
                for the rest, or "adamw" for all weights
    halflife    of the EMA in steps; None: a twentieth of the training
    noisiest    share of the levels to train at: 1 all, 0.5 the noisy half, where the layout of a picture is decided
    seed        of everything random in the loop; the initial weights are the caller's
    distributed share each batch with the other processes of torchrun or accelerate launch; True: required; None: where
                one of them started this process (a notebook that inherited their variables trains alone, and says so)
    bf16        compute in bfloat16; None: where devices.use_bf16 says so
    compile     compile the network first (torch.compile): a minute or so, which long trainings on a GPU win back
    checkpoint  file saved atomically every `checkpoint_every` steps and at the end: EMA weights (what load gives), with
                weights, optimiser and random state, so that a training killed at any moment resumes to the same bytes
    resume      continue from that file if it is there; a finished one yields its last Step again
    progress    show a tqdm bar

    Raises TypeError or ValueError that names a bad argument; ValueError for a checkpoint of another training, for one
    that another process is writing, and for a batch that does not fit into memory; FloatingPointError when a loss is
    not finite (on a GPU up to 50 steps later, and before each save). The last checkpoint is then still good.
    """
    validation.pictures_or_points("data", data)
    if data.ndim == 4 and data.min() >= 0 and data.max() > 0:
        warnings.warn(
            "data: all values are from 0 to 1, as torchvision's ToTensor gives them; the model's pictures are in "
            "[-1, 1]: use data * 2 - 1",
            stacklevel=2,
        )
    steps, batch = validation.positive_int("steps", steps), validation.positive_int("batch", batch)
    checkpoint_every = validation.positive_int("checkpoint_every", checkpoint_every)
    grad_accum_steps = validation.positive_int("grad_accum_steps", grad_accum_steps)
    seed = validation.whole_number("seed", seed, 0)
    validation.one_of("bf16", bf16, (None, True, False))
    validation.one_of("optimizer", optimizer, ("muon", "adamw"))
    halflife = max(1.0, steps / 20) if halflife is None else halflife
    _check_choices(model, data, labels, image_cond, cond_drop, lr, halflife, noisiest)
    _check_fit(model.net, data, labels)
    if checkpoint is not None:
        checkpoints.describe(model)  # raises TypeError for a network that cannot be saved
    device, processes = devices.resolve_device(device), world(distributed)
    rows = microbatches(batch, grad_accum_steps, processes)
    side = data.shape[-1] if data.ndim == 4 else 0  # points have none
    bf16 = devices.use_bf16(device, side) if bf16 is None else bf16
    config = TrainConfig(
        steps, batch, float(lr), optimizer, float(cond_drop), float(halflife), float(noisiest), seed, bf16,
        *map(_fingerprint, (data, labels, image_cond)), _frozen(model),
    )  # fmt: skip
    run = _Run(config, model, _Batches(data, labels, image_cond, model.schedule, config), rows, processes, compile)
    return _steps(run, device, checkpoint, checkpoint_every, resume, progress)


@torch.inference_mode(False)  # with gradients, whatever the caller's mode, which is back between two steps
def _steps(
    run: _Run, device: torch.device, checkpoint: str | Path | None, checkpoint_every: int, resume: bool, progress: bool
) -> Iterator[Step]:
    main, steps = run.world.rank == 0, run.config.steps
    with (
        init_process_group(run.world, device) as device,
        checkpoints.file_lock("checkpoint", checkpoint) if main and checkpoint is not None else nullcontext(),
        closing(run),
    ):
        run.start(device)
        if checkpoint is not None and main:
            checkpoints.check_writable("checkpoint", checkpoint)
        if checkpoint is not None and resume:
            run.resume(checkpoint)
            if run.step == steps:
                yield run.report()
        with tqdm(total=steps, initial=run.step, disable=not (progress and main), unit="step") as bar:
            while run.step < steps:
                run.advance()
                if checkpoint is not None and (run.step % checkpoint_every == 0 or run.step == steps):
                    if main:
                        run.save(checkpoint)
                    barrier(run.world)  # the file is there for all when the step is reported
                bar.update()
                yield run.report()
        run.losses.check()


@dataclass(frozen=True)
class TrainConfig:
    """What decides the result of a training: a checkpoint keeps it, and only an equal one resumes from it."""

    steps: int
    batch: int
    lr: float
    optimizer: str
    cond_drop: float
    halflife: float
    noisiest: float
    seed: int
    bf16: bool
    data: str  # tensors are represented by their SHA-256
    labels: str | None
    image_cond: str | None  # "function" for one that makes it from the data
    frozen: list[str] | None  # names of weights that are not trained


def _check_choices(
    model: object, data: Tensor, labels: Tensor | None, image_cond: object,
    cond_drop: float, lr: float, halflife: float, noisiest: float,
) -> None:  # fmt: skip
    if not isinstance(model, Denoiser):
        raise TypeError(f"model: expected a Denoiser, got {type(model).__name__}")
    if not any(w.requires_grad for w in model.parameters()):
        raise ValueError(
            "model: expected weights that require gradients, got none; model.requires_grad_(True) trains all"
        )
    if any(w.is_inference() for w in model.parameters()):
        raise ValueError("model: expected weights that can be trained, got some made in torch.inference_mode()")
    validation.dtype_of("data", data, next(model.parameters()))
    if labels is not None and not isinstance(labels, Tensor):
        raise TypeError(f"labels: expected a tensor of {len(data)} whole numbers, got {type(labels).__name__}")
    if labels is not None and (labels.shape[:1] != (len(data),) or labels.ndim > 2 or not _whole(labels)):
        raise ValueError(
            f"labels: expected {len(data)} whole numbers (or rows of them), got {labels.dtype} of {tuple(labels.shape)}"
        )
    if not (image_cond is None or isinstance(image_cond, Tensor) or callable(image_cond)):
        raise TypeError(
            f"image_cond: expected a tensor, a function of (x0, generator) or None, got {type(image_cond).__name__}"
        )
    if isinstance(image_cond, Tensor) and len(image_cond) != len(data):
        raise ValueError(f"image_cond: expected one for each of {len(data)} rows of data, got {len(image_cond)}")
    for name, value, low, high, expected in (
        ("cond_drop", cond_drop, 0, 1, "a share from 0 to 1"),
        ("noisiest", noisiest, ulp(0), 1, "a share of the levels, above 0 and at most 1"),
        ("lr", lr, 0, inf, "a learning rate of 0 or more"),
        ("halflife", halflife, ulp(0), inf, "a number of steps above 0"),
    ):
        validation.number(name, value)
        if not low <= value <= high:
            raise ValueError(f"{name}: expected {expected}, got {value}")


def _check_fit(net: nn.Module, data: Tensor, labels: Tensor | None) -> None:
    """Whether data and labels are what the network takes, where its config says so."""
    takes = getattr(net, "config", {})
    if data.ndim == 4 and takes.get("channels", data.shape[1]) != data.shape[1]:
        raise ValueError(f"data: expected {takes['channels']} channels, as the network has, got {tuple(data.shape)}")
    if labels is not None:
        check_known("labels", labels, net)


class _Batches:
    """Random rows of the data, and all else that is random about them."""

    def __init__(
        self,
        data: Tensor,
        labels: Tensor | None,
        image_cond: ImageCond | Tensor | None,
        schedule: Schedule,
        config: TrainConfig,
    ):
        self.data, self.labels, self.image_cond = data.detach(), labels, image_cond
        self.schedule, self.config = schedule, config

    def start(self, device: torch.device) -> None:
        self.data = self.data.to(device)
        self.labels = None if self.labels is None else self.labels.to(device)
        if isinstance(self.image_cond, Tensor):
            self.image_cond = self.image_cond.detach().to(device)
        self.generator = torch.Generator(device).manual_seed(self.config.seed)

    def draw(self) -> dict[str, Tensor | None]:
        """What loss takes, for a whole batch."""
        n, g, y, cond_mask = self.config.batch, self.generator, None, None
        rows = torch.randint(len(self.data), (n,), generator=g, device=g.device)
        t = sample_timesteps(self.schedule, n, g, self.config.noisiest)
        if self.labels is not None:
            y = self.labels[rows]
            cond_mask = torch.rand(n, generator=g, device=g.device, dtype=torch.float32) >= self.config.cond_drop
        x0 = self.data[rows]
        with _precision(g.device, self.config.bf16):
            if isinstance(self.image_cond, Tensor):
                image_cond = self.image_cond[rows]
            else:
                image_cond = self.image_cond and self.image_cond(x0, g)
        return {"x0": x0, "t": t, "y": y, "cond_mask": cond_mask, "image_cond": image_cond, "eps": randn_like(x0, g)}


class _Loss(nn.Module):
    """loss as a module, for DistributedDataParallel to wrap."""

    def __init__(self, model: Denoiser, bf16: bool):
        super().__init__()
        self.model, self.bf16 = model, bf16

    def forward(self, x0: Tensor, **drawn: Tensor | None) -> Tensor:
        with _precision(x0.device, self.bf16):
            return loss(self.model, x0, **drawn)


def _precision(device: torch.device, bf16: bool) -> AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


class _Run:
    """The state of one training: what has to be saved for it to continue as if nothing had happened."""

    def __init__(
        self, config: TrainConfig, model: Denoiser, batches: _Batches, rows: list[slice], world: World, compile: bool
    ):
        self.config, self.model, self.batches, self.rows, self.world = config, model, batches, rows, world
        self.compile = compile
        self.step, self.loss_tensor = 0, torch.tensor(float("nan"))
        self.losses = FiniteLosses(f"a smaller lr than {config.lr} usually helps")

    def start(self, device: torch.device) -> None:
        devices.disable_malloc_trim()
        self.device = device
        self.model.to(device).train()
        self.batches.start(device)
        self.loss = _Loss(self.model, self.config.bf16)
        if self.compile:
            self.loss.compile()
        if self.world.size > 1:  # this gives all processes the weights of the first
            self.loss = DistributedDataParallel(self.loss, find_unused_parameters=True)
        self.ema = EMA(self.model, self.config.halflife)
        self.optimizers = optim.optimizers(self.model.net, self.config.lr, self.config.optimizer == "muon")

    def close(self) -> None:
        """However the loop ends, the model is left ready to sample from. And let go of the process group before it is
        destroyed: a wrapper that outlives it can wait for it for ever."""
        self.loss = None
        self.model.eval()

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
        self.step, self.loss_tensor = self.step + 1, value

    def _optimizer_step(self) -> Tensor:
        value = self._backward()
        self.losses.add(self.step + 1, value)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr_at_step(self.step + 1, self.config.steps, optimizer.defaults["lr"])
            optimizer.step()
        self.ema.update()
        return value

    def _backward(self) -> Tensor:
        """The gradients of a batch, and its loss (), over all microbatches of all processes."""
        drawn, value, n = self.batches.draw(), 0.0, self.world.size
        self.model.zero_grad()
        for rows in self.rows:
            wait = n > 1 and rows is not self.rows[-1]  # gradients are averaged over processes once, after the last
            with self.loss.no_sync() if wait else nullcontext():
                part = self.loss(**{name: x if x is None else x[rows] for name, x in drawn.items()})
                if not part.requires_grad:
                    raise ValueError(
                        "model: expected an answer that torch can differentiate by the weights, got one without"
                    )
                part = part * (n * (rows.stop - rows.start) / self.config.batch)
                part.backward()
            value = value + part.detach()
        return all_reduce_sum(value, self.world) / n

    def _oom_message(self) -> str:
        batch, parts = self.config.batch, len(self.rows)
        if batch < 2 * parts * self.world.size:
            advice = "not even one row at a time does: take a smaller network, or another device"
        else:
            advice = f"try {batch // 2}, or grad_accum_steps={2 * parts}"
        return f"batch: {batch} does not fit into the memory of {devices.hardware(self.device)}; {advice}"

    def report(self) -> Step:
        return Step(self.step, self.loss_tensor, self.model, self.ema.model)

    def save(self, path: str | Path) -> None:
        self.losses.check()
        state = {f"weights/{name}": w for name, w in self.model.state_dict().items()}
        for name, w in self.model.named_parameters():
            for optimizer in self.optimizers:
                state |= {f"optimizer/{name}/{key}": value for key, value in optimizer.state.get(w, {}).items()}
        state["random"] = self.batches.generator.get_state()
        # no clock in the file: the same training gives the same bytes
        training = {"recipe": asdict(self.config), "step": self.step, "loss": self.loss_tensor.item()}
        checkpoints.save(path, self.ema.model, state, training=training)

    def resume(self, path: str | Path) -> None:
        """From the file, where it is there."""
        if Path(path).exists():
            self.restore(path)
        if not all_equal(self.step, self.world, self.device):
            raise ValueError(
                f"checkpoint: this process resumes at step {self.step}, others do not; put {path} into a folder that "
                f"all hosts see, or pass resume=False (learn-diffusion train: --restart) to start again"
            )

    def restore(self, path: str | Path) -> None:
        saved, state, metadata = checkpoints.read(path)
        training = metadata.get("training")
        recipe = training.get("recipe") if isinstance(training, dict) else None
        if not isinstance(recipe, dict):
            raise ValueError(f"checkpoint: {path} holds a model, not a training that can go on; name another file")
        differs = [name for name, value in asdict(self.config).items() if recipe.get(name) != value]
        if checkpoints.describe(saved) != checkpoints.describe(self.model):
            differs.append("model")
        if differs:
            raise ValueError(
                f"checkpoint: {path} is another training (it differs in {', '.join(differs)}); "
                f"name another file, or pass resume=False (learn-diffusion train: --restart) to start again over it"
            )
        generator, random = self.batches.generator, state.get("random")
        if random is not None and random.shape != generator.get_state().shape:
            raise ValueError(
                f"checkpoint: {path} was saved on another kind of device than {generator.device}; "
                f"go on there, or pass resume=False (learn-diffusion train: --restart) to start again over it"
            )
        try:
            self._restore(saved, state, training["step"], training["loss"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoints.CheckpointError(f"{path}: holds no whole state of a training: {error!r}") from error

    def _restore(self, saved: Denoiser, state: dict[str, Tensor], step: int, last_loss: float) -> None:
        if type(step) is not int or not 0 < step <= self.config.steps:
            raise ValueError(f"step {step!r}")
        self.model.load_state_dict(_group(state, "weights/"))
        self.ema.model.load_state_dict(saved.state_dict())
        self.ema.updates = self.step = step
        self.loss_tensor = torch.tensor(float(last_loss))
        self.batches.generator.set_state(state["random"])
        for name, w in self.model.named_parameters():
            if moments := _group(state, f"optimizer/{name}/"):  # none of a weight without a gradient: frozen, not used
                self._restore_moments(name, w, moments)

    def _restore_moments(self, name: str, w: nn.Parameter, moments: dict[str, Tensor]) -> None:
        owner = next(o for o in self.optimizers if any(w is p for group in o.param_groups for p in group["params"]))
        expected = {"momentum": w.shape}
        if not isinstance(owner, optim.Muon):
            expected = {"step": (), "exp_avg": w.shape, "exp_avg_sq": w.shape}
        if (shapes := {key: value.shape for key, value in moments.items()}) != expected:
            raise ValueError(f"moments {shapes} of {name}, {tuple(w.shape)}")
        # the fused optimiser reads memory in order, so its moments must lie in memory as the weights do
        owner.state[w] = {k: torch.empty_like(w).copy_(v) if v.ndim else v.to(w.device) for k, v in moments.items()}


def _whole(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def _frozen(model: nn.Module) -> list[str] | None:
    return [name for name, w in model.named_parameters() if not w.requires_grad] or None


def _group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): w for name, w in tensors.items() if name.startswith(prefix)}


def _fingerprint(x: Tensor | ImageCond | None) -> str | None:
    if not isinstance(x, Tensor):
        return x and "function"
    return hashlib.sha256(x.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
