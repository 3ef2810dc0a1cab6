"""The models in the reader's browser: the same steps as Python's, and a page that takes whatever readers do to it."""

from __future__ import annotations

import io
import json
import statistics

import numpy as np
import pytest
import torch
from conftest import opened
from PIL import Image

from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.scenes import Scene, all_scenes, canonical_caption, draw_scenes
from learn_diffusion.denoiser import with_image_cond
from learn_diffusion.editing import ddnm
from learn_diffusion.guidance import cfg, clip_x0
from learn_diffusion.nets.text import Tokeniser, record_attention
from learn_diffusion.recipes import transforms
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.samplers import ddim, dpmpp_2m
from tools.accessibility import AXE, findings
from tools.website import playground

PROMPT = playground.PROMPT
PATIENCE = 120_000  # ms, for a model on a busy machine


# all that workers have said, for tests that want to know
HEARD = """window.heard = [];
window.Worker = class extends Worker {
  constructor(...given) { super(...given); this.addEventListener('message', ({ data }) => heard.push(data)); }
};"""


def skip_without_npm(pages):
    """Where npm has what it needs, a playground without its runtime is a fault."""
    try:
        playground.packages()
    except OSError as error:
        pytest.skip(str(error))
    assert (pages / "_static" / "playground" / "models" / "manifest.json").exists()


@pytest.fixture
def page(browser, site, pages):
    """The playground, opened, all its parts ready."""
    skip_without_npm(pages)
    ready = "[...document.querySelectorAll('[data-playground]')].every((part) => part.dataset.state)"
    with opened(browser, site, "playground", HEARD) as page:
        page.wait_for_function(ready)
        yield page


def state(page, part: str, *expected: str) -> str:
    """Wait until the part is in one of the states."""
    found = "([part, states]) => { const s = document.querySelector(`[data-playground=${part}]`).dataset.state; "
    found += "return states.includes(s) && s; }"
    return page.wait_for_function(found, arg=[part, expected], timeout=PATIENCE).json_value()


def loaded(page, part: str):
    """The part, its model loaded and its first picture drawn."""
    root = page.locator(f"[data-playground={part}]")
    root.get_by_role("button", name="Load the model").click()
    assert state(page, part, "done", "failed") == "done", root.locator(".ld-status").text_content()
    return root


# ---- the same numbers as Python


WALK = """async ({ name, y, scale, sampler, noise, steps, known, mask }) => {
  const here = new URL('_static/playground/', location.href);
  const { load, denoiserFor } = await import(new URL('model.mjs', here));
  const { ddim, dpmpp2m, grid } = await import(new URL('diffusion.mjs', here));
  const floats = (list) => list && Float32Array.from(list);
  const model = await load(name);
  let attention;
  const saw = (weights) => { attention = weights && [...weights]; };
  const denoise = denoiserFor(model, { y, scale, known: floats(known), mask: floats(mask) }, saw);
  const frames = [];
  const walk = { ddim, dpmpp2m }[sampler];
  let last;
  for await (const { t, x, x0 } of walk(denoise, floats(noise), grid(steps))) {
    last = x;
    frames.push([t, [...x], [...x0], attention]);
  }
  return { frames, picture: model.decode && [...(await model.decode(last))] };
}"""


