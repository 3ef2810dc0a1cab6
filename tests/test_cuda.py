"""Devices: nothing mixes them, and no loop waits for one.

On a machine without a GPU the tensors are pretended: torch's fake tensors, which have a shape, a type and a device
("lazy", which a build without CUDA takes as an argument), and no values. Where the host would look at a value, and so
wait for the device, a Watch counts. Where there is a GPU, the tests at the end run for real.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from learn_diffusion import editing, guidance, training, validation
from learn_diffusion.denoiser import Denoiser, with_image_cond
from learn_diffusion.nets import UNet
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample, heun
from learn_diffusion.schedules import DDPM, EDM, VP, Cosine, Flow, convert_schedule

ROOT = Path(__file__).resolve().parent.parent
PRETENDED = torch.device("lazy")
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU at hand")
LOOK = {torch.ops.aten._local_scalar_dense.default: 1.0, torch.ops.aten.equal.default: True}


class Watch(FakeTensorMode):
    """Counts what would make the host wait for the device: a look at a value, a copy from or to the host's memory.

    What is on the CPU is computed as ever; mixing the two raises FakeTensorDeviceMismatchError.
    """

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        to = kwargs.get("device")
        to = to if to is None else torch.device(to)
        there = any(isinstance(x, FakeTensor) for x in tree_leaves((args, kwargs)))
        if not there and to != PRETENDED:
            return func(*args, **kwargs)
        if func in LOOK:
            self.waits.append(str(func))
            return LOOK[func]
        if func is torch.ops.aten._to_copy.default and to is not None and to != args[0].device:
            self.waits.append(f"copy from {args[0].device} to {to}")
        return super().__torch_dispatch__(func, types, args, kwargs)


def pretend(module: torch.nn.Module, mode: FakeTensorMode) -> torch.nn.Module:
    """The module with its weights on the pretended device; it was built for real, for initialisers need numbers."""
    for part in module.modules():
        for store, wrap in ((part._parameters, torch.nn.Parameter), (part._buffers, lambda x: x)):
            for name, value in store.items():
                if value is not None:
                    store[name] = wrap(FakeTensor(mode, torch.empty_like(value, device="meta"), PRETENDED))
    return module


@pytest.fixture
def watch(monkeypatch):
    """The one look at a sampler's door, whether its noise is finite, is not in its loop."""
    monkeypatch.setattr(validation, "finite", lambda name, x: None)
    with Watch() as mode:
        yield mode


def there(*shape, dtype=torch.float32):
    """A tensor on the pretended device."""
    return torch.empty(shape, dtype=dtype, device=PRETENDED)


NETS = {
    "no condition": (lambda: UNet(widths=(8, 16)), lambda: None),
    "labels": (lambda: UNet(widths=(8, 16), classes=10), lambda: there(4, dtype=torch.int64)),
    "text": (lambda: UNet(widths=(8, 16), words=["a", "cat"], attentions=1), lambda: there(4, 16, dtype=torch.int64)),
}


def denoiser(watch, kind="labels", schedule=None, target="v"):
    """A small model on the pretended device, and its condition."""
    build, condition = NETS[kind]
    return pretend(Denoiser(build(), schedule or Cosine(), target), watch), condition()


