"""The command line: what it draws and prints, and one clear line for each way to ask wrongly."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import learn_diffusion
from learn_diffusion import checkpoints, cli, recipes, sampling
from learn_diffusion.checkpoints import save
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import MLP, VAE, Classifier, UNet
from learn_diffusion.recipes import pretrained
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.schedules import Cosine
from learn_diffusion.widgets.images import tile, to_uint8

WORDS = ["a", "cat", "moon", "on", "the"]


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def program(arguments):
    """What the installed command runs: cli.main, which turns errors into lines."""
    cli.main(arguments)


def run(*arguments) -> click.testing.Result:
    return CliRunner().invoke(program, ["--", *map(str, arguments)])


def fails(*arguments, code: int = 1) -> str:
    """The one line of an error; nothing else is printed, and nothing is raised."""
    result = run(*arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("learn-diffusion: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Small untrained models of every kind."""
    folder = tmp_path_factory.mktemp("shelf")
    torch.manual_seed(0)
    for name, net, shape in (
        ("labels", UNet(widths=(8, 8), classes=10), [1, 8, 8]),
        ("words", UNet(channels=3, widths=(8, 16), patch_size=2, words=WORDS, text=16), [3, 16, 16]),
        ("neither", UNet(widths=(8, 8)), [1, 8, 8]),
        ("points", MLP(width=8), [2]),
    ):
        save(folder / name, Denoiser(net, Cosine(), "v"), data_shape=shape, seconds=4000.0, metrics={"frechet": 1 / 3})
    save(folder / "shapeless", Denoiser(UNet(widths=(8, 8)), Cosine(), "v"))
    save(folder / "reader", Classifier(width=8))
    (folder / "foreign").write_bytes(b"not a checkpoint at all")
    (folder / "truncated").write_bytes((folder / "labels").read_bytes()[:-100])
    return folder


def test_help_names_the_commands_and_every_command_explains_itself():
    result = run("--help")
    assert result.exit_code == 0
    for name, command in cli.commands.commands.items():
        assert f"\n  {name} " in result.stdout
        assert command.help
        own = run(name, "--help")
        assert own.exit_code == 0
        assert "Usage: learn-diffusion" in own.stdout
    assert run().stdout == result.stdout
    assert learn_diffusion.__version__ in run("--version").stdout


def test_python_m_is_the_same_and_help_needs_no_torch():
    code = "import sys; from learn_diffusion import cli; cli.commands.main(['--help'], standalone_mode=False); "
    code += "print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False"
    out = subprocess.run(
        [sys.executable, "-m", "learn_diffusion", "trian"], capture_output=True, text=True, check=False
    )
    assert (out.returncode, out.stdout) == (2, "")
    assert out.stderr.startswith("learn-diffusion: No such command 'trian'")


