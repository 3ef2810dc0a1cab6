"""Adapters: what is added starts as nothing, can be switched off and merged, and reads its own files again."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from learn_diffusion import adapters
from learn_diffusion.denoiser import Denoiser, with_image_cond
from learn_diffusion.guidance import cfg
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

WORDS = ["a", "blue", "cat"]


def unet(**more) -> UNet:
    """A small network that answers something: its last layer starts at zero otherwise."""
    torch.manual_seed(0)
    net = UNet(channels=1, widths=(8, 16), patch_size=2, **more).eval()
    for w in net.parameters():
        nn.init.normal_(w, std=0.2)
    return net


def asked(net, channels=1):
    g = torch.Generator().manual_seed(1)
    return net(torch.randn(3, channels, 8, 8, generator=g), torch.linspace(-2, 2, 3))


def moved(net):
    """With adapters that are no longer zero."""
    for lora in adapters.loras(net).values():
        nn.init.normal_(lora.lora_B.weight, std=0.2)
    return net


def test_a_new_adapter_changes_nothing_and_a_trained_one_can_be_switched_off():
    net = unet()
    before = asked(net)
    adapters.add_lora(net, rank=2)
    assert torch.equal(asked(net), before)
    assert (asked(moved(net)) - before).abs().max() > 0.01
    adapters.set_strength(net, 0.0)
    assert torch.equal(asked(net), before)


def test_only_the_adapter_is_trained():
    net = unet()
    adapters.add_lora(net, rank=2, targets=["conv1"])
    assert {name.rsplit(".", 2)[-2] for name, w in net.named_parameters() if w.requires_grad} == {"lora_A", "lora_B"}
    assert {name.rsplit(".", 1)[-1] for name in adapters.loras(net)} == {"conv1"}
    frozen = {name: w.clone() for name, w in net.named_parameters() if not w.requires_grad}
    x = torch.rand(8, 1, 8, 8) * 2 - 1
    for step in train(Denoiser(net, Cosine(), "x0"), x, 2, batch=4, device="cpu"):
        last = step
    now = dict(last.model.net.named_parameters())
    assert all(torch.equal(now[name], w) for name, w in frozen.items())
    assert all(lora.lora_B.weight.abs().max() > 0 for lora in adapters.loras(last.model.net).values())


@pytest.mark.parametrize(
    "layer", [nn.Linear(5, 7), nn.Conv2d(5, 7, 3, stride=2, padding=1), nn.Conv2d(5, 7, (1, 3), dilation=2, bias=False),
              nn.Conv2d(5, 7, 3, padding=1, padding_mode="circular")],
)  # fmt: skip
def test_merged_is_one_layer_with_the_same_answer(layer):
    lora = adapters.LoRA(layer, rank=2, alpha=6)
    nn.init.normal_(lora.lora_B.weight)
    lora.strength = 0.7
    x = torch.randn(4, 5) if isinstance(layer, nn.Linear) else torch.randn(4, 5, 9, 9)
    merged = lora.merged()
    assert type(merged) is type(layer)
    torch.testing.assert_close(merged(x), lora(x))
    torch.testing.assert_close(lora(x), layer(x) + 0.7 * 3 * lora.lora_B(lora.lora_A(x)))


def test_a_merged_network_is_a_plain_one():
    net = unet()
    adapters.add_lora(net, rank=2, alpha=1)
    after = asked(moved(net))
    adapters.merge_lora(net)
    torch.testing.assert_close(asked(net), after, atol=1e-4, rtol=1e-4)
    assert net.state_dict().keys() == unet().state_dict().keys()


def test_files_have_the_names_of_peft_and_come_back_the_same(tmp_path):
    net = unet()
    adapters.add_lora(net, rank=2, alpha=4, targets=["qkv", "conv1"])
    after = asked(moved(net))
    adapters.save_lora(tmp_path / "pen", net, base="digits")
    names = load_file(tmp_path / "pen" / "adapter_model.safetensors")
    assert names["base_model.model.down.0.conv1.lora_A.weight"].shape == (2, 8, 3, 3)
    assert names["base_model.model.down.0.conv1.lora_B.weight"].shape == (8, 2, 1, 1)
    config = json.loads((tmp_path / "pen" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 4)
    again = unet()
    adapters.load_lora(tmp_path / "pen", again)
    assert torch.equal(asked(again), after)


def test_adapters_of_another_network_are_refused_and_leave_it_as_it_was(tmp_path):
    net = unet()
    adapters.add_lora(net, rank=2)
    adapters.save_lora(tmp_path, net)
    other = UNet(channels=1, widths=(16, 16), patch_size=2).eval()
    other.down[0].conv1.weight.requires_grad_(False)
    before, layers = asked(other), [(name, w.requires_grad) for name, w in other.named_parameters()]
    with pytest.raises(ValueError, match="folder: expected adapters of this network"):
        adapters.load_lora(tmp_path, other)
    assert torch.equal(asked(other), before)
    assert [(name, w.requires_grad) for name, w in other.named_parameters()] == layers


def test_bad_arguments_are_named():
    net = unet()
    with pytest.raises(ValueError, match="targets: expected names of layers of UNet"):
        adapters.add_lora(net, 2, targets=["nowhere"])
    with pytest.raises(TypeError, match="targets: expected a list of names of layers, got 'conv1'"):
        adapters.add_lora(net, 2, targets="conv1")
    with pytest.raises(ValueError, match="rank: expected a whole number of at least 1, got 0"):
        adapters.add_lora(net, 0)
    assert all(w.requires_grad for w in net.parameters())
    with pytest.raises(ValueError, match="rank: expected a whole number of at least 1, got 0"):
        adapters.LoRA(nn.Linear(2, 2), 0)
    with pytest.raises(TypeError, match="layer: expected Linear, or Conv2d"):
        adapters.LoRA(nn.Conv2d(4, 4, 3, groups=2), 1)
    with pytest.raises(ValueError, match="net: expected a network with adapters"):
        adapters.set_strength(net, 1)
    adapters.add_lora(net, 2)
    with pytest.raises(ValueError, match="net: expected a network without adapters"):
        adapters.add_lora(net, 2)
    with pytest.raises(TypeError, match="net: expected a UNet without an image condition"):
        adapters.Controlled(unet(cond_channels=1))


@pytest.mark.parametrize("more", [{}, {"attentions": 2, "words": WORDS, "blocks": (1, 0)}])
def test_a_new_branch_changes_nothing_and_learns_while_the_base_stays(more):
    base = unet(**more)
    model = Denoiser(adapters.Controlled(copy.deepcopy(base)), Cosine(), "x0").eval()
    x, picture, t = torch.rand(8, 1, 8, 8) * 2 - 1, torch.rand(8, 1, 8, 8), torch.tensor(0.6)
    alone = Denoiser(base, Cosine(), "x0")
    y = base.text.tokenise(["a blue cat"] * 8) if more else None
    with torch.no_grad():
        assert torch.equal(model(x, t, y, image_cond=picture).x0, alone(x, t, y).x0)
        double = Denoiser(adapters.Controlled(copy.deepcopy(base).double()), Cosine(), "x0").eval()
        assert double(x.double(), t, y, image_cond=picture.double()).x0.dtype == torch.float64
        if more:
            guided = cfg(with_image_cond(model, picture), y, 2.0)(x, t)
            torch.testing.assert_close(guided.x0, cfg(alone, y, 2.0)(x, t).x0)
    for step in train(model, x, 2, image_cond=picture, batch=4, device="cpu"):
        last = step
    trained = last.model.eval()
    assert all(torch.equal(a, b) for a, b in zip(trained.net.net.parameters(), base.parameters(), strict=True))
    with torch.no_grad():
        assert not torch.equal(trained(x, t, image_cond=picture).x0, alone(x, t).x0)
        trained.net.strength = 0.0
        assert torch.equal(trained(x, t, image_cond=picture).x0, alone(x, t).x0)


def test_edges_are_where_neighbours_differ():
    x = torch.full((1, 3, 4, 4), -1.0)
    x[:, 1, 1:, 2:] = 1.0  # one channel of a corner
    found = adapters.edges(x)[0, 0]
    expected = torch.zeros(4, 4)
    expected[1:, 2] = 1
    expected[1, 2:] = 1
    assert torch.equal(found, expected)
    assert not adapters.edges(x, threshold=2.0).any()


def test_equal_edges_agree_and_others_do_not():
    g = torch.Generator().manual_seed(0)
    e = (torch.rand(40, 1, 16, 16, generator=g) > 0.8).float()
    torch.testing.assert_close(adapters.edge_likeness(e, e), torch.ones(40))
    torch.testing.assert_close(adapters.edge_likeness(e, 1 - e)[0].sign(), torch.tensor(-1.0))
    assert adapters.edge_likeness(e, e.roll(1, 0)).mean().abs() < 0.05
    near, far = adapters.edge_likeness(e, e.roll(1, 3)).mean(), adapters.edge_likeness(e, e.roll(5, 3)).mean()
    assert near > 0.5 > far
    assert adapters.edge_likeness(e, torch.zeros_like(e)).abs().max() == 0


def test_a_new_word_reads_as_the_one_it_is_like():
    net = unet(attentions=1, words=WORDS)
    x, level = torch.randn(2, 1, 8, 8), torch.zeros(2)
    before = net(x, level, net.text.tokenise(["a blue cat"] * 2))
    adapters.add_word(net, "momo", like="cat")
    assert torch.equal(net(x, level, net.text.tokenise(["a blue cat"] * 2)), before)
    assert torch.equal(net(x, level, net.text.tokenise(["a blue momo"] * 2)), before)
    assert net.config["words"] == [*WORDS, "momo"]
    net.text.token_embedding.weight[-1] += 1
    assert torch.equal(net(x, level, net.text.tokenise(["a blue cat"] * 2)), before)
    assert not torch.equal(net(x, level, net.text.tokenise(["a blue momo"] * 2)), before)
    with pytest.raises(ValueError, match="like: expected one of"):
        adapters.add_word(net, "zog", like="dog")
    with pytest.raises(ValueError, match="word: expected one new word"):
        adapters.add_word(net, "cat", like="blue")


def test_one_word_is_trained_alone_and_at_the_noisy_levels():
    net, seen = unet(attentions=1, words=WORDS), []
    net.requires_grad_(False)
    adapters.add_word(net, "momo", like="cat")
    table = net.text.token_embedding.weight.requires_grad_(True)
    only = torch.zeros_like(table)
    only[-1] = 1
    table.register_hook(lambda grad: grad * only)
    net.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    before = {name: w.clone() for name, w in net.named_parameters()}
    model = Denoiser(net, Cosine(), "v")
    y, x = net.text.tokenise(["a blue momo"] * 6), torch.rand(6, 1, 8, 8) * 2 - 1
    how = {"labels": y, "cond_drop": 0.0, "batch": 4, "lr": 0.1, "bf16": False, "device": "cpu"}
    list(train(model, x, 3, noisiest=0.5, optimizer="adamw", **how))
    after = dict(net.named_parameters())
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["text.token_embedding.weight"]
    moved = (table.detach() - before[changed[0]]).abs().amax(1)
    assert moved[-1] > 0
    assert not moved[:-1].any()
    assert torch.cat(seen).max() <= Cosine().logsnr(torch.tensor(0.5)) + 1e-4
    assert torch.cat(seen).shape == (12,)
    with pytest.raises(ValueError, match="noisiest: expected a share"):
        train(model, x, 1, noisiest=0.0, **how)
