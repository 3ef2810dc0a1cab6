"""Networks: shapes, labels, and that every part of them is used."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from learn_diffusion.nets import MLP, Classifier, UNet


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