@pytest.mark.parametrize(
    ("name", "sampler", "scale", "steps"),
    [
        ("digits", "dpmpp2m", 2.0, 20), ("digits", "ddim", 1.0, 5), ("digits", "ddim", 0.0, 7),
        ("scenes", "dpmpp2m", 2.0, 20), ("repair", "dpmpp2m", 2.0, 20),
    ],
)  # fmt: skip
def test_every_step_agrees_with_python(page, name, sampler, scale, steps):
    model, metadata = checkpoints.load(pretrained_path(playground.MODELS[name]), "cpu")
    model = checkpoints.to_fp16(model)
    noise = torch.randn(1, *metadata["data_shape"], generator=torch.Generator().manual_seed(7))
    path, task, known = model.schedule, playground.repair(), {}
    if name == "digits":
        y = torch.tensor([6])
        denoise = cfg(model, y, scale)
    else:
        y = sampling.condition(model, 1, prompt=task.asked if name == "repair" else PROMPT)
        denoise = cfg(model, y, scale)
    if name == "repair":
        picture, mask = task.known[None], task.mask[None, None]
        denoise = ddnm(cfg(with_image_cond(model, transforms.mask_cond(picture, mask)), y, scale), path, picture, mask)
        known = {"known": picture.flatten().tolist(), "mask": mask.expand(1, 3, 32, 32).float().flatten().tolist()}
    if name != "scenes":  # which draws codes
        denoise = clip_x0(denoise, path)
    walk = {"ddim": ddim, "dpmpp2m": dpmpp_2m}[sampler]
    expected = list(walk(denoise, path, noise, path.timesteps(steps)))
    request = {"name": name, "y": y.flatten().tolist(), "scale": scale, "sampler": sampler, "steps": steps, **known}
    drawn = page.evaluate(WALK, {**request, "noise": noise.flatten().tolist()})
    frames = drawn["frames"]
    assert len(frames) == steps
    for (t, x, x0, _), here in zip(frames, expected, strict=True):
        assert t == pytest.approx(here.t.item(), abs=1e-12)
        assert np.abs(np.array(x) - here.x.flatten().numpy()).max() < 1e-3
        assert np.abs(np.array(x0) - here.est.x0.flatten().numpy()).max() < 1e-3
    read = [attention for *_, attention in frames]
    if name == "digits":
        assert read == [None] * steps
    else:  # the call of the last step, once more
        with record_attention(model.net) as maps:
            denoise(expected[-2].x, path.timesteps(steps)[-2])
        weights = torch.stack([layer[0] for layer in maps]).mean(0).mT  # of the first row, which has the words
        assert np.abs(np.array(read[-1]) - weights.flatten().numpy()).max() < 1e-3
        assert np.array(read[-1]).reshape(weights.shape).sum(0) == pytest.approx(1, abs=1e-3)
        assert read[0] != read[-1]
    if name == "scenes":
        vae, _ = checkpoints.load(pretrained_path(metadata["autoencoder"]), "cpu")
        seen = sampling.decode(vae, expected[-1].x)[0]
        assert seen.shape == (3, 64, 64)
        assert np.abs(np.array(drawn["picture"]) - seen.flatten().numpy()).max() < 5e-3
    if name == "repair":  # what is kept comes back to the last bit
        kept = mask.expand(1, 3, 32, 32).flatten().numpy()
        assert np.array_equal(np.float32(frames[-1][1])[kept], picture.flatten().numpy()[kept])


TOKENS = """async (captions) => {
  const here = new URL('_static/playground/', location.href);
  const { tokenise, PromptError } = await import(new URL('tokenise.mjs', here));
  const { scenes: { words, length } } = await (await fetch(new URL('models/manifest.json', here))).json();
  return captions.map((caption) => {
    try { return tokenise(caption, words, length); } catch (error) { if (!(error instanceof PromptError)) throw error; }
    return null;
  });
}"""


def test_a_sentence_becomes_the_same_tokens_as_in_python(page):
    captions = draw_scenes(200, seed=3).captions + [
        canonical_caption(scene) for scene in all_scenes("unseen pair")[:20]
    ]
    captions += [
        "A CAT, on the moon!",
        "cat\tmoon\n",
        "  a   cat ",
        "a-cat",
        "",
        " ?! ",
        "a zebra",
        "cat " * 16,
        "cat " * 17,
    ]
    captions += [
        "a cat \N{CAT FACE}",
        "\uff43\uff41\uff54",
        "<b>cat</b>",
        "a çat",
        "ein Kätzchen",
        "cat²",
        "cat\u00a0moon",
        "İcat",
        "__proto__",
        "constructor",
    ]
    model, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")

    def tokens(tokenise: Tokeniser, caption: str) -> list[int] | None:
        try:
            return tokenise([caption])[0].tolist()
        except ValueError:
            return None

    expected = [tokens(model.net.text.tokenise, caption) for caption in captions]
    assert expected.count(None) >= 8
    assert page.evaluate(TOKENS, captions) == expected


