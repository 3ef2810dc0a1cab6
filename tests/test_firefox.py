"""The website in the second browser: what readers with Firefox move, load and train."""

from __future__ import annotations

import pytest
import torch

from learn_diffusion import checkpoints
from learn_diffusion.recipes.pretrained import pretrained_path
from tools.browser import PATIENCE
from tools.firefox import launched
from tools.website import playground

SCRUBBER = "document.querySelector('figure.ld-scrubber')"


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    with launched(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def opened(firefox, site):
    """Opens a page of the site; at the end no script may have complained, and no other host may have been asked."""
    firefox.complaints.clear()
    firefox.requests.clear()
    yield lambda name: (firefox.goto(f"{site}/{name}.html"), firefox)[1]
    firefox.evaluate("1")  # what was reported until now
    assert firefox.complaints == []
    assert firefox.requests  # they are reported at all
    assert [url[:200] for url in firefox.requests if not url.startswith((site, "data:", "blob:"))] == []


def pixels(page, canvas: str) -> str:
    return page.evaluate(f"{canvas}.toDataURL()")


@pytest.mark.parametrize("name", ["index", "notebooks/01_adding_noise"])
def test_keys_move_a_stored_slider(opened, name):
    page, seen = opened(name), []
    page.wait_for(f"{SCRUBBER}.dataset.state === 'ready'")
    last = int(page.evaluate(f"{SCRUBBER}.querySelector('input').max"))
    page.evaluate(f"{SCRUBBER}.querySelector('input').focus()")
    for key, frame in [("Home", 0), ("ArrowRight", 1), ("End", last), ("ArrowLeft", last - 1)]:
        page.press(key)
        assert page.evaluate(f"{SCRUBBER}.querySelector('canvas').dataset.frame") == str(frame)
        seen.append(pixels(page, f"{SCRUBBER}.querySelector('canvas')"))
    assert len(set(seen)) == 4


@pytest.fixture
def live(opened, pages):
    """The playground, all its parts ready."""
    try:
        playground.packages()
    except OSError as error:
        pytest.skip(str(error))
    page = opened("playground")
    page.wait_for("[...document.querySelectorAll('[data-playground], [data-points]')].every((e) => e.dataset.state)")
    return page


def test_the_model_of_digits_draws_the_digit_that_is_asked_for(live):
    """The course's own reader of digits looks at the canvas."""
    part = "document.querySelector('[data-playground=digits]')"
    live.click(f"[...{part}.querySelectorAll('button')].find((e) => e.textContent.startsWith('Load'))")
    words = live.wait_for(f"['done', 'failed'].includes({part}.dataset.state) && {part}.innerText")
    assert live.evaluate(f"{part}.dataset.state") == "done", words
    canvas = f"{part}.querySelectorAll('.ld-film canvas')[1]"
    red = f"[...{canvas}.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0)"
    values = live.evaluate(red)
    reader, _ = checkpoints.load(pretrained_path("mnist_classifier"), "cpu")
    drawn = reader(torch.tensor(values).float().reshape(1, 1, 28, 28) / 127.5 - 1).argmax().item()
    assert str(drawn) == live.evaluate(f"{part}.querySelector('select').value")
    live.evaluate(f"{part}.querySelector('.ld-film input[type=range]').focus()")
    end = pixels(live, canvas)
    live.press("Home")
    assert pixels(live, canvas) != end


def test_a_network_that_is_trained_here_draws_samples_near_the_points(live):
    part = "document.querySelector('[data-points]')"
    canvas = f"{part}.querySelector('.ld-plane')"
    before = pixels(live, canvas)
    live.click(f"[...{part}.querySelectorAll('button')].find((e) => e.textContent === 'train')")
    live.wait_for(f"{part}.dataset.state === 'drawn'", 3 * PATIENCE)  # 40 s on one half of a busy core
    assert pixels(live, canvas) != before
    assert "200 samples" in live.evaluate(f"{canvas}.getAttribute('aria-label')")
    words = live.evaluate(f"{part}.querySelector('.ld-status').textContent")
    near = [float(each.split(" ")[-1]) for each in words.split("points: ")[1].split(". ")[0].split(", ")]
    assert len(near) == 3
    assert max(near) < 0.2  # in a plane of 4 x 4; noise is 0.6 away
