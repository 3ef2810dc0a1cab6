"""Acts of people who do this job, each of which once ended silently in something wrong, or in an error that named the
wrong reason."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torch import nn

from learn_diffusion import checkpoints, devices, editing, guidance, metrics, sampling, validation
from learn_diffusion.checkpoints import load, save
from learn_diffusion.datasets import advection, download, toy2d
from learn_diffusion.datasets.image_files import image_folder
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.editing import truncate
from learn_diffusion.likelihood import elbo
from learn_diffusion.metrics.copies import nearest_original
from learn_diffusion.metrics.diversity import within_class_distance
from learn_diffusion.metrics.error_bars import mean_and_error, welch
from learn_diffusion.metrics.image_quality import psnr
from learn_diffusion.metrics.textures import texture_distance
from learn_diffusion.mixture import GaussianMixture
from learn_diffusion.nets import MLP, UNet
from learn_diffusion.nets.text import Tokeniser
from learn_diffusion.pipelines import to_scheduler
from learn_diffusion.recipes.gan_comparison import eval_data
from learn_diffusion.recipes.transforms import PrincipalAxes
from learn_diffusion.samplers import SAMPLERS, ddim, final_sample, heun
from learn_diffusion.schedules import DDPM, EDM, VP, Cosine, Flow, Schedule
from learn_diffusion.training import loss, train
from learn_diffusion.widgets import PaintedMask
from learn_diffusion.widgets.images import to_uint8

POINTS = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
PICTURES = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def mlp() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(MLP(width=8), Cosine(), "v")


# what save accepts, load opens


def test_metadata_comes_back_or_is_refused_by_name(tmp_path):
    path = tmp_path / "m"
    odd = {"loss_at_step": {100: 0.5, 500: 0.3}, "n": np.int64(3), "x": torch.tensor(0.5), "pair": (1, 2)}
    save(path, MLP(width=8), **odd)
    metadata = load(path, "cpu")[1]
    assert metadata["loss_at_step"] == {"100": 0.5, "500": 0.3}
    assert (metadata["n"], metadata["x"], metadata["pair"]) == (3, 0.5, [1, 2])
    before = path.read_bytes()
    for name, value in (("frechet", float("nan")), ("net", nn.Linear(1, 1)), ("many", np.zeros(3)), ("s", {1, 2})):
        with pytest.raises(TypeError, match=f"^{name}: expected what JSON can say"):
            save(path, MLP(width=8), **{name: value})
    assert path.read_bytes() == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_model_of_any_precision_comes_back(tmp_path, dtype):
    model = mlp().to(dtype)
    save(tmp_path / "m", model)
    loaded, _ = load(tmp_path / "m", "cpu")
    for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_a_training_in_float64_resumes(tmp_path):
    def run(steps):
        return train(mlp().double(), POINTS.double(), 4, batch=8, checkpoint=tmp_path / "work", checkpoint_every=2)

    steps = run(4)
    next(steps), next(steps)
    steps.close()
    assert [s.step for s in run(4)] == [3, 4]


def test_a_model_that_is_not_the_one_described_is_refused_before_the_file_is_touched(tmp_path):
    model = mlp()
    model.net.proj_out = nn.Linear(8, 5)
    with pytest.raises(ValueError, match=r"^model: load could not build it again, 'net.proj_out.bias' is .*\(5,\)"):
        save(tmp_path / "m", model)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_default_type_of_torch_does_not_damage_a_file(tmp_path, dtype):
    save(tmp_path / "m", mlp())
    torch.set_default_dtype(dtype)
    try:
        model, _ = load(tmp_path / "m", "cpu")
        noise = sampling.initial_noise(Cosine(), (3, 2), 0)
        x = final_sample(ddim(model, Cosine(), noise, Cosine().timesteps(4)))
        losses = [step.loss for step in train(mlp_float32(), POINTS, 3, batch=8, device="cpu")]
    finally:
        torch.set_default_dtype(torch.float32)
    assert x.dtype == torch.float32
    assert torch.equal(x, final_sample(ddim(model, Cosine(), sampling.initial_noise(Cosine(), (3, 2), 0),
                                            Cosine().timesteps(4))))  # fmt: skip
    assert losses == [step.loss for step in train(mlp(), POINTS, 3, batch=8, device="cpu")]


def mlp_float32() -> Denoiser:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return mlp()
    finally:
        torch.set_default_dtype(before)


def test_heun_and_gradients_do_the_same_in_inference_mode():
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    model, schedule = mlp(), Cosine()
    with torch.no_grad():
        nn.init.normal_(model.net.proj_out.weight)

    def draw():
        steered = guidance.classifier_guidance(model, lambda x, t: -x.square().sum(1), schedule, 1.0)
        return [
            final_sample(f(d, schedule, noise, schedule.timesteps(4))) for f in (heun, ddim) for d in (model, steered)
        ]

    with torch.no_grad():
        expected = draw()
    with torch.inference_mode():
        for a, b in zip(draw(), expected, strict=True):
            assert torch.equal(a, b)


# training: what it is given, and what it leaves


def test_a_file_that_cannot_be_written_is_refused_before_the_first_step(tmp_path):
    for path, words in ((tmp_path, "a file, got the folder"), (tmp_path / ("n" * 245), "cannot be written")):
        with pytest.raises((ValueError, OSError), match=f"checkpoint: .*{words}"):
            next(train(mlp(), POINTS, 3, batch=8, checkpoint=path, resume=False))


def test_frozen_layers_train_save_and_resume(tmp_path):
    def run():
        torch.manual_seed(0)
        model = Denoiser(UNet(widths=(8, 8)), Cosine(), "v")
        model.net.conv_in.requires_grad_(False)
        model.net.embedding.requires_grad_(False)
        return model, train(model, PICTURES, 4, batch=8, device="cpu", checkpoint=tmp_path / "w", checkpoint_every=2)

    model, steps = run()
    frozen = model.net.conv_in.weight.clone()
    next(steps), next(steps)
    steps.close()
    model, steps = run()
    assert [s.step for s in steps] == [3, 4]
    assert torch.equal(model.net.conv_in.weight, frozen)


def test_a_kept_step_says_that_it_is_live_and_a_copy_is_not():
    steps = train(mlp(), POINTS, 3, batch=8, device="cpu")
    first = next(steps)
    kept, weight = first.copy(), first.model.net.proj_out.weight.clone()
    *_, last = steps
    assert first.model is last.model
    assert torch.equal(kept.model.net.proj_out.weight, weight)
    assert not torch.equal(last.model.net.proj_out.weight, weight)
    assert "hold" in type(first).__doc__


def test_data_with_a_graph_is_trained_on():
    latents = nn.Linear(4, 2)(torch.randn(64, 4))
    assert len(list(train(mlp(), latents, 3, batch=8, device="cpu"))) == 3


def test_pictures_from_0_to_1_get_a_warning_that_names_totensor():
    model = Denoiser(UNet(widths=(8, 8)), Cosine(), "v")
    with pytest.warns(UserWarning, match="ToTensor"):
        train(model, (PICTURES + 1) / 2, 2, batch=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, PICTURES, 2, batch=8)
        train(mlp(), POINTS.abs(), 2, batch=8)  # points may be anywhere


def test_floats_from_0_to_255_are_refused_and_pictures_beyond_1_are_not():
    with pytest.raises(ValueError, match=r"images: expected floats in \[-1, 1\], got values from 0 to 255"):
        to_uint8(torch.linspace(0, 255, 64).reshape(1, 1, 8, 8))
    assert to_uint8(30 * PICTURES).shape == (32, 8, 8, 3)  # a sampler on its way, or a fault on show
    assert to_uint8(torch.full((1, 1, 2, 2), 1.2)).max() == 255


# numbers, shapes and types


@pytest.mark.parametrize("number", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whatever_is_a_whole_number_is_one(number):
    validation.positive_int("n", number)
    assert len(Cosine().timesteps(int(number))) == 4


@pytest.mark.parametrize("number", [True, 3.0, np.float32(3), "3", None, torch.tensor(3.0), torch.ones(2), 0, -1])
def test_whatever_is_none_is_refused(number):
    with pytest.raises(ValueError, match="^n: expected a whole number of at least 1, got"):
        validation.positive_int("n", number)


def test_a_strength_is_any_number_from_0_to_1():
    ts = Cosine().timesteps(10)
    for strength in (0.5, np.float32(0.5), torch.tensor(0.5)):
        assert len(truncate(ts, strength)) == 6
    for strength in ("0.5", 0, float("nan")):
        with pytest.raises(ValueError, match="^strength: "):
            truncate(ts, strength)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_whole_type_give_the_same(dtype):
    labels = torch.arange(32) % 3

    def run(y):
        torch.manual_seed(0)
        model = Denoiser(UNet(widths=(8, 8), classes=3), Cosine(), "v")
        return [s.loss for s in train(model, PICTURES, 3, labels=y, batch=8, cond_drop=0.5, device="cpu", bf16=False)]

    assert run(labels.to(dtype)) == run(labels)


BY_LABEL = Denoiser(UNet(widths=(8, 8), classes=10), Cosine(), "v")
NOISE = torch.zeros(2, 1, 8, 8)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: sampling.sample(BY_LABEL, (2, 1, 8, 8), [1, 2]), "^y: expected a tensor of conditions.*list"),
        (lambda: sampling.sample(BY_LABEL, (2, 1, 8, 8), np.arange(2)), "^y: expected a tensor.*ndarray"),
        (
            lambda: sampling.sample(BY_LABEL, (2, 1, 8, 8), torch.tensor(3)),
            r"^y: expected .*each of 2 pictures, got \(\)",
        ),
        (lambda: sampling.sample(BY_LABEL, (100, 1, 8, 8), torch.zeros(64).long()), "^y: .*each of 100 pictures"),
        (lambda: sampling.sample((BY_LABEL, {}), (2, 1, 8, 8)), r"^model: .*load gives \(model, metadata\)"),
        (lambda: guidance.cfg(BY_LABEL, [3, 3], 2.0), "^y: expected a tensor of conditions"),
        (lambda: guidance.cfg(BY_LABEL, 3, 2.0), "^y: expected a tensor of conditions"),
        (lambda: guidance.cfg(BY_LABEL, None, 2.0), "^y: expected a tensor of conditions"),
        (lambda: BY_LABEL(NOISE, 0.5, [1, 2]), "^y: expected a tensor or None, got list"),
        (lambda: BY_LABEL(NOISE, 0.5, torch.tensor(1)), "^y: expected one condition for each of the 2 rows"),
        (lambda: BY_LABEL(NOISE, 0.5, torch.tensor([True, False])), "^y: expected numbers, got torch.bool"),
        (lambda: BY_LABEL(NOISE, 0.5, torch.ones(2).long(), [True, False]), "^cond_mask: expected a tensor"),
        (lambda: loss(BY_LABEL, NOISE, torch.full((2,), 0.5), torch.ones(3).long()), "^y: expected one condition"),
        (lambda: loss(BY_LABEL, NOISE, torch.full((2,), 0.5), torch.ones(2)), "^cond: expected 2 whole-number labels"),
    ],
)
def test_conditions_that_do_not_fit_are_refused_by_name(act, words):
    with pytest.raises((TypeError, ValueError), match=words):
        act()


@pytest.mark.parametrize("widths", [(10, 20), (4, 8), (12, 24), (20, 40), (50, 100), (7, 9), (8,)])
def test_a_unet_takes_any_widths(widths):
    net = UNet(widths=widths, words=["cat"])
    x = torch.randn(2, 1, 8, 8)
    assert net(x, torch.zeros(2), net.text.tokenise(["cat", "cat"])).shape == x.shape


@pytest.mark.parametrize("widths", [32, (), (8, 0), (8.0, 16), "32"])
def test_other_widths_are_refused_by_name(widths):
    with pytest.raises(ValueError, match="^widths: expected whole numbers"):
        UNet(widths=widths)


def test_a_network_whose_answer_has_another_shape_is_refused():
    class Grey(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 1, 3, padding=1)

        def forward(self, x, logsnr, cond=None):
            return self.layer(x)

    steps = train(Denoiser(Grey(), Cosine(), "v"), torch.rand(16, 3, 8, 8) * 2 - 1, 3, batch=4, device="cpu")
    with pytest.raises(ValueError, match=r"^net: expected .* of x, \(4, 3, 8, 8\), got \(4, 1, 8, 8\)"):
        next(steps)


# the reason named is the reason


def png(depth: int, rows: bytes, extra: bytes = b"", colour: int = 2) -> bytes:
    head = struct.pack(">2I5B", 8, 8, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, content: bytes, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content) ^ wrong)


RED = (b"\0" + bytes([200, 30, 30]) * 8) * 8


def test_a_png_with_long_or_damaged_comments_is_read(tmp_path):
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("workflow", "x" * 2_000_000, zip=True)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(file, "PNG", pnginfo=info)
    (tmp_path / "a.png").write_bytes(file.getvalue())
    (tmp_path / "b.png").write_bytes(png(8, RED, chunk(b"tEXt", b"Comment\0hello", wrong=1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        colours = (image_folder(tmp_path, 8)[:, :, 4, 4] + 1) * 127.5
    assert colours.round().tolist() == [[200, 30, 30]] * 2


def test_a_damaged_picture_is_still_refused(tmp_path):
    good = png(8, RED)
    (tmp_path / "a.png").write_bytes(good[:60] + bytes([good[60] ^ 1]) + good[61:])
    (tmp_path / "b.png").write_bytes(good[:55])
    with pytest.raises(ValueError, match="none"):
        image_folder(tmp_path, 8)


def test_a_transparent_level_of_16_bits_is_white(tmp_path):
    rows = (b"\0" + struct.pack(">H", 1000) * 4 + struct.pack(">H", 30000) * 4) * 8
    (tmp_path / "a.png").write_bytes(png(16, rows, chunk(b"tRNS", struct.pack(">H", 1000)), colour=0))
    picture = (image_folder(tmp_path, 8)[0, 0] + 1) * 127.5
    assert picture[4].round().tolist() == [255] * 4 + [30000 >> 8] * 4


def test_folders_in_a_folder_are_named(tmp_path):
    for kind in ("cats", "dogs"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.png").write_bytes(png(8, RED))
    with pytest.raises(ValueError, match="'cats' .a folder: pass its own path"):
        image_folder(tmp_path, 8)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"}, "certificate"),
        ({"HTTPS_PROXY": "socks5://127.0.0.1:1080"}, "SOCKS"),
        ({"HTTPS_PROXY": "http://prox..y:8080"}, "prox..y"),
    ],
)
def test_a_download_names_a_proxy_or_certificate_that_is_wrong(tmp_path, monkeypatch, setting, reason):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match=reason) as caught:
        download.fetch(tmp_path / "x.gz", ["https://127.0.0.1:9/x.gz"], "0" * 64, timeout=2, progress=False)
    assert "wrong SHA-256" not in str(caught.value)


def test_an_emoji_in_a_prompt_is_named():
    model = Denoiser(UNet(words=["a", "cat"]), Cosine(), "v")
    with pytest.raises(ValueError, match="never learned '🐱'"):
        sampling.condition(model, 1, "a 🐱")
    assert sampling.condition(model, 1, "A cat!").tolist()[0][:3] == [1, 2, 0]


def test_a_cell_with_a_control_may_be_run_again():
    import ipywidgets

    from learn_diffusion.widgets import Interactive

    shared, calls = ipywidgets.Text("a"), []

    def run_cell():
        def draw(mask):
            calls.append(mask)
            return torch.zeros(1, 1, 8, 8)

        return Interactive(draw, alt="x", mask=shared)

    views = [run_cell() for _ in range(3)]
    calls.clear()
    shared.value = "b"
    assert calls == ["b"]
    assert len(views) == 3


def test_the_header_of_a_file_is_json_and_says_what_was_saved(tmp_path):
    save(tmp_path / "m", mlp(), note="µ")
    content = (tmp_path / "m").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"][checkpoints.KEY])["about"]["note"] == "µ"


def test_the_device_of_all_that_asks_for_none(monkeypatch):
    monkeypatch.delenv(devices.DEVICE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.resolve_device() == torch.device("cuda")
    monkeypatch.setenv(devices.DEVICE, "cpu")
    assert devices.resolve_device() == torch.device("cpu")
    assert devices.resolve_device("cuda") == torch.device("cuda")  # an argument goes first
    monkeypatch.setenv(devices.DEVICE, "tpu")
    with pytest.raises(ValueError, match="^device: expected"):
        devices.resolve_device()


# numbers of numpy and torch in what describes a model


@pytest.mark.parametrize(
    "build",
    [
        lambda: Denoiser(MLP(width=8), EDM(sigma_data=torch.tensor(0.25)), "edm"),
        lambda: Denoiser(MLP(width=np.int64(8)), DDPM(T=np.int64(50)), "eps"),
        lambda: Denoiser(UNet(widths=np.array([8, 8]), blocks=np.int64(1)), Cosine(), "v"),
        lambda: Denoiser(UNet(widths=(8, 8), classes=torch.arange(3).max() + 1), Cosine(), "v"),
        lambda: Denoiser(UNet(widths=(8, 8), words=(word for word in ("a", "cat"))), Cosine(), "v"),
    ],
)
def test_a_model_described_by_numbers_of_numpy_or_torch_comes_back(tmp_path, build):
    model = build()
    save(tmp_path / "m", model)
    assert checkpoints.describe(load(tmp_path / "m", "cpu")[0]) == checkpoints.describe(model)


def test_classes_of_ones_own_are_not_taken_for_ours_of_the_same_name(tmp_path):
    own_schedule = type("Cosine", (Schedule,), {"alpha": lambda _, t: 1 - t, "sigma": lambda _, t: t})()
    own_net = type("MLP", (nn.Linear,), {})(2, 2)
    for model, words in (
        (Denoiser(own_net, Cosine(), "v"), "model: expected a Denoiser or one of UNet"),
        (Denoiser(MLP(width=8), own_schedule, "v"), "model: its schedule .* is not registered"),
    ):
        with pytest.raises(TypeError, match=words):
            save(tmp_path / "m", model)


def test_weights_and_state_that_share_memory_are_saved(tmp_path):
    net = MLP(dim=8, width=8)
    net.proj_out.weight = net.proj_in.weight
    rows = torch.randn(4, 4)
    save(tmp_path / "m", net, state={"a": rows, "b": rows[:2], "step": 3})
    loaded, state, _ = checkpoints.read(tmp_path / "m")
    assert torch.equal(loaded.proj_out.weight, net.proj_in.weight)
    assert torch.equal(state["b"], rows[:2])
    assert state["step"] == 3


def test_keys_that_json_would_merge_are_refused(tmp_path):
    with pytest.raises(TypeError, match="^scores: .*two keys read alike"):
        save(tmp_path / "m", mlp(), scores={1: "a", "1": "b"})


def test_a_folder_is_no_place_to_save_to(tmp_path):
    for path in ("", tmp_path):
        with pytest.raises(OSError, match="expected the name of a file, got a folder"):
            save(path, mlp())


# torch's modes and defaults


def test_weights_of_inference_mode_are_refused_and_loaded_ones_are_none(tmp_path):
    save(tmp_path / "m", mlp())
    with torch.inference_mode():
        made, (loaded, _) = mlp(), load(tmp_path / "m", "cpu")
    with pytest.raises(ValueError, match=r"^model: expected weights that can be trained.*inference_mode"):
        train(made, POINTS, 2, batch=8)
    assert len(list(train(loaded, POINTS, 2, batch=8, device="cpu"))) == 2


@pytest.mark.parametrize("f", [toy2d.gaussians, toy2d.lattice, toy2d.moons, toy2d.spiral, advection.draw_settings])
def test_data_sets_are_the_same_under_another_default_type(f):
    def points():
        out = f(5)
        return out[0] if isinstance(out, tuple) else out

    expected = points()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(points(), expected)
        assert points().dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("schedule", [DDPM(), VP(), Cosine(), EDM(), Flow()], ids=lambda s: type(s).__name__)
def test_another_default_device_moves_nothing(tmp_path, schedule):
    """With "meta", any tensor that was put there by default would have no values."""
    model = Denoiser(MLP(width=8), schedule, "v")
    net = Denoiser(UNet(widths=(8, 8)), schedule, "v")
    save(tmp_path / "m", model)
    noise = torch.randn(4, 2)
    torch.set_default_device("meta")
    try:
        for sampler in SAMPLERS.values():
            assert final_sample(sampler(model, schedule, noise, schedule.timesteps(3))).isfinite().all()
        assert sampling.sample(net, (1, 1, 8, 8), steps=2).isfinite().all()
        assert len(list(train(load(tmp_path / "m", "cpu")[0], POINTS, 2, batch=8, device="cpu"))) == 2
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("schedule", [DDPM(), VP(), Cosine(), EDM(), Flow()], ids=lambda s: type(s).__name__)
def test_the_number_of_a_step_is_no_level(schedule):
    for t in (700, 700.0, torch.full((64,), 700.0), -0.5, float("nan")):
        with pytest.raises(ValueError, match=r"^t: expected noise levels in \[0, (1|80)\], got"):
            schedule.at(t, POINTS)
    with pytest.raises(ValueError, match=r"^t: expected shape \(\) or \(64,\), got \(3,\)"):
        schedule.at(torch.full((3,), 0.5), POINTS)


def test_a_row_of_the_table_is_no_level():
    for f in (DDPM().alpha, DDPM().sigma, DDPM().logsnr):
        with pytest.raises(ValueError, match=r"^t: expected noise levels in \[0, 1\], got 700"):
            f(torch.tensor(700.0))


# more acts of training


def test_a_resume_compares_which_weights_are_trained(tmp_path):
    def run(*frozen):
        model = mlp()
        for name in frozen:
            model.get_submodule(name).requires_grad_(False)
        return train(model, POINTS, 4, batch=8, device="cpu", checkpoint=tmp_path / "w", checkpoint_every=2)

    steps = run("net.proj_in")
    next(steps), next(steps)
    steps.close()
    for frozen in ((), ("net.proj_out",)):
        with pytest.raises(ValueError, match="differs in frozen"):
            next(run(*frozen))
    assert [s.step for s in run("net.proj_in")] == [3, 4]


def test_a_loop_that_is_left_leaves_a_model_to_sample_from():
    for step in train(mlp(), POINTS, 9, batch=8, device="cpu"):
        model = step.model
        break
    assert not model.training


def test_numbers_of_numpy_and_torch_train_save_and_resume(tmp_path):
    def run():
        return [
            s.step
            for s in train(
                mlp(), POINTS, torch.tensor(3), batch=np.int64(8), lr=np.float32(1e-3), seed=np.int64(2),
                cond_drop=torch.tensor(0.1), device="cpu", checkpoint=tmp_path / "w",
            )
        ]  # fmt: skip

    assert (run(), run()) == ([1, 2, 3], [3])


class Answers(nn.Module):
    """A network of one's own that answers in its own way."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(2, 2), how

    def forward(self, x, logsnr, cond=None):
        return self.how(self.layer(x))