def test_noise_is_normal_and_hangs_on_its_seed_alone(page):
    here = "import(new URL('_static/playground/diffusion.mjs', location.href))"
    draw = f"async ([n, seed]) => [...(await {here}).randn(n, seed)]"
    one = page.evaluate(draw, [20_000, 1])
    assert one == page.evaluate(draw, [20_000, 1])
    assert one != page.evaluate(draw, [20_000, 2])
    assert statistics.fmean(one) == pytest.approx(0, abs=4 / 20_000**0.5)
    assert statistics.pvariance(one) == pytest.approx(1, abs=4 * (2 / 20_000) ** 0.5)
    assert np.mean(np.abs(one) < 1) == pytest.approx(0.6827, abs=0.015)
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.03


# ---- the page


@pytest.mark.parametrize(("screen", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_every_part_draws_and_its_walk_can_be_scrubbed(page, tmp_path, screen, theme):
    page.emulate_media(color_scheme=theme)
    if screen == "phone":
        page.set_viewport_size({"width": 375, "height": 700})
    for part in ("digits", "scenes", "repair"):
        root = loaded(page, part)
        canvases, slider = root.locator(".ld-film canvas"), root.locator(".ld-film input[type=range]")
        assert slider.get_attribute("max") == "20"
        slider.focus()
        seen = []
        for key in ("Home", "ArrowRight", "End"):
            page.keyboard.press(key)
            seen.append(canvases.first.evaluate("canvas => canvas.toDataURL()"))
            label = f"step {canvases.first.get_attribute('data-frame')} of 20"
            assert label in canvases.first.get_attribute("aria-label")
        assert len(set(seen)) == 3
        if AXE.exists():
            page.add_script_tag(path=AXE)
            assert findings(page, f"{{include: ['[data-playground={part}]']}}") == []
        root.screenshot(path=tmp_path / f"{part}.png")
    assert page.locator("html").get_attribute("data-theme") == theme
    assert page.evaluate("document.documentElement.scrollWidth") <= (375 if screen == "phone" else 1100)


def test_the_digit_that_is_asked_for_is_drawn(page):
    """The course's own reader of digits looks at the canvas."""
    reader, _ = checkpoints.load(pretrained_path("mnist_classifier"), "cpu")
    root = loaded(page, "digits")
    read = []
    for digit in "0479":
        root.locator("select").select_option(digit)
        state(page, "digits", "drawing", "done")
        state(page, "digits", "done")
        pixels = (
            root.locator(".ld-film canvas")
            .nth(1)
            .evaluate("c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0)")
        )
        picture = torch.tensor(pixels).float().reshape(1, 1, 28, 28) / 127.5 - 1
        read.append(str(reader(picture).argmax().item()))
    assert read == list("0479")


def test_the_sentence_that_is_typed_is_drawn(page):
    """The scene classifier reads the canvas; the sentence was never in the training data."""
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    root = loaded(page, "scenes")
    right = 0
    for seed in (1, 2, 3):
        root.get_by_label("seed").fill(str(seed))
        root.get_by_label("seed").press("Enter")
        state(page, "scenes", "done")
        pixels = (
            root.locator(".ld-film canvas")
            .nth(1)
            .evaluate("c => [...c.getContext('2d').getImageData(0, 0, 64, 64).data]")
        )
        picture = torch.tensor(pixels).float().reshape(64, 64, 4)[..., :3].permute(2, 0, 1)[None] / 127.5 - 1
        found = classifier.read(transforms.downsample(picture))[0, :3].tolist()
        right += found == Scene("cat", "sunglasses", "moon", "gray").indices()[:3]
    assert right >= 2


PIXELS = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 < 3)"


def canvases_are(n: int) -> str:
    return f"document.querySelectorAll('[data-playground=scenes] .ld-views > div > canvas').length === {n}"


def test_two_sentences_are_drawn_from_one_noise_under_one_slider(page, tmp_path):
    root = loaded(page, "scenes")
    canvases, slider = root.locator(".ld-views > div > canvas"), root.locator(".ld-film input[type=range]")
    alone = canvases.nth(1).evaluate("c => c.toDataURL()")
    assert root.locator(".ld-maps canvas").count() == 7
    beside = root.get_by_label("beside it")
    beside.fill("a dog on the moon")
    beside.press("Enter")
    page.wait_for_function(canvases_are(5), timeout=PATIENCE)
    state(page, "scenes", "done")
    ends = canvases.evaluate_all("all => all.map((c) => c.toDataURL())")
    assert ends[1] == alone  # the first is what it is without the second
    assert ends[3] != ends[1]
    assert "a dog" in canvases.nth(3).get_attribute("aria-label")
    said = root.locator(".ld-maps").last.locator("div > div").all_text_contents()
    assert [label.split()[0] for label in said if "%" in label] == ["a", "dog", "on", "the", "moon"]
    one, two, difference = (canvases.nth(k).evaluate(PIXELS) for k in (1, 3, 4))
    assert np.abs(np.abs(np.array(one) - two) - difference).max() <= 2  # each canvas rounds
    root.screenshot(path=tmp_path / "beside.png")
    maps = root.locator(".ld-maps canvas").nth(1)
    late = maps.evaluate("c => c.toDataURL()")
    slider.focus()
    page.keyboard.press("Home")
    starts = canvases.evaluate_all("all => all.map((c) => c.toDataURL())")
    assert starts[0] == starts[2] != ends[0]
    assert maps.evaluate("c => c.toDataURL()") != late
    beside.fill("")
    beside.press("Enter")
    page.wait_for_function(canvases_are(2), timeout=PATIENCE)


def test_a_link_brings_others_to_the_same_picture(page, browser):
    root = loaded(page, "scenes")
    root.get_by_label("sentence").fill("a dog in the snow & a #hat")
    root.get_by_label("seed").fill("7")
    root.get_by_label("guidance").press("ArrowRight")
    root.get_by_role("button", name="Link to this").click()
    page.wait_for_function("location.hash.includes('seed=7')")
    other = browser.new_page()
    other.goto(page.url)
    there = other.locator("[data-playground=scenes]")
    there.get_by_role("button", name="Load the model").wait_for()
    asked = there.get_by_label("sentence").input_value()
    assert asked == "a dog in the snow & a #hat"
    assert there.get_by_label("seed").input_value() == "7"
    assert there.get_by_label("guidance").input_value() == "2.5"
    assert (
        other.locator("[data-playground=repair]").get_by_label("sentence").input_value() != "a dog in the snow & a #hat"
    )
    other.goto(page.url.split("#")[0] + "#part=digits&digit=11&guidance=x&steps=999&seed=")  # in the same tab
    there = other.locator("[data-playground=digits]")
    other.wait_for_function("document.querySelector('[data-playground=digits] [name=steps]')?.value === '50'")
    there.get_by_role("button", name="Load the model").wait_for()
    values = there.locator("[name]").evaluate_all("all => all.map((control) => [control.name, control.value])")
    assert dict(values) == {"digit": "3", "guidance": "3", "steps": "50", "seed": "1"}
    other.close()


def test_a_prompt_that_cannot_be_read_is_answered_in_words_and_never_run(page):
    root = loaded(page, "scenes")
    page.evaluate("window.run = 0")
    for prompt, answer in [
        ("", "at least one word"),
        ("a zebra on the moon", '"zebra"'),
        ("<img src=x onerror=run++> cat", '"img"'),
        ("<script>run++</script>", '"script"'),
        ("cat " * 30, "At most 16 words"),
    ]:
        root.get_by_label("sentence").fill(prompt)
        root.get_by_label("sentence").press("Enter")
        state(page, "scenes", "refused")
        assert answer in root.locator(".ld-status").text_content()
    assert root.locator(".ld-status img, .ld-status script").count() == 0
    assert page.evaluate("window.run") == 0
    root.get_by_label("sentence").fill("a dog in the snow")  # and it goes on from there
    root.get_by_label("sentence").press("Enter")
    assert state(page, "scenes", "done") == "done"


def test_a_newer_wish_ends_the_older_one(page):
    root = loaded(page, "digits")
    root.get_by_label("steps").press("End")
    for seed in range(2, 8):
        root.get_by_label("seed").fill(str(seed))
        root.get_by_label("seed").dispatch_event("change")
    state(page, "digits", "done")
    slider = root.locator(".ld-film input[type=range]")
    assert slider.get_attribute("max") == "50"  # the last request's frames, and no others
    assert "50 steps" in root.locator(".ld-status").text_content()
    done = [data["key"] for data in page.evaluate("heard.filter((data) => data.done).map(({ key }) => ({ key }))")]
    assert done == [1, done[-1]]  # the first picture and the last: what came between was given up by the worker too


def test_a_refusal_stands_while_an_older_wish_is_still_drawn(page):
    root = loaded(page, "digits")
    scenes = loaded(page, "scenes")
    scenes.get_by_label("steps").press("End")
    scenes.get_by_label("sentence").fill("a zebra")
    scenes.get_by_label("sentence").press("Enter")
    state(page, "scenes", "refused")
    root.get_by_role("button", name="Other noise").click()  # a while later
    state(page, "digits", "done")
    page.wait_for_timeout(500)
    assert scenes.get_attribute("data-state") == "refused"
    assert "zebra" in scenes.locator(".ld-status").text_content()


def test_what_the_model_believes_stands_beside_the_picture_it_saw(page):
    """Frame i shows x_t and the x0_hat that was read off it; the last shows the answer twice."""
    root = loaded(page, "digits")
    heard = page.evaluate("heard.filter((data) => data.x).map(({ x, x0 }) => [[...x], [...x0]])")
    canvases, slider = root.locator(".ld-film canvas"), root.locator(".ld-film input[type=range]")
    grey = "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0)"

    def shown(values: list[float]) -> np.ndarray:
        return np.clip(127.5 * (np.array(values) + 1), 0, 255)

    slider.press("Home")
    for i in range(21):
        x, x0 = (np.array(canvases.nth(k).evaluate(grey)) for k in (0, 1))
        if i > 0:
            assert np.abs(x - shown(heard[i - 1][0])).max() <= 1
        assert np.abs(x0 - shown(heard[i][1] if i < 20 else heard[19][0])).max() <= 1
        slider.press("ArrowRight")


@pytest.mark.parametrize(("typed", "drawn"), [("", "0"), ("-5", "5"), ("1.5", "1"), ("123456", "3456")])
def test_any_seed_that_is_typed_becomes_one_that_is_drawn(page, typed, drawn):
    root = loaded(page, "digits")
    root.get_by_label("seed").fill(typed)
    root.get_by_label("seed").dispatch_event("change")
    state(page, "digits", "done")
    assert root.get_by_label("seed").input_value() == drawn


def test_only_what_is_painted_changes(page):
    root = loaded(page, "repair")
    root.get_by_role("button", name="Clear").click()
    painter = root.locator(".ld-painter canvas")
    painter.focus()
    page.keyboard.press("Space")  # a square of 5 pixels, in the middle
    state(page, "repair", "drawing", "done")
    state(page, "repair", "done")
    pixels = root.locator(".ld-film canvas").first.evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, 32, 32).data]"
    )
    drawn = np.array(pixels).reshape(32, 32, 4)[..., :3]
    known = np.asarray(
        Image.open(
            io.BytesIO(
                page.request.get(page.url.replace("playground.html", "_static/playground/models/scene.png")).body()
            )
        )
    )
    hole = np.zeros((32, 32), bool)
    hole[14:19, 14:19] = True
    assert np.abs(drawn.astype(int) - known)[~hole].max() <= 1  # the canvas rounds
    assert (drawn.astype(int) != known)[hole].any()


