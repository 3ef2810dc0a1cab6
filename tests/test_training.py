"""Training: the same seed gives the same weights, and a training killed at any moment ends with the same bytes."""

from __future__ import annotations

import ctypes
import platform
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from learn_diffusion import checkpoints, devices, training
from learn_diffusion.checkpoints import load
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.datasets.toy2d import gaussians
from learn_diffusion.denoiser import Denoiser, drop_cond
from learn_diffusion.editing import invert, repaint, sdedit
from learn_diffusion.gan import train_gan
from learn_diffusion.nets import MLP, UNet
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample, heun
from learn_diffusion.schedules import DDPM, EDM, Cosine
from learn_diffusion.training import EMA, loss, lr_at_step, sample_timesteps, train

IMAGES = small_digits()[0][:64]


def model(seed: int = 0, **kwargs) -> Denoiser:
    torch.manual_seed(seed)
    return Denoiser(UNet(widths=(8, 16), **kwargs), Cosine(), "v")


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for w in net.parameters()])


def finish(steps):
    """The last Step of a training."""
    *_, end = steps
    return end


def test_loss_is_the_six_lines():
    net, t = model(), torch.linspace(0.1, 0.9, 64)
    eps = torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(3))
    alpha, sigma = net.schedule.at(t, IMAGES)
    expected = (net.raw_output(alpha * IMAGES + sigma * eps, t) - (alpha * eps - sigma * IMAGES)).square().mean()
    assert_close(loss(net, IMAGES, t, generator=torch.Generator().manual_seed(3)), expected)


def test_eps_loss_on_betas_is_the_simple_loss_of_ddpm():
    torch.manual_seed(0)
    net = Denoiser(UNet(widths=(8, 16)), DDPM(), "eps")
    torch.nn.init.normal_(net.net.conv_out.weight)
    t = torch.randint(1, 1001, (64,)) / 1000
    eps = torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(3))
    alpha_bar = torch.cumprod(1 - DDPM().betas(), 0)[(t * 1000).round().long() - 1].float()[:, None, None, None]
    xt = alpha_bar.sqrt() * IMAGES + (1 - alpha_bar).sqrt() * eps
    expected = (eps - net.raw_output(xt, t)).square().mean()
    assert_close(loss(net, IMAGES, t, generator=torch.Generator().manual_seed(3)), expected)


def test_dropped_labels_are_not_seen():
    net, t = model(classes=10), torch.full((64,), 0.5)
    for w in net.parameters():  # at the start much is zero, and a label would change nothing
        torch.nn.init.normal_(w, std=0.1)
    x, y = torch.randn(64, 1, 8, 8), torch.arange(64) % 10
    with torch.no_grad():
        nobody = torch.zeros(64, dtype=torch.bool)
        assert_close(net(x, t, y, nobody).x0, net(x, t).x0)
        assert_close(net(x, t, y, ~nobody).x0, net(x, t, y).x0)
        assert (net(x, t, y).x0 - net(x, t).x0).abs().max() > 1e-3
    assert drop_cond(y, torch.arange(64) < 3)[:5].tolist() == [0, 1, 2, -1, -1]


@pytest.mark.parametrize("path", [Cosine(), EDM()], ids=["Cosine", "EDM"])
def test_training_levels_spread_along_the_grid(path):
    t = sample_timesteps(path, 1000, torch.Generator().manual_seed(0))
    assert t.shape == (1000,)
    assert path.t_min <= t.min() <= t.max() <= path.t_max
    u = (t.double() ** (1 / path.rho) - path.t_min ** (1 / path.rho)) / (
        path.t_max ** (1 / path.rho) - path.t_min ** (1 / path.rho)
    )
    assert_close((u * 1000).add(1e-3).floor(), torch.arange(1000).double(), atol=1, rtol=0)


def test_ema_is_the_weighted_average_with_the_halflife():
    net = model()
    ema, mean = EMA(net, halflife=3.0), weights(net).double()
    for n in range(1, 30):
        with torch.no_grad():
            for w in net.parameters():
                w.add_(0.01 * n)
        ema.update()
        decay = min(0.5 ** (1 / 3), n / (n + 9))
        mean = decay * mean + (1 - decay) * weights(net).double()
    assert_close(weights(ema.model).double(), mean, atol=1e-5, rtol=1e-5)
    assert not any(w.requires_grad for w in ema.model.parameters())