ONE_CLASS = Denoiser(UNet(widths=(8, 8), classes=1), Cosine(), "v")
HINTED = Denoiser(UNet(widths=(8, 8), cond_channels=1), Cosine(), "v")
DENOISE = mlp()
LEVELS = Cosine().timesteps(2)


def own(how):
    return next(train(Denoiser(Answers(how), Cosine(), "v"), POINTS, 2, batch=8, device="cpu"))


def hinted(model, image_cond):
    return next(train(model, PICTURES, 2, image_cond=image_cond, batch=4, device="cpu"))


def tried(**arguments):
    return train(mlp(), POINTS, 2, batch=8, **arguments)


BLOBS = GaussianMixture(torch.eye(2), torch.full((2,), 0.5), torch.arange(2), 0.1, Cosine())


def mixture(**other):
    return replace(BLOBS, **other)


def captioned(labels):
    model = Denoiser(UNet(widths=(8, 8), attentions=1, words=["a", "cat"]), Cosine(), "v")
    return train(model, PICTURES, 2, labels=labels, batch=8)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: own(lambda out: (out,)), "^net: expected a tensor of the shape of x.*got tuple"),
        (lambda: own(lambda out: {"sample": out}), "^net: expected a tensor.*got dict"),
        (lambda: own(torch.Tensor.detach), "^model: expected an answer that torch can differentiate"),
        (lambda: hinted(BY_LABEL, PICTURES), "^image_cond: expected 0 channels.*got 1"),
        (lambda: hinted(HINTED, None), "^image_cond: expected 1 channels.*got 0"),
        (lambda: hinted(HINTED, (PICTURES * 100 + 100).byte()), "^image_cond: expected a float tensor"),
        (lambda: tried(labels=torch.arange(64) > 3), "^labels: expected 64 whole numbers.*bool"),
        (lambda: tried(lr="1e-3"), "^lr: expected one finite number, got '1e-3'"),
        (lambda: tried(cond_drop="0.1"), "^cond_drop: expected one finite number"),
        (lambda: tried(halflife="10"), "^halflife: expected one finite number"),
        (lambda: tried(seed=1.5), "^seed: expected a whole number"),
        (lambda: tried(bf16="no"), "^bf16: expected one of None, True, False"),
        (lambda: ddim(DENOISE, Cosine(), POINTS, LEVELS, eta="1"), "^eta: expected one finite number"),
        (lambda: guidance.clip_x0(DENOISE, Cosine(), "a", "b"), "^lo, hi: expected lo < hi"),
        (lambda: guidance.guidance_interval(DENOISE, DENOISE, Cosine(), None, 3.0), "^lo, hi: expected log-SNR"),
        (lambda: editing.pigdm(DENOISE, Cosine(), POINTS, POINTS > 0, noise="0"), "^noise: expected one finite"),
        (lambda: DENOISE(POINTS, None), "^t: expected a noise level.*None"),
        (lambda: DENOISE(POINTS, True), "^t: expected a noise level.*True"),
        (lambda: sampling.condition(BY_LABEL, 2, label=3.0), "^label: expected a whole number from 0 to 9, got 3.0"),
        (lambda: sampling.condition(BY_LABEL, 2, label=True), "^label: expected a whole number from 0 to 9"),
        (lambda: sampling.condition(BY_LABEL, -1, label=3), "^n: expected a whole number"),
        (lambda: sampling.sample(BY_LABEL, 8), r"^shape: expected \(n, C, H, W\), got int"),
        (lambda: sampling.sample(BY_LABEL, NOISE), r"^shape: expected \(n, C, H, W\), got Tensor"),
        (lambda: sampling.sample(BY_LABEL, (2, 1, 8, 8), seed=None), "^seed: expected a whole number"),
        (
            lambda: sampling.sample(BY_LABEL, (1, 1, 8, 8), torch.tensor([99])),
            "^y: expected numbers from 0 to 9, got 99",
        ),
        (
            lambda: sampling.sample(ONE_CLASS, (1, 1, 8, 8), torch.tensor([5])),
            "^y: expected numbers from 0 to 0, got 5",
        ),
        (lambda: captioned(torch.full((32, 16), 7)), "^labels: expected numbers from -1 to 2, got 7 to 7"),
        (lambda: welch([1.0, 2.0], [3.0, 4.0], alpha=5), "^alpha: expected a probability between 0 and 1, got 5"),
        (lambda: texture_distance(PICTURES, PICTURES, redraws=1), "^redraws: expected a whole number of at least 2"),
        (lambda: to_scheduler(Cosine(), "eps"), "^target: 'eps' does not determine the picture at t = 1"),
        (lambda: BLOBS(POINTS[:3, :2], 0.5, torch.tensor([0, 1, 7])), r"^y: expected classes among \[0, 1\]"),
        (lambda: BLOBS.log_density(POINTS[:3, :2], torch.tensor(0.5), 7), r"^y: expected classes among \[0, 1\]"),
        (lambda: mixture(share=torch.tensor([torch.nan, 1.0])), "^share: expected 2 shares that add up to 1"),
        (lambda: mixture(centres=torch.full((2, 2), torch.nan)), "^centres: "),
        (lambda: elbo(mixture(schedule=EDM()), EDM(), POINTS[:, :2], torch.tensor([0.1, 80.0])), "^schedule: expected"),
        (lambda: nearest_original(PICTURES * torch.nan, PICTURES), "^pictures: "),
        (lambda: eval_data("digit"), "^name: expected one of 'digits', 'scenes'"),
        (lambda: PrincipalAxes.of(PICTURES, 0), "^k: expected a whole number"),
        (lambda: PrincipalAxes.of(PICTURES, 65), "^k: expected a whole number"),
        (lambda: devices.resolve_device(0), "^device: expected"),
        (lambda: UNet(channels=0), "^channels: expected a whole number of at least 1"),
        (lambda: UNet(classes=1.5), "^classes: expected a whole number of at least 0"),
        (lambda: UNet(patch_size=0), "^patch_size: expected a whole number of at least 1"),
        (lambda: UNet(words="cat"), "^words: expected strings, got 'cat'"),
        (lambda: MLP(dim=2.0), "^dim: expected a whole number of at least 1"),
        (lambda: MLP(blocks=-1), "^blocks: expected a whole number of at least 0"),
        (lambda: psnr(PICTURES[0], PICTURES[0]), "^pictures: expected 4 dimensions"),
        (lambda: psnr(PICTURES.byte(), PICTURES.byte()), "^pictures: expected a float tensor"),
        (lambda: metrics.nn_distance_ratio(POINTS + 1, POINTS, POINTS), "^held_out: .*got copies"),
        (lambda: metrics.nn_distance_ratio(POINTS, torch.ones(9, 3), POINTS), "^samples: expected rows of the shape"),
        (lambda: metrics.precision_recall(POINTS, POINTS, k=0), "^k: expected a whole number of at least 1"),
        (lambda: metrics.density_coverage(POINTS, POINTS, k=2.5), "^k: expected a whole number of at least 1"),
        (lambda: within_class_distance(POINTS, [0] * 64), "^labels: expected a tensor, got list"),
        (lambda: mean_and_error("ab"), "^values: expected numbers, got 'ab'"),
    ],
)
def test_more_acts_are_refused_by_name(monkeypatch, act, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises((TypeError, ValueError), match=words):
        act()


def test_metrics_of_mixed_and_half_precision():
    shifted = POINTS + 1
    assert metrics.nn_distance_ratio(shifted, POINTS.double(), POINTS * 2) == pytest.approx(
        metrics.nn_distance_ratio(shifted, POINTS, POINTS * 2), rel=1e-4
    )
    labels = torch.arange(64) % 2
    assert within_class_distance(POINTS.half(), labels) == pytest.approx(
        within_class_distance(POINTS, labels), rel=1e-2
    )


def test_any_width_of_text_works():
    net = UNet(widths=(8, 8), words=["a"], text=10)
    assert net(NOISE, torch.zeros(2), net.text.tokenise(["a", "a"])).shape == NOISE.shape


def test_a_brush_is_any_whole_number():
    pytest.importorskip("ipywidgets")
    assert PaintedMask(NOISE[0], alt="nothing", brush=np.int64(3)).brush == 3


# more pictures and prompts


def test_parts_of_a_png_that_are_not_looked_at_may_be_damaged(tmp_path):
    gamma = struct.pack(">I", 45455)
    (tmp_path / "a.png").write_bytes(png(8, RED, chunk(b"gAMA", gamma, wrong=1)))
    (tmp_path / "b.png").write_bytes(png(8, RED, chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(3_000_000)))))
    (tmp_path / "c.png").write_bytes(png(8, RED, chunk(b"eXIf", b"no EXIF")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        colours = (image_folder(tmp_path, 8)[:, :, 4, 4] + 1) * 127.5
    assert colours.round().tolist() == [[200, 30, 30]] * 3


def test_letters_written_in_another_way_are_the_same_letters():
    tokenise = Tokeniser(["cat", "café"], length=4)
    assert tokenise(["ｃａｔ cafe\u0301"]).tolist() == tokenise(["cat café"]).tolist()  # noqa: RUF001


def test_states_that_ran_to_their_end_say_so():
    states = ddim(DENOISE, Cosine(), POINTS, LEVELS)
    final_sample(states)
    with pytest.raises(ValueError, match="one that ran to its end has none left"):
        final_sample(states)


def test_the_average_carries_the_statistics_of_a_network():
    class Normed(Answers):
        def __init__(self):
            super().__init__(nn.BatchNorm1d(2))

    *_, last = train(Denoiser(Normed(), Cosine(), "v"), POINTS, 3, batch=8, device="cpu")
    assert last.ema.net.how.num_batches_tracked == 3
    assert torch.equal(last.ema.net.how.running_mean, last.model.net.how.running_mean)


def test_advice_quotes_a_path_with_a_space(monkeypatch):
    from importlib import reload

    from learn_diffusion import doctor

    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/my course/.venv/bin/python")
        assert reload(doctor).INSTALL.startswith("'/my course/.venv/bin/python' -m pip")
    reload(doctor)
