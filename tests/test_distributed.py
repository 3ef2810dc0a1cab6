"""Several processes train what one trains. torchrun starts two of them once, for all tests of this file.

Learning rates are small here: where a gradient is next to 0, Adam makes a whole step of what is only rounding.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.testing import assert_close

from learn_diffusion import checkpoints, distributed
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.distributed import World, microbatches, world
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

HOW = {"batch": 15, "lr": 1e-4, "seed": 3, "device": "cpu"}  # of 15 rows, one process takes 7 and the other 8


class Partial(nn.Module):
    """A network of which one layer is frozen, another is never used, and a third by few rows."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(64, 64).requires_grad_(False)
        self.sometimes, self.never, self.last = nn.Linear(64, 64), nn.Linear(3, 3), nn.Linear(64, 64)

    def forward(self, x, logsnr, cond=None):
        h = self.frozen(x.flatten(1))
        if (rows := x[:, :1, 0, 0] > 1).any():
            h = h + rows * self.sometimes(h)
        return self.last(h).view(x.shape)


def digit_model(seed: int = 0) -> Denoiser:
    torch.manual_seed(seed)
    return Denoiser(UNet(widths=(8, 8), classes=10), Cosine(), "v")


def partial_model(seed: int = 0) -> Denoiser:
    torch.manual_seed(seed)
    return Denoiser(Partial(), Cosine(), "v")


def digit_training(model, until: int = 8, **options):
    """The last Step of a training that may be left early."""
    images, labels = small_digits("train")
    for step in train(model, images, 8, labels=labels, checkpoint_every=4, **HOW, **options):
        if step.step == until:
            break
    return step


def partial_training(model, **options):
    noise = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    *_, end = train(model, noise, 6, grad_accum_steps=3, **HOW, **options)
    return end


