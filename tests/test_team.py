"""Several processes train what one trains: started by torchrun, joined by gloo, on this machine.

Learning rates are small here: where a gradient is next to 0, Adam makes a whole step of what is only rounding.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from learn_diffusion import checkpoints, team
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

TRAINING = """
import sys
import torch
from learn_diffusion import team
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

until, path = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(team.rank())  # others start from other weights, and must take those of the first
images, labels = small_digits("train")
model = Denoiser(UNet(widths=(8, 8), classes=10), Cosine(), "v")
for step in train(model, images, 8, labels=labels, batch=15, lr=1e-4, seed=3, device="cpu", checkpoint=path, checkpoint_every=4):
    if step.step == until:
        break
print(f"process {team.rank()} of {team.size()}: loss {step.loss:.6f}")
"""
RECIPE = """
import sys
from learn_diffusion import cli, recipes
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

def tiny(steps=4, seed=0, device=None, work=None):
    "A recipe."
    images, _ = small_digits()
    *_, end = train(Denoiser(UNet(widths=(8, 8)), Cosine(), "v"), images, steps, device=device, checkpoint=work)
    return end.ema, {"data": "digits"}

recipes.RECIPES["tiny"] = tiny
cli.main(["train", "tiny", "--device", "cpu", "--out", sys.argv[1]])
"""


def run(program, *arguments, processes: int = 1) -> str:
    """What a program says that so many processes run."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def trained(path, processes: int = 1, until: int = 8) -> tuple[Denoiser, str]:
    """The model in the file that so many processes wrote, and what they said."""
    program = path.with_suffix(".py")
    program.write_text(TRAINING)
    said = run(program, until, path, processes=processes)
    return checkpoints.load(path, "cpu")[0], said


def test_two_processes_train_what_one_trains_and_one_goes_on_from_two(tmp_path):
    alone, _ = trained(tmp_path / "alone")
    together, said = trained(tmp_path / "together", processes=2)
    assert "process 0 of 2" in said
    assert "process 1 of 2" in said
    assert len({line.rpartition(" ")[2] for line in said.splitlines()}) == 1  # both say the loss of the whole batch
    assert_close(together.state_dict(), alone.state_dict(), rtol=0, atol=1e-5)
    assert not list(tmp_path.glob("*.lock")) + list(tmp_path.glob("*.part"))
    trained(tmp_path / "begun", processes=2, until=4)
    ended, _ = trained(tmp_path / "begun")
    assert_close(ended.state_dict(), alone.state_dict(), rtol=0, atol=1e-5)


def test_hosts_that_do_not_all_see_the_checkpoint_do_not_go_on_from_it(tmp_path):
    """Else the first would go on while the others begin, and their gradients would be added up."""
    program = tmp_path / "program.py"
    program.write_text(TRAINING.replace("checkpoint=path", "checkpoint=f'{path}{team.rank()}'"))
    run(program, 4, tmp_path / "a", processes=2)
    assert (tmp_path / "a0").exists()
    with pytest.raises(AssertionError, match="checkpoint: this process goes on from step 4, others do not; put .*a0"):
        run(program, 8, tmp_path / "a", processes=2)
    run(program, 8, tmp_path / "b", processes=2)


def test_the_command_line_runs_a_recipe_with_two_processes_and_one_of_them_talks(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(RECIPE)
    said = run(program, tmp_path / "a", processes=2)
    assert said.count("recipe ") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "program.py"]


def test_parts_add_up_to_the_whole():
    images = torch.rand(20, 1, 8, 8) * 2 - 1
    ends = []
    for accumulate in (1, 3):
        torch.manual_seed(0)
        model = Denoiser(UNet(widths=(8, 8)), Cosine(), "v")
        *_, end = train(model, images, 4, batch=10, accumulate=accumulate, lr=2e-4, device="cpu")
        ends.append(end)
    assert ends[1].loss == pytest.approx(ends[0].loss, rel=1e-5)
    assert_close(ends[1].ema.state_dict(), ends[0].ema.state_dict(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("n", "processes", "parts"), [(15, 2, 1), (64, 3, 2), (6, 2, 3), (7, 7, 1)])
def test_every_row_is_answered_for_once_and_shares_are_even(monkeypatch, n, processes, parts):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    rows = []
    for rank in range(processes):
        monkeypatch.setenv("RANK", str(rank))
        assert team.first() == (rank == 0)
        rows += [list(range(n))[share] for share in team.shares(n, parts)]
    assert [row for share in rows for row in share] == list(range(n))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_batch_too_small_to_share_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="batch: expected at least a row for each of 4 processes in 2 parts, got 7"):
        team.shares(7, 2)


def test_a_process_that_is_alone_asks_nobody():
    x = torch.ones(3)
    team.add_up([x])
    team.agree([x])
    team.wait()
    assert (team.size(), team.rank(), team.join(torch.device("cpu"))) == (1, 0, torch.device("cpu"))
    assert torch.equal(x, torch.ones(3))