def test_learning_rate_warms_up_and_anneals_to_zero():
    rates = [lr_at_step(step, 200, 1.0) for step in range(1, 201)]
    assert rates[0] == 0.1
    assert rates[9] == 1.0
    assert rates[-1] < 1e-12
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert lr_at_step(1, 1, 1.0) == 1.0


def test_the_first_step_moves_the_weights_by_the_warm_up_rate_and_the_last_by_nothing():
    """Adam's first move is the learning rate itself, in the direction against the gradient's sign."""
    net = model()
    before, rate = weights(net), lr_at_step(1, 40, 2e-3)
    run = train(net, IMAGES, steps=40, batch=8, device="cpu")
    next(run)
    moved = (weights(net) - before).abs()
    assert_close(moved.max().item(), rate, rtol=1e-3, atol=0.0)
    *_, but_one, _ = (weights(step.model).clone() for step in run)
    assert torch.equal(weights(net), but_one)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_labels_are_dropped_for_the_share_that_was_asked_for(share):
    seen = []
    net = model(classes=10)
    net.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    finish(train(net, IMAGES, steps=20, labels=small_digits()[1][:64], cond_drop=share, device="cpu"))
    dropped = torch.cat(seen).eq(-1).double().mean().item()
    assert abs(dropped - share) <= 4 * (share * (1 - share) / (20 * 64)) ** 0.5


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    one, two, other = (finish(train(model(), IMAGES, 20, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(weights(one.ema), weights(two.ema))
    assert torch.equal(weights(one.model), weights(two.model))
    assert not torch.equal(weights(one.ema), weights(other.ema))


def test_hints_go_with_their_rows_whether_made_or_given():
    """A hint for each row of data is what a function of the same rows makes."""

    def trained(image_cond):
        return weights(
            finish(train(model(cond_channels=1), IMAGES, 3, image_cond=image_cond, batch=8, device="cpu")).ema
        )

    assert torch.equal(trained(lambda x0, g: -x0), trained(-IMAGES))
    assert not torch.equal(trained(-IMAGES), trained(IMAGES))
    with pytest.raises(ValueError, match="image_cond: expected one for each of 64 rows of data, got 5"):
        next(train(model(cond_channels=1), IMAGES, 3, image_cond=IMAGES[:5]))


def test_yields_every_step_and_learns():
    steps = [(s.step, s.loss) for s in train(model(), IMAGES, 120)]
    assert [step for step, _ in steps] == list(range(1, 121))
    first, end = (sum(value for _, value in part) / 20 for part in (steps[:20], steps[-20:]))
    assert end < 0.6 * first


def test_points_in_the_plane_train_too():
    """Most samples of a model of eight narrow Gaussians land on one of them; hardly any noise does."""
    torch.manual_seed(0)
    points, _ = gaussians(4000)
    centres = torch.stack([points[gaussians(4000)[1] == mode].mean(0) for mode in range(8)])
    end = finish(train(Denoiser(MLP(), EDM(sigma_data=0.7), "edm"), points, 1500, batch=256))
    noise = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    samples = final_sample(dpmpp_2m(end.ema, EDM(), 80 * noise, EDM().timesteps(20)))

    def on_a_mode(x):
        return (torch.cdist(x, centres).min(1).values < 0.3).float().mean().item()

    assert on_a_mode(samples) > 0.8 > 0.5 > on_a_mode(noise)


def test_the_sides_of_pictures_decide_on_bf16_and_points_have_none(monkeypatch):
    sides = []
    monkeypatch.setattr(training.devices, "use_bf16", lambda device, side: sides.append(side) or False)
    for data, net in ((IMAGES, UNet(widths=(8, 16))), (torch.zeros(9, 30), MLP(dim=30))):
        next(train(Denoiser(net, Cosine(), "v"), data, 1, batch=8))
    assert sides == [8, 0]


def test_bf16_can_be_asked_for():
    assert torch.isfinite(torch.tensor([s.loss for s in train(model(), IMAGES, 3, bf16=True)])).all()


def test_progress_is_shown_only_when_asked_for(capsys):
    finish(train(model(), IMAGES, 2))
    assert capsys.readouterr().err == ""
    finish(train(model(), IMAGES, 2, progress=True))
    assert "2/2" in capsys.readouterr().err


def test_interrupted_and_resumed_in_one_process_is_bit_identical(tmp_path):
    whole = finish(train(model(), IMAGES, 30))
    some = train(model(), IMAGES, 30, checkpoint=tmp_path / "run", checkpoint_every=7)
    for _ in range(18):  # the last checkpoint is at step 14
        next(some)
    del some
    resumed = train(model(seed=5), IMAGES, 30, checkpoint=tmp_path / "run", checkpoint_every=7)
    start = next(resumed)
    assert start.step == 15
    end = finish(resumed)
    assert torch.equal(weights(end.ema), weights(whole.ema))
    assert torch.equal(weights(end.model), weights(whole.model))
    assert end.loss == whole.loss


def test_a_finished_training_is_not_repeated(tmp_path):
    end = finish(train(model(), IMAGES, 5, checkpoint=tmp_path / "run"))
    again = list(train(model(seed=5), IMAGES, 5, checkpoint=tmp_path / "run"))
    assert [s.step for s in again] == [5]
    assert torch.equal(weights(again[0].ema), weights(end.ema))
    loaded, metadata = load(tmp_path / "run")
    assert torch.equal(weights(loaded), weights(end.ema))
    assert metadata["training"]["recipe"]["seed"] == 0


def test_labels_survive_a_resume(tmp_path):
    labels = small_digits()[1][:64]
    whole = finish(train(model(classes=10), IMAGES, 12, labels=labels))
    some = train(model(classes=10), IMAGES, 12, labels=labels, checkpoint=tmp_path / "run", checkpoint_every=5)
    for _ in range(7):
        next(some)
    resumed = finish(
        train(model(classes=10), IMAGES, 12, labels=labels, checkpoint=tmp_path / "run", checkpoint_every=5)
    )
    assert torch.equal(weights(resumed.ema), weights(whole.ema))


TRAINING = """
import sys, torch
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train
torch.set_num_threads(1)
torch.manual_seed(0)
net = Denoiser(UNet(widths=(8, 16)), Cosine(), "v")
for step in train(net, small_digits()[0], 150, batch=16, checkpoint=sys.argv[1], checkpoint_every=3):
    print(step.step, flush=True)
"""


def test_kill_9_at_five_random_moments_ends_with_the_same_bytes(tmp_path):
    """Each kill falls at a moment of its own, in the middle of whatever the training is doing, saving included."""
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    subprocess.run([sys.executable, "-c", TRAINING, whole], check=True, capture_output=True)
    dice, reached = random.Random(time.time_ns()), []
    for kill in range(5):
        run = subprocess.Popen([sys.executable, "-c", TRAINING, killed], stdout=subprocess.PIPE, text=True)
        for line in run.stdout:
            if int(line) >= 20 * (kill + 1) + dice.randrange(10):
                break
        time.sleep(dice.random() * 0.05)
        run.send_signal(signal.SIGKILL)
        run.wait()
        reached.append(load(killed)[1]["training"]["step"])  # whole at every moment
    assert reached == sorted(reached)
    assert reached[-1] < 150
    print(f"killed when the checkpoint stood at steps {reached}")
    subprocess.run([sys.executable, "-c", TRAINING, killed], check=True, capture_output=True)
    assert killed.read_bytes() == whole.read_bytes()


FAULTS = """
import resource, sys, torch
from learn_diffusion import devices

def again_and_again():
    "The pages that the system had to hand out."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(40, 256, 1024)  # 40 MB, larger than any block that glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = again_and_again()
devices.disable_malloc_trim()
again_and_again()  # until the pieces have found their places
print(usual, again_and_again())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_is_kept_for_the_next_step():
    usual, kept = map(int, subprocess.check_output([sys.executable, "-c", FAULTS], text=True).split())
    assert kept < usual / 10


def test_where_there_is_no_mallopt_memory_is_handled_as_ever(monkeypatch):
    for error in (AttributeError("mallopt"), OSError("no library"), TypeError("Windows wants a name")):

        def missing(name, error=error):
            raise error

        monkeypatch.setattr(ctypes, "CDLL", missing)
        devices.disable_malloc_trim.__wrapped__()


def test_a_batch_that_does_not_fit_says_what_to_try_and_gives_its_memory_back(monkeypatch):
    real = training.loss

    def small(model, x0, **options):
        if len(x0) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return real(model, x0, **options)

    monkeypatch.setattr(training, "loss", small)
    with pytest.raises(
        ValueError, match="batch: 64 does not fit into the memory of .*; try 32, or grad_accum_steps=2$"
    ) as said:
        next(train(model(), IMAGES, 1))
    assert said.value.__context__ is None  # it would hold on to the tensors of the step that failed
    with pytest.raises(ValueError, match="; try 35, or grad_accum_steps=6$"):
        next(train(model(), IMAGES, 1, batch=70, grad_accum_steps=3))
    assert next(train(model(), IMAGES, 1, batch=64, grad_accum_steps=4)).step == 1
    monkeypatch.setattr(training, "loss", lambda *arguments, **options: small(None, range(21)))
    with pytest.raises(ValueError, match="not even one row at a time does"):
        next(train(model(), IMAGES, 1, batch=1))

    def wrong(*arguments, **options):
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(training, "loss", wrong)
    with pytest.raises(RuntimeError, match="size mismatch"):
        next(train(model(), IMAGES, 1))


def test_frozen_weights_train_and_resume(tmp_path):
    def run(**options):
        net = model(classes=10)
        net.net.embedding.requires_grad_(False)
        return train(net, IMAGES, 6, labels=small_digits()[1][:64], batch=8, device="cpu", **options)

    some = run(checkpoint=tmp_path / "a", checkpoint_every=2)
    for _ in range(3):
        next(some)
    some.close()
    assert torch.equal(weights(finish(run(checkpoint=tmp_path / "a")).ema), weights(finish(run()).ema))
    with pytest.raises(ValueError, match="model: expected weights that require gradients"):
        train(model().requires_grad_(False), IMAGES, 1)


def test_a_resume_with_other_labels_is_refused(tmp_path):
    labels = small_digits()[1][:64]
    finish(train(model(classes=10), IMAGES, 2, labels=labels, checkpoint=tmp_path / "a"))
    with pytest.raises(ValueError, match="differs in labels"):
        next(train(model(classes=10), IMAGES, 2, labels=(labels + 1) % 10, checkpoint=tmp_path / "a"))


def test_a_training_of_another_kind_of_device_is_said_to_be_one(tmp_path):
    finish(train(model(), IMAGES, 2, checkpoint=tmp_path / "a"))
    ema, state, metadata = checkpoints.read(tmp_path / "a")
    state["random"] = torch.zeros(16, dtype=torch.uint8)  # as on cuda
    checkpoints.save(tmp_path / "a", ema, state, training=metadata["training"])
    with pytest.raises(ValueError, match="^checkpoint: .*was saved on another kind of device than cpu"):
        next(train(model(), IMAGES, 2, checkpoint=tmp_path / "a"))


def test_a_network_that_cannot_be_saved_is_refused_before_it_trains(tmp_path):
    with pytest.raises(TypeError, match="model: expected a Denoiser or one of"):
        train(Denoiser(torch.nn.Linear(2, 2), Cosine(), "v"), torch.zeros(4, 2), 1, checkpoint=tmp_path / "a")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_modes_of_the_caller_change_nothing_and_are_back_between_steps(mode):
    def run(net):
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        for step in train(net, IMAGES, 2, batch=8, device="cpu"):
            ema = step.ema
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
        noise, ts = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), Cosine().timesteps(3)
        for state in heun(ema, Cosine(), noise, ts):
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
            assert not state.x.requires_grad
        return state.x

    usual, net = run(model()), model()
    with mode():
        assert torch.equal(run(net), usual)


BAD_CALLS = {
    "train": lambda: train(model(), IMAGES, 0),
    "halflife": lambda: train(model(), IMAGES, 1, halflife=0),
    "ddim": lambda: ddim(model(), Cosine(), IMAGES, Cosine().timesteps(3), eta=2.0),
    "heun": lambda: heun(model(), Cosine(), IMAGES, Cosine().timesteps(3).flip(0)),
    "dpmpp_2m": lambda: dpmpp_2m(model(), Cosine(), IMAGES / 0, Cosine().timesteps(3)),
    "repaint": lambda: repaint(model(), Cosine(), IMAGES, IMAGES > 0, Cosine().timesteps(3), 0),
    "sdedit": lambda: sdedit(model(), Cosine(), IMAGES, 2.0, Cosine().timesteps(3)),
    "invert": lambda: invert(model(), Cosine(), IMAGES, Cosine().timesteps(3), 0),
    "gan": lambda: train_gan(model(), model(), IMAGES, 1, latent=0),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_argument_is_refused_by_the_call(name):
    with pytest.raises(ValueError, match="expected"):
        BAD_CALLS[name]()