def test_a_slow_download_shows_how_far_it_is(page):
    held = []
    page.route("**/*.onnx", lambda route: held.append(route))  # the runtime comes, the model does not yet
    root = page.locator("[data-playground=digits]")
    root.get_by_role("button", name="Load the model").click()
    bar = root.locator("progress")
    page.wait_for_function("bar => bar.value > 0.1 * bar.max", arg=bar.element_handle(), timeout=PATIENCE)
    runtime = bar.evaluate("bar => bar.value")
    assert 0 < runtime < bar.evaluate("bar => bar.max")
    assert bar.get_attribute("aria-label") == "downloaded"
    page.wait_for_timeout(0)  # lets the route be heard
    held[0].continue_()
    assert state(page, "digits", "done", "failed") == "done"
    assert bar.count() == 0


@pytest.mark.parametrize("answer", [{"status": 404}, {"status": 200, "body": "not what was asked for"}])
@pytest.mark.parametrize("missing", ["**/*.onnx", "**/*.wasm", "**/worker.mjs", "**/ort.*.mjs"])
def test_a_model_that_does_not_load_says_why_and_leaves_the_still_picture(page, missing, answer):
    page.route(missing, lambda route: route.fulfill(**answer))
    root = page.locator("[data-playground=scenes]")
    root.get_by_role("button", name="Load the model").click()
    assert state(page, "scenes", "failed") == "failed"
    assert "did not load" in root.locator(".ld-status").text_content()
    assert root.locator("[data-still]").is_visible()
    page.unroute(missing)
    root.get_by_role("button", name="Load the model").click()  # and it may be tried again
    assert state(page, "scenes", "done") == "done"