def in_two_processes(folder: str) -> None:
    """What each of the two does; it writes what it found into a file of its own."""
    from learn_diffusion import cli, recipes

    rank = world().rank
    found = {"rank": rank, "world_size": world().size, "main": distributed.is_main_process(), "groups_left": []}

    def note(name, value):
        found[name] = value
        found["groups_left"] += [name] * dist.is_initialized()

    def refused(name, training, model, **options):
        try:
            training(model, **options)
        except (ValueError, FloatingPointError) as error:
            note(name, f"{type(error).__name__} {error}")

    # the second process starts from other weights, and must take those of the first
    note("loss", digit_training(digit_model(rank), checkpoint=f"{folder}/together").loss)
    note("partial", partial_training(partial_model(rank)).loss)
    torch.save(partial_training(partial_model(rank)).ema.state_dict(), f"{folder}/partial{rank}")
    note("left early", digit_training(digit_model(rank), until=4, checkpoint=f"{folder}/begun").step)
    note("alone", digit_training(digit_model(), distributed=False).loss)
    digit_training(digit_model(), until=4, checkpoint=f"{folder}/seen_by{rank}")
    refused("hosts differ", digit_training, digit_model(), checkpoint=f"{folder}/seen_by{rank}")
    broken = digit_model()
    nn.init.constant_(broken.net.conv_out.bias, float("nan"))
    refused("nan", digit_training, broken)

    def tiny(steps=4, seed=0, device=None, work=None):
        """A recipe."""
        *_, end = train(digit_model(), small_digits()[0], steps, device=device, checkpoint=work)
        return end.ema, {"data": "digits"}

    recipes.RECIPES["tiny"] = tiny
    with open(f"{folder}/found{rank}", "w") as file:
        json.dump(found, file)
    cli.main(["train", "tiny", "--device", "cpu", "--out", f"{folder}/recipe"])  # ends the process


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """(folder, what each of two processes found, what they printed)."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, folder]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, [json.loads((folder / f"found{rank}").read_text()) for rank in (0, 1)], done.stdout


@pytest.fixture(scope="module")
def alone():
    return digit_training(digit_model())


def weights_in(path):
    return checkpoints.load(path, "cpu")[0].state_dict()


def test_two_processes_train_what_one_trains(two, alone):
    folder, found, _ = two
    assert [(f["rank"], f["world_size"], f["main"]) for f in found] == [(0, 2, True), (1, 2, False)]
    assert_close(weights_in(folder / "together"), alone.ema.state_dict(), rtol=0, atol=1e-5)
    assert found[0]["loss"] == found[1]["loss"] == pytest.approx(alone.loss, rel=1e-5)  # of the whole batch


def test_one_process_resumes_what_two_began(two, alone):
    folder, found, _ = two
    assert [f["left early"] for f in found] == [4, 4]
    resumed = digit_training(digit_model(7), checkpoint=folder / "begun")
    assert_close(resumed.ema.state_dict(), alone.ema.state_dict(), rtol=0, atol=1e-5)


def test_frozen_and_unused_weights_and_microbatches_train_in_two_processes_too(two):
    folder, _, _ = two
    expected = partial_training(partial_model()).ema.state_dict()
    for rank in (0, 1):
        assert_close(torch.load(folder / f"partial{rank}"), expected, rtol=0, atol=1e-5)


def test_hosts_that_do_not_all_see_the_checkpoint_do_not_resume_from_it(two):
    """Else the first would resume while the others begin, and their gradients would be averaged."""
    folder, found, _ = two
    assert (folder / "seen_by0").exists()
    for step, f in zip((4, 0), found, strict=True):
        assert f["hosts differ"].startswith(
            f"ValueError checkpoint: this process resumes at step {step}, others do not"
        )


def test_a_process_group_ends_with_its_training_however_that_ends(two):
    _, found, _ = two
    assert all(f["nan"].startswith("FloatingPointError loss: ") for f in found)
    assert [f["groups_left"] for f in found] == [[], []]


def test_a_process_may_train_alone_beside_the_others(two, alone):
    _, found, _ = two
    assert [f["alone"] for f in found] == pytest.approx([alone.loss] * 2, rel=1e-5)


def test_the_command_line_runs_a_recipe_with_two_processes_and_one_of_them_prints(two):
    folder, _, printed = two
    assert printed.count("recipe ") == 1
    left = {path.name for path in folder.iterdir()}
    assert "recipe" in left
    assert not [name for name in left if name.endswith((".lock", ".part", ".work", ".json"))]


def test_microbatches_add_up_to_the_batch():
    images = torch.rand(20, 1, 8, 8) * 2 - 1
    ends = []
    for grad_accum_steps in (1, 3):
        torch.manual_seed(0)
        model = Denoiser(UNet(widths=(8, 8)), Cosine(), "v")
        *_, end = train(model, images, 4, batch=10, grad_accum_steps=grad_accum_steps, lr=2e-4, device="cpu")
        ends.append(end)
    assert ends[1].loss == pytest.approx(ends[0].loss, rel=1e-5)
    assert_close(ends[1].ema.state_dict(), ends[0].ema.state_dict(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("n", "processes", "parts"), [(15, 2, 1), (64, 3, 2), (6, 2, 3), (7, 7, 1)])
def test_every_row_is_taken_once_and_shares_are_even(n, processes, parts):
    rows = [list(range(n))[r] for rank in range(processes) for r in microbatches(n, parts, World(rank, processes))]
    assert [row for share in rows for row in share] == list(range(n))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_batch_too_small_to_share_is_refused():
    with pytest.raises(ValueError, match="batch: expected at least a row for each of 4 processes in 2 parts, got 7"):
        microbatches(7, 2, World(0, 4))


@pytest.mark.parametrize("interactive", [False, True], ids=["script on a cluster", "notebook"])
def test_an_inherited_world_size_trains_alone_and_says_so(monkeypatch, interactive):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    if interactive:  # even where torchrun started the notebook's server
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.warns(UserWarning, match="WORLD_SIZE is 2.* trains alone"):
        steps = train(digit_model(), small_digits()[0], 1, device="cpu")
    assert next(steps).step == 1
    assert distributed.is_main_process()


def test_what_was_required_is_there_or_named(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="distributed: expected a process that torchrun .* got one without RANK"):
        train(digit_model(), small_digits()[0], 1, distributed=True)
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    assert world(distributed=True) == (1, 2)
    assert world(distributed=False) == (0, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert world() == (1, 2)


if __name__ == "__main__":
    in_two_processes(sys.argv[1])