@pytest.mark.parametrize("schedule", [DDPM(), VP(), Cosine(), EDM(), Flow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("sampler", [ddim, heun, dpmpp_2m], ids=lambda f: f.__name__)
def test_no_sampler_mixes_devices_or_waits(watch, sampler, schedule):
    model, y = denoiser(watch, schedule=schedule)
    denoise = guidance.clip_x0(guidance.cfg(model, y, 3.0), schedule)
    x = final_sample(sampler(denoise, schedule, there(4, 1, 8, 8), schedule.timesteps(3)))
    assert x.device == PRETENDED
    assert watch.waits == []


def log_prob(x, t):
    return -x.flatten(1).square().sum(1)


KNOWN, MASK = (4, 1, 8, 8), (1, 1, 8, 8)
WRAPPED = {
    "convert_schedule": lambda d, c: convert_schedule(d, c, VP()),
    "guidance_interval": lambda d, c: guidance.guidance_interval(d, d, c, -3.0, 3.0),
    "autoguidance": lambda d, c: guidance.autoguidance(d, d, 2.0),
    "classifier_guidance": lambda d, c: guidance.classifier_guidance(d, log_prob, c, 1.0),
    "ddnm": lambda d, c: editing.ddnm(d, c, there(*KNOWN), there(*MASK, dtype=torch.bool)),
    "replacement": lambda d, c: editing.replacement(d, c, there(*KNOWN), there(*MASK, dtype=torch.bool)),
    "pigdm": lambda d, c: editing.pigdm(d, c, there(*KNOWN), there(*MASK, dtype=torch.bool)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_no_guidance_or_repair_mixes_devices_or_waits(watch, name):
    model, y = denoiser(watch, "text")
    schedule = VP() if name == "convert_schedule" else model.schedule
    denoise = WRAPPED[name](guidance.cfg(model, y, 3.0), model.schedule)
    x = final_sample(ddim(denoise, schedule, there(4, 1, 8, 8), schedule.timesteps(2), eta=1.0))
    assert x.device == PRETENDED
    assert watch.waits == []


def test_no_edit_mixes_devices_or_waits(watch):
    model, y = denoiser(watch, "text")
    schedule, picture, mask = model.schedule, there(4, 1, 8, 8), there(1, 1, 8, 8, dtype=torch.bool)
    denoise, ts = guidance.cfg(model, y, 3.0), schedule.timesteps(3)
    for states in (
        editing.repaint(denoise, schedule, picture, mask, ts, 2),
        editing.sdedit(denoise, schedule, picture, 0.7, ts),
        editing.invert(denoise, schedule, picture, ts),
    ):
        assert final_sample(states).device == PRETENDED
    assert editing.slerp(picture, picture, 0.3).device == PRETENDED
    assert editing.diffedit_mask(denoise, denoise, schedule, picture, 0.5, n=2).device == PRETENDED
    assert watch.waits == []


def test_an_image_condition_is_read_where_the_model_is(watch):
    model = pretend(Denoiser(UNet(widths=(8, 16), cond_channels=1), Cosine(), "v"), watch)
    est = with_image_cond(model, there(2, 1, 8, 8))(there(4, 1, 8, 8), torch.tensor(0.5))
    assert est.x0.device == PRETENDED
    assert watch.waits == []


def training_run(watch, monkeypatch, kind="labels", steps=200):
    """A training on the pretended device, after its first step. Batches are handed in: no generator can be there."""
    model, y = denoiser(watch, kind)
    config = training.TrainConfig(steps, 4, 1e-3, 0.1, 10.0, 0, False, "", None, None)
    batches = training._Batches(there(8, 1, 8, 8), y, None, model.schedule, config)
    drawn = {"x0": there(4, 1, 8, 8), "t": there(4), "y": y, "image_cond": None, "eps": there(4, 1, 8, 8)}
    drawn["cond_mask"] = None if y is None else there(4, dtype=torch.bool)
    monkeypatch.setattr(batches, "draw", lambda: drawn)
    monkeypatch.setattr(batches, "start", lambda device: None)
    adam = torch.optim.AdamW  # without fused=True, which knows real devices only
    monkeypatch.setattr(torch.optim, "AdamW", lambda w, fused, **rest: adam(w, foreach=True, capturable=False, **rest))
    run = training._Run(config, model, batches, [slice(0, 4)], training.world(False))
    monkeypatch.setattr(model, "to", lambda device: model)
    monkeypatch.setattr(training.copy, "deepcopy", lambda _: denoiser(watch, kind)[0])  # fake tensors cannot be copied
    run.start(PRETENDED)
    run.advance()
    return run


@pytest.mark.parametrize("kind", NETS)
def test_a_training_step_waits_for_nothing_where_nobody_reads_the_loss(watch, monkeypatch, kind):
    run = training_run(watch, monkeypatch, kind)
    watch.waits.clear()
    for _ in range(4):
        run.advance()
        run.report()
    print(f"{len(watch.waits) / 4} waits a training step with {kind}")
    assert watch.waits == []
    assert isinstance(run.report().loss, float)
    assert len(watch.waits) == 1  # now somebody read it


def test_the_losses_are_looked_at_together(watch, monkeypatch):
    monkeypatch.setattr(training, "UNREAD", 3)
    monkeypatch.setattr(FakeTensor, "tolist", lambda x: watch.waits.append("tolist") or [1.0] * len(x))
    run = training_run(watch, monkeypatch)
    watch.waits.clear()
    for _ in range(6):
        run.advance()
    assert watch.waits == ["tolist"] * 2


def test_a_loop_of_ones_own_waits_for_nothing(watch):
    model, y = denoiser(watch)
    training.loss(model, there(4, 1, 8, 8), there(4), y).backward()
    assert next(model.parameters()).grad.device == PRETENDED
    assert watch.waits == []


def test_a_look_at_a_value_is_counted_and_a_mixed_device_is_refused(watch):
    """The faults that these tests are for, planted."""
    model, y = denoiser(watch)

    def looks(x, t):
        est = model(x, t, y)
        assert bool((est.x0 < 2).all())
        return est

    final_sample(ddim(looks, model.schedule, there(4, 1, 8, 8), model.schedule.timesteps(3)))
    assert len(watch.waits) == 3

    def copies(x, t):
        return model(x, t, y)._replace(eps=torch.randn(4, 1, 8, 8).to(x.device))

    final_sample(ddim(copies, model.schedule, there(4, 1, 8, 8), model.schedule.timesteps(3)))
    assert len(watch.waits) == 6

    def forgets(x, t):
        return model(x, t, y)._replace(eps=torch.randn(4, 1, 8, 8))

    with pytest.raises(Exception, match="device"):
        final_sample(ddim(forgets, model.schedule, there(4, 1, 8, 8), model.schedule.timesteps(3)))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("x", lambda m, y: m(torch.zeros(4, 1, 8, 8), 0.5, y)),
        ("y", lambda m, y: m(there(4, 1, 8, 8), 0.5, torch.zeros(4, dtype=torch.int64))),
        ("t", lambda m, y: m(there(4, 1, 8, 8), torch.full((4,), 0.5), y)),
        ("cond_mask", lambda m, y: m(there(4, 1, 8, 8), 0.5, y, torch.ones(4, dtype=torch.bool))),
        ("eps", lambda m, y: m.schedule.add_noise(there(4, 1, 8, 8), torch.zeros(4, 1, 8, 8), 0.5)),
        ("eps", lambda m, y: training.loss(m, there(4, 1, 8, 8), there(4), y, eps=torch.zeros(4, 1, 8, 8))),
        ("mask", lambda m, y: editing.ddnm(m, m.schedule, there(4, 1, 8, 8), torch.ones(1, 1, 8, 8).bool())),
        ("known", lambda m, y: final_sample(ddim(editing.ddnm(m, m.schedule, torch.zeros(4, 1, 8, 8),
                torch.ones(1, 1, 8, 8).bool()), m.schedule, there(4, 1, 8, 8), m.schedule.timesteps(2)))),
    ],
)  # fmt: skip
def test_mixed_devices_are_refused_at_the_door_naming_both(watch, name, call):
    model, y = denoiser(watch)
    with pytest.raises(ValueError, match=rf"^{name}: expected it on lazy.*got cpu|^{name}: expected it on cpu.*lazy"):
        call(model, y)


# ---- for real, where there is a GPU ----


@CUDA
def test_the_example_of_the_readme_runs_on_the_gpu():
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    names: dict = {}
    exec(re.sub(r"steps=\d+", "steps=20", block), names)
    assert any(isinstance(x, torch.Tensor) and x.is_cuda for x in names.values())


@CUDA
def test_training_and_samplers_wait_for_nothing_on_the_gpu():
    """torch itself warns of each wait in this mode."""
    model = Denoiser(UNet(widths=(8, 16), classes=10), Cosine(), "v")
    data, labels = torch.rand(64, 1, 8, 8) * 2 - 1, torch.arange(64) % 10
    steps = training.train(model, data, 30, labels=labels, batch=16, device="cuda")
    next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            next(steps)
        x, y = torch.randn(8, 1, 8, 8, device="cuda"), torch.arange(8, device="cuda")
        states = dpmpp_2m(guidance.cfg(model, y, 3.0), model.schedule, x, model.schedule.timesteps(5))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert final_sample(states).is_cuda