def test_a_lost_connection_stops_no_other_model(page):
    for name, expected in (("digits", "done"), ("scenes", "failed")):
        root = page.locator(f"[data-playground={name}]")
        root.get_by_role("button", name="Load the model").click()
        assert state(page, name, "done", "failed") == expected
        page.route("**/*.onnx", lambda route: route.abort())
    assert "could not be fetched" in root.locator(".ld-status").text_content()
    digits = page.locator("[data-playground=digits]")
    digits.evaluate("part => { part.dataset.state = 'not drawn again yet'; }")
    digits.get_by_role("button", name="Draw", exact=True).click()
    assert state(page, "digits", "done", "failed") == "done"


def test_without_models_the_page_says_so(browser, site, pages):
    page = browser.new_page()
    page.route("**/manifest.json", lambda route: route.fulfill(status=404))
    page.goto(f"{site}/playground.html")
    page.wait_for_function("[...document.querySelectorAll('[data-playground]')].every((part) => part.dataset.state)")
    for part in page.locator("[data-playground]").all():
        alone = part.get_attribute("data-playground") == "noise"  # it needs no model
        assert part.get_attribute("data-state") == ("ready" if alone else "failed")
        assert part.locator("img, canvas").first.is_visible()
        assert part.locator("[data-wait]").count() == 0
    page.close()


