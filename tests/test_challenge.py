"""The few-call challenge: every rule refuses what breaks it, good pictures score well and bad ones do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_cli import fails, run

from learn_diffusion import challenge, checkpoints
from learn_diffusion.recipes import evaluation
from learn_diffusion.recipes.pretrained import pretrained_path

ENTRIES = Path(__file__).resolve().parent.parent / "benchmarks" / "challenge"
PARTS = {
    "top": "import time, torch\nfrom torch import nn",
    "build": "return nn.Flatten(2)",
    "train": "pass",
    "draw": "return noise",
}


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(challenge, "SECONDS", 1.0)


@pytest.fixture
def entry(tmp_path):
    """Writes a submission whose functions have these bodies, and the plainest where none is given."""

    def write(**bodies):
        parts = {name: body.replace("\n", "\n    ") for name, body in {**PARTS, **bodies}.items()}
        functions = [f"def {name}({arguments}):\n    {parts[name]}" for name, arguments in (
            ("build", ""), ("train", "net, images, seconds"), ("draw", "net, noise, calls"))]  # fmt: skip
        path = tmp_path / "entry.py"
        path.write_text("\n\n".join([{**PARTS, **bodies}["top"], *functions]) + "\n", encoding="utf-8")
        return path

    return write


MEMORY = "net.register_buffer('digits', images)"  # a net that stores the training set; it fits


def drawn(amount: float) -> str:
    return f"return net.digits[torch.randint(len(net.digits), (len(noise),))] + {amount} * noise"


def test_pictures_like_real_ones_score_like_real_ones_and_copies_are_seen(entry):
    score = challenge.score(entry(train=MEMORY, draw=drawn(0.02)), seeds=2, device="cpu")
    assert score.weights == 1297 * 64
    assert 0.3 < min(score.real) < max(score.real) < 1
    for calls in (1, 2, 4):
        assert max(score.frechet[calls]) < 2 * max(score.real)
        assert min(score.copied[calls]) > 0.99
    assert score.row()[-1] == "100.0%"


def test_a_blot_scores_far_away_and_copies_nothing(entry):
    path = entry(train="net.register_buffer('mean', images.mean(0))", draw="return net.mean.expand_as(noise)")
    score = challenge.score(path, seeds=2, device="cpu")
    assert min(score.frechet[1]) > 30 * max(score.real)
    assert score.copied == {1: [0, 0], 2: [0, 0], 4: [0, 0]}
    assert score.row()[0] == "64"
    assert score.row()[-1] == "0.0%"


def test_every_seed_is_a_training_of_its_own_and_the_same_seed_gives_the_same(entry):
    once = "assert not runs, 'a seed found what the last one left'\nruns.append(1)\nreturn nn.Linear(1, 1)"
    path = entry(top=PARTS["top"] + "\nruns = []", build=once, draw="return noise * net.weight * calls")
    score = challenge.score(path, seeds=2, device="cpu")
    assert score.frechet[1][0] != score.frechet[1][1]
    assert score.frechet[1][0] != score.frechet[2][0]  # and draw is told how many calls it has
    assert challenge.score(path, seeds=2, device="cpu").frechet == score.frechet


def test_seeds_have_noises_of_their_own_which_training_does_not_draw_first(entry):
    path = entry()
    first, second = (challenge.run(path, seed, torch.device("cpu"), 1.0)[2][1] for seed in (0, 1))
    assert not torch.equal(first, second)
    assert first.abs().max() == 1  # what is drawn outside [-1, 1] is clipped
    path = entry(train="net.register_buffer('first', torch.randn(500, 1, 8, 8))", draw="return noise - net.first")
    assert challenge.run(path, 0, torch.device("cpu"), 1.0)[2][1].std() > 0.5


BAD = {
    "weights": (
        {"build": "return nn.Linear(1, 200_000)"},
        "weights: expected at most 330,000 parameters and buffers, got 400,000",
    ),
    "weights, a buffer": (
        {"build": "net = nn.Flatten()\nnet.register_buffer('table', torch.zeros(330_001))\nreturn net"},
        "got 330,001",
    ),
    "weights, grown in training": ({"train": "net.more = nn.Linear(1, 200_000)"}, "weights: expected at most 330,000"),
    "no net": ({"build": "return 3"}, "build: expected an nn.Module, got int"),
    "one call too many": (
        {"draw": "for _ in range(calls + 1): net(noise)\nreturn noise"},
        "calls: expected at most 1 for each picture, got 2",
    ),
    "a batch of twice the size": (
        {"draw": "net(torch.cat([noise, noise]))\nreturn noise"},
        "calls: expected at most 1",
    ),
    "calls by keyword": (
        {"draw": "for _ in range(2): net(input=noise)\nreturn noise"},
        "calls: expected at most 1 for each picture, got 2",
    ),
    "calls that hide their rows": (
        {
            "build": "class Hidden(nn.Module):\n    def forward(self, x): return x[0]\nreturn Hidden()",
            "draw": "for _ in range(2): net([noise])\nreturn noise",
        },
        "calls: expected at most 1 for each picture, got 2",
    ),
    "too many calls where four are allowed": (
        {"draw": "for _ in range(5 if calls == 4 else 1): net(noise)\nreturn noise"},
        "at most 4 for each picture, got 5",
    ),
    "work outside net": (
        {"draw": "big = torch.zeros(64, 60_000)\nfor _ in range(2): noise.flatten(1) @ big\nreturn noise"},
        "work: expected at most 13 MFLOP a picture in 1 calls, got 15.4",
    ),
    "shape": ({"draw": "return noise[:, :, :4]"}, "pictures: expected a tensor (500, 1, 8, 8), got (500, 1, 4, 8)"),
    "fewer pictures": (
        {"draw": "return noise[:400]"},
        "pictures: expected a tensor (500, 1, 8, 8), got (400, 1, 8, 8)",
    ),
    "no pictures": ({"draw": "return [noise]"}, "pictures: expected a tensor (500, 1, 8, 8), got list"),
    "nan": ({"draw": "noise[3] = torch.nan\nreturn noise"}, "pictures: expected finite values, got NaN or infinity"),
    "syntax": ({"draw": "return noise +"}, "entry.py, line 11: SyntaxError: invalid syntax"),
    "an exception": ({"train": "x = 1\nx / 0"}, "entry.py, line 9: ZeroDivisionError: division by zero"),
    "an exception below": (
        {
            "top": "from torch import nn\ndef half(x): return x.no_such_thing",
            "draw": "return half(noise)",
        },
        "entry.py, line 2: AttributeError: 'Tensor' object has no attribute 'no_such_thing'",
    ),
    "an exception at the top": ({"top": "import no_such_package"}, "entry.py, line 1: ModuleNotFoundError"),
    "it ends the program": ({"train": "raise SystemExit(0)"}, "entry.py, line 8: SystemExit: 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_against_the_rules_is_one_line(case, entry):
    bodies, said = BAD[case]
    assert said in fails("challenge", entry(**bodies), "--device", "cpu")


def test_a_missing_function_and_one_with_other_arguments_are_named(tmp_path):
    path = tmp_path / "entry.py"
    path.write_text("def build():\n    pass\n\ntrain = 3\n")
    line = fails("challenge", path, "--device", "cpu")
    assert f"{path}: expected a function train(net, images, seconds), got none" in line
    path.write_text("from torch import nn\nbuild = nn.Flatten\ndef train(net): pass\ndef draw(net): pass\n")
    assert f"{path}: TypeError: train() takes 1 positional argument but 3 were given" in fails("challenge", path)


SPIN = "end = time.process_time() + {}\nwhile time.process_time() < end: pass"


@pytest.mark.parametrize("where", ["build", "train"])
def test_too_slow_is_refused_wherever_the_time_went_and_the_rehearsal_is_not_judged(where, entry, monkeypatch):
    monkeypatch.setattr(challenge, "SECONDS", 0.3)
    body = f"{SPIN}\n{PARTS[where]}"
    assert len(challenge.score(entry(**{where: body.format(0.1)}), 2, "cpu").seconds) == 2  # rehearsed in 0.005 s
    with pytest.raises(ValueError, match=r"seconds: expected at most 0.3 for build and train, got 0.[45]"):
        challenge.score(entry(**{where: body.format(0.4)}), 2, "cpu")


def test_training_is_told_its_seconds_and_gets_the_training_digits_only(entry, monkeypatch):
    said = []
    monkeypatch.setattr(challenge, "note", lambda *values: said.append(values), raising=False)
    body = "from learn_diffusion import challenge\nchallenge.note(seconds, tuple(images.shape), images.min().item())"
    challenge.score(entry(train=body), 2, "cpu")
    assert said == [(1 / 60, (1297, 1, 8, 8), -1), *[(1.0, (1297, 1, 8, 8), -1)] * 2]


def test_scoring_leaves_the_threads_as_they_were(entry):
    before = torch.get_num_threads()
    seen = "assert torch.get_num_threads() == 1"
    try:
        torch.set_num_threads(2)
        challenge.score(entry(train=seen), 2, "cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_command_prints_the_score_and_keeps_it(entry, tmp_path):
    path, out = entry(train=MEMORY, draw=drawn(0.02)), tmp_path / "score.json"
    result = run("challenge", path, "--seeds", 2, "--device", "cpu", "--json", out)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{path}: 83,008 weights, at most 0.")
    assert lines[0].split(", 2 seeds, on ")[1]
    assert [line.split()[0] for line in lines[1:]] == ["calls", "1", "2", "4", "real"]
    assert lines[2].endswith("100.0%")
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["file"] == "entry.py"
    assert [len(values) for values in (*kept["frechet"].values(), kept["seconds"], kept["real"])] == [2] * 5
    assert list(kept["copied"]) == ["1", "2", "4"]


def test_the_command_says_what_is_wrong_with_its_arguments(entry, tmp_path):
    assert "No such file" in fails("challenge", tmp_path / "nowhere.py")
    assert "'--seeds': 1 is not in the range" in fails("challenge", entry(), "--seeds", 1, code=2)
    assert "device: expected" in fails("challenge", entry(), "--device", "tpu3")
    assert "a.json cannot be written (No such file" in fails("challenge", entry(), "--json", tmp_path / "no" / "a.json")


def test_real_against_real_is_what_the_classifier_sees_of_new_digits():
    classifier, _ = checkpoints.load(pretrained_path("digit_classifier"), "cpu")
    features = [
        evaluation.all_features(classifier, challenge.small_digits(split)[0]) for split in ("train", "held_out")
    ]
    first, again = (evaluation.real_against_real(*features, draws=3) for _ in range(2))
    assert first == again
    assert len(set(first)) == 3
    assert 0.4 < min(first) < max(first) < 1


@pytest.mark.parametrize("path", sorted(ENTRIES.glob("*.py")), ids=lambda path: path.stem)
def test_every_entry_keeps_the_rules_and_ends_in_time(path, monkeypatch):
    """In a rehearsal; how good they are is what benchmarks/challenge.py measures."""
    monkeypatch.setattr(challenge, "PICTURES", 50)
    weights, took, pictures = challenge.run(path, 0, torch.device("cpu"), 0.2)
    assert took < 10  # of a busy machine; an entry that knows no end would take its own time
    assert 300_000 < weights <= challenge.WEIGHTS
    assert list(pictures) == [1, 2, 4]
