"""Networks: shapes, labels, and that every part of them is used."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal as Gaussian
from torch.distributions import kl_divergence
from torch.testing import assert_close

from learn_diffusion.nets import MLP, VAE, Classifier, DiT, UNet
from learn_diffusion.nets.dit import DiTBlock, patchify, positions, unpatchify
from learn_diffusion.nets.unet import GroupNorm
from learn_diffusion.nets.vae import Normal


def randomised(net: torch.nn.Module) -> torch.nn.Module:
    """With all weights random: at the start many are zero, so that blocks begin as the identity."""
    torch.manual_seed(0)
    for w in net.parameters():
        torch.nn.init.normal_(w, std=0.2)
    return net


NETS = {
    "UNet": (lambda: UNet(widths=(8, 16), classes=3), (2, 1, 8, 8)),
    "UNet, three levels, colour": (lambda: UNet(channels=3, widths=(8, 8, 16), classes=3), (2, 3, 16, 12)),
    "UNet, unshuffled": (lambda: UNet(channels=3, widths=(8, 16), blocks=2, classes=3, patch_size=2), (2, 3, 16, 16)),
    "UNet, one level": (lambda: UNet(widths=(8,), classes=3), (2, 1, 5, 7)),
    "DiT": (lambda: DiT(width=16, depth=2, classes=3), (2, 1, 8, 12)),
    "DiT, whole pixels": (lambda: DiT(channels=3, width=12, depth=1, patch_size=1, classes=3), (2, 3, 5, 7)),
    "MLP": (lambda: MLP(dim=5, width=16, classes=3), (2, 5)),
}  # fmt: skip
each = pytest.mark.parametrize("name", NETS)


@each
def test_answers_in_the_shape_of_the_question(name):
    build, shape = NETS[name]
    assert build()(torch.randn(shape), torch.zeros(2)).shape == shape


@each
def test_every_weight_gets_a_gradient(name):
    build, shape = NETS[name]
    net = randomised(build())
    net(torch.randn(shape), torch.tensor([1.0, -3.0]), torch.tensor([0, 2])).square().sum().backward()
    for key, w in net.named_parameters():
        assert w.grad is not None, key
        assert w.grad.abs().sum() > 0, key


@each
def test_level_and_label_change_the_answer(name):
    build, shape = NETS[name]
    net, x = randomised(build()).eval(), torch.randn(shape)

    def ask(logsnr, label):
        with torch.no_grad():
            return net(x, torch.full((2,), logsnr), None if label is None else torch.full((2,), label))

    assert (ask(0.0, None) - ask(0.2, None)).abs().max() > 1e-3
    assert (ask(0.0, 0) - ask(0.0, 1)).abs().max() > 1e-3
    assert_close(ask(0.0, -1), ask(0.0, None))


@each
def test_pictures_of_a_batch_do_not_see_each_other(name):
    build, shape = NETS[name]
    net, x, logsnr = randomised(build()).eval(), torch.randn(shape), torch.tensor([1.0, -2.0])
    with torch.no_grad():
        assert_close(net(x, logsnr)[:1], net(x[:1], logsnr[:1]), atol=1e-3, rtol=1e-3)


def test_a_new_unet_answers_zero_and_is_told_nothing_of_diffusion():
    net = UNet()
    assert net(torch.randn(2, 1, 8, 8), torch.zeros(2)).abs().max() == 0
    assert not any(name in vars(net) for name in ("schedule", "target", "alpha", "sigma"))


def test_the_norm_of_bfloat16_is_that_of_float32_rounded():
    torch.manual_seed(0)
    norm, x = GroupNorm(32), torch.randn(4, 32, 8, 8).bfloat16().contiguous(memory_format=torch.channels_last)
    answer = norm(x.requires_grad_())
    assert_close(answer, norm(x.float()).bfloat16(), rtol=0, atol=0)
    assert answer.is_contiguous(memory_format=torch.channels_last)


def test_patches_are_tokens_row_by_row_and_come_back():
    x = torch.randn(2, 3, 8, 12)
    tokens = patchify(x, 4)
    assert tokens.shape == (2, 6, 48)
    assert torch.equal(tokens[:, 4], x[:, :, 4:8, 4:8].flatten(1))  # second row, second column
    assert torch.equal(unpatchify(tokens, 4, height=8), x)


def test_every_token_of_a_dit_has_a_place_of_its_own():
    codes = positions(16, 12, 32, torch.device("cpu"))
    assert codes.shape == (16 * 12, 32)
    assert (torch.cdist(codes, codes) + 9 * torch.eye(16 * 12)).min() > 0.3
    net, x = randomised(DiT(width=16, depth=1)).eval(), torch.zeros(1, 1, 4, 4)
    x[:, :, :2, :2] = 1.0  # one patch, at two places
    with torch.no_grad():
        here, there = net(x, torch.zeros(1)), net(x.flip(2, 3), torch.zeros(1))
    assert (here[:, :, :2, :2] - there[:, :, 2:, 2:]).abs().max() > 1e-3


def test_a_dit_starts_with_blocks_that_change_nothing_and_answers_zero():
    block, tokens = DiTBlock(16, c_words=6), torch.randn(2, 5, 16)
    assert torch.equal(block(tokens, torch.randn(2, 16), torch.randn(2, 3, 6)), tokens)
    assert DiT(width=16, words=["a"])(torch.randn(2, 1, 8, 8), torch.zeros(2)).abs().max() == 0


def test_a_dit_reads_captions_and_an_image_condition():
    net = randomised(DiT(channels=2, width=16, depth=2, words=["a", "cat"], text=8, cond_channels=1))
    x, tokens = torch.randn(2, 3, 4, 4), net.text.tokenise(["a cat", "a"])
    out = net(x, torch.zeros(2), tokens)
    assert out.shape == (2, 2, 4, 4)
    assert (out - net(x, torch.zeros(2))).abs().max() > 1e-3
    out.square().sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in net.parameters())


def test_a_vae_halves_the_side_twice_and_brings_codes_to_unit_strength():
    vae, x = randomised(VAE(widths=(8, 16))).eval(), torch.rand(20, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        code, (again, _) = vae.encode(x), vae(x)
        assert code.mean.shape == code.logvar.shape == (20, 4, 4, 6)
        assert again.shape == x.shape
        noise, decoded = (code.logvar / 2).exp() / code.mean.std(), vae.decode(code.mean)
        vae.standardise(x)
        after = vae.encode(x)
        assert_close(after.mean.std(), torch.tensor(1.0))
        assert_close((after.logvar / 2).exp(), noise)  # noise and decoder know of the new unit too
        assert_close(vae.decode(after.mean), decoded, atol=1e-4, rtol=1e-4)


def test_a_code_is_drawn_as_it_says_and_costs_what_it_says():
    code = Normal(torch.full((1, 1, 100, 100), 0.5), torch.full((1, 1, 100, 100), -1.0))
    drawn, g = code.sample(torch.Generator().manual_seed(0)), torch.Generator().manual_seed(0)
    assert torch.equal(drawn, code.sample(g))
    assert_close(drawn.mean(), torch.tensor(0.5), atol=0.02, rtol=0)
    assert_close(drawn.var(), torch.tensor(-1.0).exp(), atol=0.02, rtol=0)
    said = kl_divergence(Gaussian(0.5, torch.tensor(-0.5).exp()), Gaussian(0.0, 1.0))
    assert_close(code.kl(), said.expand(1, 1, 100, 100))


def test_every_weight_of_a_vae_gets_a_gradient():
    vae = randomised(VAE(widths=(8, 16)))
    again, code = vae(torch.randn(2, 3, 8, 8), torch.Generator().manual_seed(0))
    (again.square().mean() + code.kl().mean()).backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in vae.parameters())


def test_unshuffle_makes_a_large_picture_cost_what_a_small_one_costs():
    plain, folded = UNet(channels=3), UNet(channels=3, patch_size=2)
    shapes = []
    folded.down[0].register_forward_hook(lambda module, args, out: shapes.append(args[0].shape))
    plain.down[0].register_forward_hook(lambda module, args, out: shapes.append(args[0].shape))
    folded(torch.randn(1, 3, 32, 32), torch.zeros(1))
    plain(torch.randn(1, 3, 16, 16), torch.zeros(1))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("side", "pools"), [(8, 1), (14, 1), (28, 2), (28, 1)])
def test_a_classifier_halves_the_side_as_often_as_asked(side, pools):
    net, x = Classifier(side=side, pools=pools), torch.randn(3, 1, side, side)
    assert net(x).shape == (3, 10)
    assert net.features(x).shape == (3, 64)
    assert net.layers[-1].in_features == 64 * (side // 2**pools) ** 2


def test_classifier_features_are_in_units_of_their_standard_deviation():
    torch.manual_seed(0)
    net, x = Classifier(), torch.randn(200, 1, 8, 8)
    net.calibrate(x)
    with torch.no_grad():
        features = net.features(x)
    assert net(x).shape == (200, 10)
    assert_close(features.mean(0), torch.zeros(64), atol=1e-4, rtol=0)
    assert_close(features.std(0), torch.ones(64), atol=1e-4, rtol=0)