def picture(kind: str, mode: str = "RGB", grey: int = 200) -> bytes:
    """90 x 60 pixels of one grey; with an alpha channel, wholly transparent."""
    file = io.BytesIO()
    colour = {"L": grey, "RGB": (grey,) * 3, "RGBA": (grey, grey, grey, 0)}[mode]
    Image.new(mode, (90, 60), colour).save(file, kind)
    return file.getvalue()


def test_a_readers_own_picture_is_noised_and_never_sent(page, tmp_path):
    root = page.locator("[data-playground=noise]")
    canvas, slider = root.locator("canvas"), root.get_by_label("t", exact=True)
    shown = "c => [...c.getContext('2d').getImageData(64, 64, 1, 1).data]"
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    for kind, mode, grey, expected in [
        ("PNG", "RGB", 200, 200), ("JPEG", "L", 90, 90), ("WEBP", "RGB", 30, 30), ("PNG", "RGBA", 0, 255),
    ]:  # fmt: skip
        root.evaluate("part => { part.dataset.state = 'waiting'; }")
        name = f"<img src=x onerror=alert(1)>.{kind}"
        content = {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": picture(kind, mode, grey)}
        root.locator("input[type=file]").set_input_files(content)
        assert state(page, "noise", "own", "refused") == "own"
        slider.press("Home")
        assert canvas.evaluate(shown)[:3] == pytest.approx([expected] * 3, abs=3)
        slider.press("End")
        assert "1.00 of the noise" in root.locator("output").first.text_content()
    assert root.locator(".ld-status img").count() == 0
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == []
    for name, content in [("note.txt", b"hello"), ("empty.png", b""), ("cut.png", picture("PNG")[:40])]:
        root.evaluate("part => { part.dataset.state = 'waiting'; }")
        (tmp_path / name).write_bytes(content)
        root.locator("input[type=file]").set_input_files(tmp_path / name)
        assert state(page, "noise", "own", "refused") == "refused"
        assert f"{name} could not be read" in root.locator(".ld-status").text_content()


SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60" onload="top.run++; alert(1)">
<script>top.run++; alert(1)</script><image href="https://example.org/x.png" width="90" height="60"/></svg>"""
HTML = b"""<!doctype html><script>top.run++; alert(1)</script>
<img src="https://example.org/x.png" onerror="top.run++">"""
SLY = "<img src=x onerror=run++>"
HOSTILE = {
    # file: (its type, as browsers guess it from the name, content, what becomes of it)
    "drawing.svg": ("image/svg+xml", SVG, "refused"),
    f"{SLY}.svg": ("image/svg+xml", SVG, "refused"),
    "page.png": ("image/png", HTML, "refused"),
    f"{SLY}.png": ("image/png", picture("PNG", grey=60), "own"),
}
TRANSFER = """({ name, type, content }) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(content)], name, { type }));
  return transfer;
}"""
# both events bubble up from the canvas; whether they were taken: otherwise the browser opens the file itself
DROP = """(canvas, transfer) => ['dragover', 'drop'].map((kind) =>
  !canvas.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true })))"""


@pytest.mark.parametrize("way", ["dropped", "chosen"])
def test_a_hostile_file_is_data_and_nothing_else(page, way):
    root = page.locator("[data-playground=noise]")
    canvas, slider, status = root.locator("canvas"), root.get_by_label("t", exact=True), root.locator(".ld-status")
    requests, dialogs = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.evaluate("window.run = 0")
    slider.press("Home")

    def give(name: str, kind: str, content: bytes) -> None:
        root.evaluate("part => { part.dataset.state = 'waiting'; }")
        if way == "chosen":
            root.locator("input[type=file]").set_input_files({"name": name, "mimeType": kind, "buffer": content})
        else:
            transfer = page.evaluate_handle(TRANSFER, {"name": name, "type": kind, "content": list(content)})
            assert canvas.evaluate(DROP, transfer) == [True, True]

    for name, (kind, content, end) in HOSTILE.items():
        before = canvas.evaluate("c => c.toDataURL()")
        give(name, kind, content)
        assert state(page, "noise", "own", "refused") == end
        said = f"{name} could not be read as a picture" if end == "refused" else f"{name}: it stays on this machine."
        assert said in status.text_content()
        assert (canvas.evaluate("c => c.toDataURL()") == before) is (end == "refused")  # the picture before it stays
    give("photo.jpg", "image/jpeg", picture("JPEG", grey=90))  # and it goes on from there
    assert state(page, "noise", "own", "refused") == "own"
    assert canvas.evaluate("c => c.getContext('2d').getImageData(64, 64, 1, 1).data[0]") == pytest.approx(90, abs=3)
    page.wait_for_timeout(500)  # what an onerror would take
    assert page.evaluate("window.run") == 0
    assert dialogs == []
    assert root.locator("script, iframe, object, embed, svg, img").count() == 0
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == []


def test_what_is_dropped_and_is_no_file_is_answered_in_words(page):
    root = page.locator("[data-playground=noise]")
    page.evaluate("window.run = 0")
    text = "(html) => { const t = new DataTransfer(); t.setData('text/html', html); return t; }"
    assert root.locator("canvas").evaluate(DROP, page.evaluate_handle(text, SLY)) == [True, True]
    assert state(page, "noise", "own", "refused") == "refused"
    assert "That was no file." in root.locator(".ld-status").text_content()
    page.wait_for_timeout(500)
    assert page.evaluate("window.run") == 0


def test_the_manifest_says_what_is_downloaded(pages):
    skip_without_npm(pages)
    folder = pages / "_static" / "playground"
    manifest = json.loads((folder / "models" / "manifest.json").read_text())
    assert manifest.keys() == {*playground.MODELS, "runtime"}
    for name in playground.MODELS:
        files = [manifest[name][part] for part in ("file", "decoder") if part in manifest[name]]
        assert sum((folder / "models" / file).stat().st_size for file in files) == manifest[name]["bytes"]
        assert manifest[name]["bytes"] + manifest["runtime"]["bytes"] < 25e6
    assert sum(path.stat().st_size for path in (folder / "ort").iterdir()) == manifest["runtime"]["bytes"]


def test_without_npm_the_site_is_built_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(playground, "BOOK", tmp_path)  # nothing installed there
    monkeypatch.setattr(playground.shutil, "which", lambda name: None)
    with pytest.raises(OSError, match=r"npm was not found.*Install Node\.js"):
        playground.fill(tmp_path)
    assert (tmp_path / "models" / "scenes.png").exists()


def test_two_parts_draw_at_the_same_time(page):
    for part in ("digits", "scenes"):
        page.locator(f"[data-playground={part}]").get_by_role("button", name="Load the model").click()
    for part in ("digits", "scenes"):
        assert state(page, part, "done", "failed") == "done"
        assert page.locator(f"[data-playground={part}] .ld-film input").get_attribute("max") == "20"
