"""Words to numbers to pictures: the tokeniser, the text encoder, cross-attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_nets import randomised
from torch.testing import assert_close

from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import cfg
from learn_diffusion.nets import UNet
from learn_diffusion.nets.text import NULL_TOKEN, TextEncoder, Tokeniser, attention, record_attention
from learn_diffusion.schedules import Cosine

WORDS = ["a", "cat", "dog", "moon", "on", "sunglasses", "the"]
tokenise = Tokeniser(WORDS, length=8)


def reader() -> UNet:
    return randomised(UNet(channels=3, widths=(8, 16), patch_size=2, attentions=2, words=WORDS, text=16)).eval()


def test_words_become_their_numbers_and_short_captions_are_filled_up():
    assert tokenise(["a cat on the moon", "dog"]).tolist() == [[1, 2, 5, 7, 4, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0]]
    assert tokenise([]).shape == (0, 8)


def test_capitals_and_punctuation_do_not_matter():
    assert torch.equal(tokenise(["A cat, on the MOON!"]), tokenise(["a cat on the moon"]))


@pytest.mark.parametrize(
    ("captions", "error", "says"),
    [
        (["a cta"], ValueError, "prompt: .*'cta'.*cat"),
        (["a xylophone"], ValueError, "prompt: .*'xylophone'"),
        (["two dogs"], ValueError, "prompt: .*'two', 'dogs'"),
        ([""], ValueError, "prompt"),
    ],
    ids=["typing error", "unknown", "two unknown", "empty"],
)
def test_what_cannot_be_read_is_said_in_words(captions, error, says):
    with pytest.raises(error, match=says):
        tokenise(captions)


def test_features_depend_on_words_and_on_their_order():
    torch.manual_seed(0)
    encode = TextEncoder(WORDS, 16, length=8).eval()
    cat, dog, swapped = (encode(tokenise([c])) for c in ("a cat on the moon", "a dog on the moon", "the moon on a cat"))
    assert cat.shape == (1, 8, 16)
    assert (cat - dog).abs().max() > 1e-2
    assert (cat - swapped).abs().max() > 1e-2


def test_mix_is_attention():
    q, k, v = (torch.randn(2, 4, n, 8, generator=torch.Generator().manual_seed(n)) for n in (6, 5, 5))
    mixed, weights = attention(q, k, v)
    assert_close(mixed, F.scaled_dot_product_attention(q, k, v))
    assert_close(weights.sum(-1), torch.ones(2, 4, 6))


def test_the_words_change_the_picture():
    net, x, level = reader(), torch.randn(1, 3, 16, 16), torch.zeros(1)
    with torch.no_grad():
        cat, dog = (net(x, level, net.text.tokenise([f"a {word}"])) for word in ("cat", "dog"))
    assert (cat - dog).abs().max() > 1e-3


def test_no_caption_and_a_dropped_caption_are_the_same():
    net, x, level = reader(), torch.randn(2, 3, 16, 16), torch.zeros(2)
    y = net.text.tokenise(["a cat", "a dog"])
    model = Denoiser(net, Cosine(), "v")
    with torch.no_grad():
        assert_close(net(x, level), net(x, level, torch.full_like(y, NULL_TOKEN)))
        free = model(x, torch.tensor(0.5))
        assert_close(model(x, torch.tensor(0.5), y, torch.tensor([False, False])), free)
        assert_close(cfg(model, y, 0.0)(x, torch.tensor(0.5)), free)


def test_every_weight_gets_a_gradient():
    net = reader()
    net(torch.randn(2, 3, 16, 16), torch.zeros(2), net.text.tokenise(["a cat", "the moon"])).square().sum().backward()
    for key, w in net.named_parameters():
        assert w.grad is not None, key
        assert w.grad.abs().sum() > 0, key


def test_watching_shows_what_each_pixel_looks_at_and_lets_go():
    net, x = reader(), torch.randn(2, 3, 16, 16)
    y = net.text.tokenise(["a cat", "a dog"])
    with torch.no_grad(), record_attention(net) as maps:
        net(x, torch.zeros(2), y)
    assert [m.shape for m in maps] == [(2, 16, 16)] * 2  # 4x4 pixels at the lowest level, 16 words, two attentions
    assert_close(maps[0].sum(-1), torch.ones(2, 16))
    with torch.no_grad():
        net(x, torch.zeros(2), y)
    assert len(maps) == 2
