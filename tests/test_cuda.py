"""Devices: nothing mixes them, and no loop waits for one.

On a machine without a GPU the device is pretended, see pretended.py. Where there is a GPU, the tests at the end run for
real.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import chapter_cells
import pretended
import pytest
import torch

from learn_diffusion import editing, guidance, training, validation
from learn_diffusion.denoiser import Denoiser, with_image_cond
from learn_diffusion.nets import VAE, DiT, UNet
from learn_diffusion.recipes.gan_comparison import point_denoiser
from learn_diffusion.samplers import SAMPLERS, ddim, dpmpp_2m, final_sample
from learn_diffusion.schedules import DDPM, EDM, VP, Cosine, Flow, convert_schedule
from learn_diffusion.training import train

ROOT = Path(__file__).resolve().parent.parent
PRETENDED = pretended.DEVICE
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU at hand")


@pytest.fixture
def waits(monkeypatch):
    """On the pretended device: the list of waits, without a sampler's one look at its noise, before the loop."""
    monkeypatch.setattr(validation, "finite", lambda name, x: None)
    with pretended.gpu() as waits:
        yield waits


def there(*shape, dtype=torch.float32):
    """A tensor on the pretended device."""
    return torch.zeros(shape, dtype=dtype, device=PRETENDED)


NETS = {
    "no condition": (lambda: UNet(widths=(8, 16)), lambda: None),
    "labels": (lambda: UNet(widths=(8, 16), classes=10), lambda: there(4, dtype=torch.int64)),
    "text": (lambda: UNet(widths=(8, 16), words=["a", "cat"], attentions=1), lambda: there(4, 16, dtype=torch.int64)),
    "text, DiT": (lambda: DiT(width=16, depth=1, words=["a", "cat"]), lambda: there(4, 16, dtype=torch.int64)),
}


def denoiser(waits, kind="labels", schedule=None, target="v"):
    """A small model on the pretended device, and its condition; taking it there is not counted."""
    build, condition = NETS[kind]
    model = Denoiser(build(), schedule or Cosine(), target).to(PRETENDED)
    waits.clear()
    return model, condition()