def test_a_model_of_codes_draws_pictures(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "DATA", tmp_path)
    save(tmp_path / "coder.safetensors", VAE(widths=(8, 8)))
    model = Denoiser(UNet(channels=4, widths=(8, 8)), Cosine(), "x0")
    save(tmp_path / "codes", model, data_shape=[4, 8, 8], autoencoder="coder")
    result = run("sample", tmp_path / "codes", "--out", tmp_path / "x.png", "--steps", 2, "--zoom", 1)
    assert "32x32 pixels" in result.stdout
    (tmp_path / "coder.safetensors").unlink()
    assert "coder.safetensors: not there" in fails("sample", tmp_path / "codes", "--out", tmp_path / "x.png")


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("labels", ["--label", "3"], "label 3 at guidance scale 3"),
        ("labels", ["--label", "3", "--guidance-scale", "-2.5"], "label 3 at guidance scale -2.5"),
        ("labels", ["--label", "3", "--guidance-scale", "1e30"], "label 3 at guidance scale 1e+30"),
        ("labels", ["--label", "3", "--sampler", "heun"], "label 3 at guidance scale 3"),
        ("labels", [], "unconditional"),
        ("words", ["--prompt", "A cat, on the moon"], "'A cat, on the moon' at guidance scale 3"),
        ("words", ["--prompt", "a cat", "--guidance-scale", "0"], "'a cat' at guidance scale 0"),
        ("words", [], "unconditional"),
        ("neither", [], "unconditional"),
    ],
)
def test_sample_draws_and_says_what(shelf, tmp_path, name, wanted, said):
    out = tmp_path / "x.png"
    result = run("sample", shelf / name, "--out", out, "--n", 3, "--steps", 2, "--zoom", 2, *wanted)
    assert result.exit_code == 0, result.stderr
    assert f"{out}: {said}; n 3, " in result.stdout
    assert f"2 steps of {'heun' if 'heun' in wanted else 'dpmpp_2m'}, seed 0" in result.stdout
    assert "sampled in" in result.stdout
    side = 16 if name == "words" else 8
    assert Image.open(out).size == (2 * (2 * side + 1), 2 * (2 * side + 1))  # 2 x 2 places and a gap
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_the_picture_is_what_draw_draws_each_pixel_a_square(shelf, tmp_path):
    out = tmp_path / "x.png"
    assert (
        run("sample", shelf / "labels", "--out", out, "--n", 2, "--steps", 3, "--label", 4, "--seed", 9).exit_code == 0
    )
    model, _ = checkpoints.load(shelf / "labels", "cpu")
    sheet = tile(to_uint8(sampling.sample(model, (2, 1, 8, 8), torch.tensor([4, 4]), steps=3, seed=9)))
    assert np.array_equal(np.asarray(Image.open(out)), sheet.repeat(16, 0).repeat(16, 1))


def test_the_size_can_be_given(shelf, tmp_path):
    out = tmp_path / "x.png"
    assert "size: this file does not say" in fails("sample", shelf / "shapeless", "--out", out)
    assert "divisible by 2" in fails("sample", shelf / "shapeless", "--out", out, "--size", 7)
    assert not out.exists()
    assert run("sample", shelf / "shapeless", "--out", out, "--size", 6, "--steps", 1, "--zoom", 1).exit_code == 0
    assert Image.open(out).size == (6, 6)