@pytest.mark.parametrize("schedule", [DDPM(), VP(), Cosine(), EDM(), Flow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_no_sampler_mixes_devices_or_waits(waits, sampler, schedule):
    model, y = denoiser(waits, schedule=schedule)
    denoise = guidance.clip_x0(guidance.cfg(model, y, 3.0), schedule)
    x = final_sample(sampler(denoise, schedule, there(4, 1, 8, 8), schedule.timesteps(3)))
    assert x.device == PRETENDED
    assert waits == []


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
def test_no_guidance_or_repair_mixes_devices_or_waits(waits, name):
    model, y = denoiser(waits, "text")
    schedule = VP() if name == "convert_schedule" else model.schedule
    denoise = WRAPPED[name](guidance.cfg(model, y, 3.0), model.schedule)
    x = final_sample(ddim(denoise, schedule, there(4, 1, 8, 8), schedule.timesteps(2), eta=1.0))
    assert x.device == PRETENDED
    assert waits == []


def test_no_edit_mixes_devices_or_waits(waits):
    model, y = denoiser(waits, "text")
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
    assert waits == []


def test_an_image_condition_is_read_where_the_model_is(waits):
    model = Denoiser(UNet(widths=(8, 16), cond_channels=1), Cosine(), "v").to(PRETENDED)
    waits.clear()
    est = with_image_cond(model, there(2, 1, 8, 8))(there(4, 1, 8, 8), torch.tensor(0.5))
    assert est.x0.device == PRETENDED
    assert waits == []


def test_an_autoencoder_stays_where_its_pictures_are(waits):
    vae = VAE(widths=(8, 16)).to(PRETENDED)
    waits.clear()
    again, code = vae(there(4, 3, 8, 8), torch.Generator(PRETENDED))
    (again.square().mean() + code.kl().mean()).backward()
    assert again.device == code.mean.device == PRETENDED
    assert waits == []


DATA = torch.rand(16, 1, 8, 8) * 2 - 1
TOKENS = torch.ones(16, 16, dtype=torch.int64)
LABELS = {"no condition": None, "labels": torch.arange(16) % 10, "text": TOKENS, "text, DiT": TOKENS}


@pytest.mark.parametrize("kind", NETS)
def test_a_training_step_waits_for_nothing_where_nobody_reads_the_loss(waits, kind):
    steps = train(denoiser(waits, kind)[0], DATA, 12, labels=LABELS[kind], batch=8)
    next(steps)
    waits.clear()
    for _ in range(10):
        step = next(steps)
    print(f"{len(waits) / 10} waits a training step with {kind}")
    assert waits == []
    assert 0 < step.loss < 10
    assert len(waits) == 1  # now somebody read it


def test_losses_are_looked_at_together_and_the_steps_between_are_named(waits, monkeypatch):
    monkeypatch.setattr(training, "UNREAD", 3)
    steps = train(denoiser(waits, "no condition")[0], DATA, 7, batch=8)
    next(steps)
    waits.clear()
    list(steps)
    assert len(waits) == 3  # after steps 3 and 6, and at the end
    steps = train(denoiser(waits, "no condition")[0], DATA, 9, batch=8)
    next(itertools.islice(steps, 3, None)).model.net.conv_out.weight.data.mul_(float("nan"))  # after step 4
    next(steps)  # step 5: nobody has looked yet
    with pytest.raises(FloatingPointError, match="at step 5"):
        next(steps)


def test_the_same_training_there_and_here(waits):
    """The pretended device computes as the CPU does: what is drawn where makes no difference to the result."""

    def run(device):
        torch.manual_seed(0)
        model = Denoiser(UNet(widths=(8, 16), classes=10), Cosine(), "v")
        return [s.loss for s in train(model, DATA, 4, labels=LABELS["labels"], batch=8, device=device, bf16=False)]

    assert run("cpu") == pytest.approx(run(PRETENDED), rel=1e-5)


def test_a_training_is_saved_and_resumed_there(waits, tmp_path):
    def run():
        return train(
            denoiser(waits)[0], DATA, 4, labels=LABELS["labels"], batch=8, checkpoint=tmp_path / "w", checkpoint_every=2
        )

    steps = run()
    next(steps), next(steps)
    steps.close()
    assert [step.step for step in run()] == [3, 4]


def test_networks_of_points_follow_their_points(waits):
    model = point_denoiser().to(PRETENDED)
    waits.clear()
    assert model(there(4, 2), 0.5).x0.device == PRETENDED
    assert waits == []


def test_a_gan_waits_for_nothing(waits):
    from learn_diffusion.gan import train_gan
    from learn_diffusion.nets import Critic, Generator

    generator = Generator()
    steps = train_gan(generator, Critic(), DATA, 6, latent=generator.config["latent"], batch=8)
    next(steps)
    waits.clear()
    for _ in range(4):
        next(steps)
    assert waits == []


def test_a_loop_of_ones_own_waits_for_nothing(waits):
    model, y = denoiser(waits)
    training.loss(model, there(4, 1, 8, 8), there(4), y).backward()
    assert next(model.parameters()).grad.device == PRETENDED
    assert waits == []


def test_a_look_at_a_value_is_counted_and_a_mixed_device_is_refused(waits):
    """The faults that these tests are for, planted."""
    model, y = denoiser(waits)

    def looks(x, t):
        est = model(x, t, y)
        assert bool((est.x0 < 2).all())
        return est

    final_sample(ddim(looks, model.schedule, there(4, 1, 8, 8), model.schedule.timesteps(3)))
    assert len(waits) == 3

    def copies(x, t):
        return model(x, t, y)._replace(eps=torch.randn(4, 1, 8, 8).to(x.device))

    final_sample(ddim(copies, model.schedule, there(4, 1, 8, 8), model.schedule.timesteps(3)))
    assert len(waits) == 6

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
def test_mixed_devices_are_refused_at_the_door_naming_both(waits, name, call):
    model, y = denoiser(waits)
    with pytest.raises(ValueError, match=rf"^{name}: expected it on lazy.*got cpu|^{name}: expected it on cpu.*lazy"):
        call(model, y)


def readme() -> dict:
    """The names that the README's example leaves, run with fewer steps."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    names: dict = {}
    exec(re.sub(r"steps=\d+", "steps=20", block), names)
    return names


def test_the_example_of_the_readme_runs_there(waits):
    assert readme()["pictures"].device == PRETENDED


# LEARN_DIFFUSION_CHAPTERS=all tries every chapter, which takes minutes: some draw hundreds of pictures
_WHICH = "*" if os.environ.get("LEARN_DIFFUSION_CHAPTERS") == "all" else "0[78]*"
# what the pretended device cannot do: transformers' loading leaves buffers as it found them in memory, forward-mode
# derivatives (torch.func.jvp) end the process
_CANNOT = {"20", "21"}
CHAPTERS = [
    path
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if "resolve_device()" in path.read_text("utf-8") and (path.match(_WHICH) or path.match("12_*"))
    and path.name[:2] not in _CANNOT
]  # fmt: skip


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.name[:2])
def test_a_chapter_runs_there(chapter):
    """All its cells, with its trainings cut short: none mixes devices."""
    with pretended.gpu():
        chapter_cells.run(chapter)


# ---- for real, where there is a GPU ----


@CUDA
def test_the_example_of_the_readme_runs_on_the_gpu():
    assert readme()["pictures"].is_cuda


@CUDA
def test_training_and_samplers_wait_for_nothing_on_the_gpu():
    """torch itself warns of each wait in this mode."""
    model = Denoiser(UNet(widths=(8, 16), classes=10), Cosine(), "v")
    data, labels = torch.rand(64, 1, 8, 8) * 2 - 1, torch.arange(64) % 10
    steps = train(model, data, 30, labels=labels, batch=16, device="cuda")
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


@CUDA
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.name[:2])
def test_a_chapter_runs_on_the_gpu(chapter):
    chapter_cells.run(chapter)