BAD = {
    # name: (checkpoint, options, exit code, what the line says)
    "missing file": ("nowhere", [], 1, "nowhere: no such checkpoint"),
    "foreign file": ("foreign", [], 1, "foreign: no whole safetensors file"),
    "truncated file": ("truncated", [], 1, "truncated: no whole safetensors file"),
    "a classifier": ("reader", [], 1, "reader: expected a Denoiser to sample from, got a Classifier"),
    "a model of points": ("points", [], 1, "model: expected a network that draws pictures, got MLP"),
    "prompt without words": ("labels", ["--prompt", "a cat"], 1, "prompt: this model reads no words; it takes a label"),
    "label without labels": ("words", ["--label", "3"], 1, "label: this model knows no labels; it takes a prompt"),
    "both": ("words", ["--label", "3", "--prompt", "a cat"], 1, "label: this model knows no labels"),
    "label out of range": ("labels", ["--label", "10"], 1, "label: expected a whole number from 0 to 9, got 10"),
    "label no number": ("labels", ["--label", "three"], 2, "'three' is not a valid integer"),
    "unknown word": ("words", ["--prompt", "a cut on the moon"], 1, "'cut' (nearest: cat)"),
    "empty prompt": ("words", ["--prompt", ""], 1, "prompt: expected at least one word"),
    "1000 words": ("words", ["--prompt", "cat " * 1000], 1, "prompt: expected at most 16 words, got 1000"),
    "many lines": ("words", ["--prompt", "a\ncut\non the moon"], 1, "'cut'"),
    "scale nan": ("labels", ["--label", "3", "--guidance-scale", "nan"], 2, "-scale: expected a finite number"),
    "scale inf": ("labels", ["--label", "3", "--guidance-scale", "inf"], 2, "-scale: expected a finite number"),
    "scale of nothing": ("labels", ["--guidance-scale", "2"], 2, "--guidance-scale: expected a --prompt or a --label"),
    "no pictures": ("labels", ["--n", "0"], 2, "'--n': 0 is not in the range"),
    "too many": ("labels", ["--n", "1000000"], 2, "'--n': 1000000 is not in the range"),
    "no steps": ("labels", ["--steps", "0"], 2, "'--steps': 0 is not in the range"),
    "negative seed": ("labels", ["--seed", "-1"], 2, "'--seed': -1 is not in the range"),
    "zoom": ("labels", ["--zoom", "0"], 2, "'--zoom': 0 is not in the range"),
    "device": ("labels", ["--device", "tpu3"], 1, "device: expected 'cpu', 'cuda', 'mps' or None, got 'tpu3'"),
    "unknown option": ("labels", ["--colour", "red"], 2, "--colour"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_no_file(shelf, tmp_path, case):
    name, options, code, message = BAD[case]
    assert message in fails("sample", shelf / name, "--out", tmp_path / "x.png", *options, code=code)
    assert not list(tmp_path.iterdir())


def test_bad_places_for_the_picture(shelf, tmp_path, monkeypatch):
    def denied(path, content):
        raise PermissionError(errno.EACCES, "Permission denied")

    model = shelf / "neither"
    assert "Missing option '--out'" in fails("sample", model, code=2)
    assert "--out: expected a name that ends in .png" in fails("sample", model, "--out", tmp_path / "x.jpg", code=2)
    assert "cannot be written (No such file" in fails("sample", model, "--out", tmp_path / "no" / "x.png")
    (tmp_path / "folder.png").mkdir()
    assert "expected the name of a file, got the folder" in fails("sample", model, "--out", tmp_path / "folder.png")
    with monkeypatch.context() as patch:  # tests may run as root, who may write anywhere
        patch.setattr("pathlib.Path.write_bytes", denied)
        assert "x.png cannot be written (Permission denied)" in fails("sample", model, "--out", tmp_path / "x.png")


def test_a_full_disk_keeps_the_old_picture(shelf, tmp_path, monkeypatch):
    out = tmp_path / "x.png"
    out.write_bytes(b"the old picture")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    assert "No space left on device" in fails("sample", shelf / "neither", "--out", out, "--steps", 1)
    assert out.read_bytes() == b"the old picture"
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_info_prints_the_header(shelf):
    lines = run("info", shelf / "words").stdout.splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines[1:])
    assert lines[0].startswith(f"{shelf / 'words'}, ")
    assert rows["network"] == "UNet"
    assert rows["schedule"] == "Cosine()"
    assert rows["takes"] == "a prompt of up to 16 words"
    assert rows["arguments.words"] == "a cat moon on the"
    assert rows["data_shape"] == "[3, 16, 16]"
    assert rows["metrics.frechet"] == "0.3333"
    assert rows["seconds"] == "4000 (67 min)"
    assert "a label from 0 to 9" in run("info", shelf / "labels").stdout
    assert "Classifier" in run("info", shelf / "reader").stdout
    assert "no whole safetensors file" in fails("info", shelf / "truncated")
    assert "expected a .safetensors file written by save, got a folder" in fails("info", shelf)
    assert "no such checkpoint" in fails("info", shelf / "missing")
    assert run("info", "digits_by_label").stdout.startswith(str(pretrained_path("digits_by_label")))  # one that ships
    assert "book/own_pictures.md" in fails("train", shelf, code=2)


def test_a_file_cannot_steer_the_terminal(tmp_path):
    save(tmp_path / "sly", MLP(width=8), data="\x1b[2Jé\x07", metrics={"\x1b]0;title": 1})
    said = run("info", tmp_path / "sly").stdout
    assert "\\x1b[2Jé\\x07" in said
    assert not {"\x1b", "\x07"} & set(said)


def test_a_console_that_lacks_letters_is_no_reason_to_stop(shelf, tmp_path):
    """As on Windows, where what is written into a file or a pipe has the letters of one part of the world."""
    path = tmp_path / "Łódź"
    path.write_bytes((shelf / "neither").read_bytes())
    command = [sys.executable, "-m", "learn_diffusion", "info", path]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="cp1252", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith(f"{tmp_path}{os.sep}\\u0141ód\\u017a, ")


def test_too_little_memory_is_one_line_and_other_errors_are_not_hidden(shelf, tmp_path, monkeypatch):
    full = "can't allocate memory", "not enough memory"  # Linux and macOS, Windows
    errors = [RuntimeError(f"DefaultCPUAllocator: {said}: you tried to allocate 8 bytes") for said in full]
    errors += [RuntimeError("shapes differ")]

    def draw(*arguments):
        raise errors.pop(0)

    monkeypatch.setattr(sampling, "sample", draw)
    for _ in full:
        assert "out of memory: ask for fewer pictures (--n)" in fails(
            "sample", shelf / "neither", "--out", tmp_path / "a.png"
        )
    assert isinstance(run("sample", shelf / "neither", "--out", tmp_path / "a.png").exception, RuntimeError)
    assert not (tmp_path / "a.png").exists()


def test_list_names_every_recipe_with_the_time_in_its_header(tmp_path, monkeypatch):
    listed = run("list").stdout
    for name, recipe in recipes.RECIPES.items():
        _, metadata = checkpoints.load(pretrained_path(name), "cpu")
        assert f"{name}\n    {recipe.__doc__.splitlines()[0]}\n" in listed
        assert f"took {cli.duration(metadata['seconds'])} on {metadata['hardware']}\n" in listed
    monkeypatch.setattr(pretrained, "DATA", tmp_path)
    assert "not trained yet: learn-diffusion train digit_classifier" in run("list").stdout


def test_duration_says_it_in_a_fitting_unit():
    assert [cli.duration(s) for s in (7.5, 99, 163.6, 3600, 9000)] == ["8 s", "99 s", "3 min", "60 min", "2.5 h"]


def test_train_makes_the_file_and_prints_its_header(tmp_path):
    out = tmp_path / "a.safetensors"
    result = run("train", "digit_classifier", "--out", out, "--steps", 2, "--seed", 5, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert "held_out_accuracy" in result.stdout
    assert "2/2" in result.stderr  # the progress bar
    _, metadata = checkpoints.load(out, "cpu")
    assert (metadata["recipe"], metadata["steps"], metadata["seed"]) == ("digit_classifier", 2, 5)


def test_train_says_what_is_wrong(tmp_path):
    assert "recipe: expected one of 'digit_classifier', 'digits_by_label'" in fails("train", "cats")
    assert "name its file with --out" in fails("train", "digit_classifier", "--steps", 5, code=2)  # not over what ships
    assert "name its file with --out" in fails("train", "digit_classifier", "--seed", 5, code=2)
    assert "cannot be written (No such file" in fails("train", "digit_classifier", "--out", tmp_path / "no" / "a")
    assert "device: expected" in fails("train", "digit_classifier", "--out", tmp_path / "a", "--device", "tpu3")
    assert "Missing argument 'RECIPE'" in fails("train", code=2)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_stops_with_one_line(tmp_path, monkeypatch):
    def interrupted(**options):
        raise KeyboardInterrupt

    monkeypatch.setitem(recipes.RECIPES, "digit_classifier", interrupted)
    result = run("train", "digit_classifier", "--out", tmp_path / "a")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "\nlearn-diffusion: stopped\n")  # after ^C


def test_train_hands_its_options_to_the_recipe(shelf, monkeypatch, tmp_path):
    asked = []

    def run_recipe(*arguments, **options):
        asked.append((arguments, options))
        return shelf / "labels"

    monkeypatch.setattr("learn_diffusion.recipes.run.run_recipe", run_recipe)
    assert run("train", "digits_by_label").exit_code == 0
    more = ["--restart", "--out", tmp_path / "a", "--checkpoint-dir", tmp_path, "--steps", 5, "--seed", 3]
    assert run("train", "digits_by_label", *more).exit_code == 0
    assert asked == [
        (("digits_by_label", None, None, False), {}),
        (("digits_by_label", tmp_path / "a", tmp_path, True), {"steps": 5, "seed": 3}),
    ]
