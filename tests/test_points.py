"""The network that readers train in the page: its gradient, its samples, and whatever they draw."""

from __future__ import annotations

import pytest
from conftest import opened

from tools.accessibility import AXE, findings

PATIENCE = 120_000  # ms, on a busy machine
MODULES = """const here = new URL('_static/playground/', location.href);
const [net, training, { randn, alpha, sigma }] =
  await Promise.all(['perceptron', 'trainer', 'diffusion'].map((name) => import(new URL(`${name}.mjs`, here))));"""


@pytest.fixture
def page(browser, site):
    """The playground, opened, the part for points ready."""
    with opened(browser, site, "playground") as page:
        page.wait_for_function("document.querySelector('[data-points]').dataset.state")
        yield page


def state(page, *expected: str) -> None:
    found = "(states) => states.includes(document.querySelector('[data-points]').dataset.state)"
    page.wait_for_function(found, arg=expected, timeout=PATIENCE)


def samples(page, root) -> dict[str, float]:
    """Draw them; how near each way ends to the points."""
    root.get_by_role("button", name="draw samples").click()
    state(page, "drawn")
    words = root.locator(".ld-status").text_content().split("points: ")[1].split(". ")[0]
    return {name: float(far) for name, far in (each.split(" ") for each in words.split(", "))}


def pixels(root) -> str:
    return root.locator(".ld-plane").evaluate("canvas => canvas.toDataURL()")


def count(root) -> int:
    return int(root.locator(".ld-plane").get_attribute("aria-label").split("with ")[1].split(" points")[0])


def test_the_gradient_is_that_of_finite_differences(page):
    worst, largest = page.evaluate(f"""async () => {{
      {MODULES}
      const [theta, grad] = [net.weights(3, Float64Array), new Float64Array(net.parameters)];
      const network = net.perceptron(theta, grad);
      const [x0, eps] = [randn(16, 1), randn(16, 2)].map((list) => Float64Array.from(list));
      const loss = () => net.loss(network, x0, eps, Float64Array.from({{ length: 8 }}, (_, i) => (i + 0.5) / 8));
      loss();
      const found = grad.slice();
      let [worst, largest] = [0, 0];
      for (let i = 0; i < theta.length; i += 7) {{
        const value = theta[i];
        const [up, down] = [1e-5, -1e-5].map((by) => {{ theta[i] = value + by; return loss(); }});
        theta[i] = value;
        worst = Math.max(worst, Math.abs((up - down) / 2e-5 - found[i]));
        largest = Math.max(largest, Math.abs(found[i]));
      }}
      return [worst, largest];
    }}""")
    assert worst < 1e-7 < 1e-2 < largest


@pytest.mark.parametrize("way", ["ODE", "chain", "SDE"])
def test_each_way_keeps_the_spread_of_points_whose_denoiser_is_known(page, way):
    """Gaussian points of width 0.5: x0_hat = alpha 0.25 x / (0.25 alpha^2 + sigma^2), and every level is a Gaussian."""
    widths = page.evaluate(f"""async (way) => {{
      {MODULES}
      const share = (t) => 0.25 * alpha(t) / (0.25 * alpha(t) ** 2 + sigma(t) ** 2);
      const denoise = (x, t) => {{
        const x0 = x.map((value) => share(t) * value);
        return {{ x0, eps: x.map((value, i) => (value - alpha(t) * x0[i]) / sigma(t)) }};
      }};
      const frames = training.walk(denoise, way, randn(4000, 1), 100, 5);
      const width = (x) => Math.sqrt(x.reduce((sum, value) => sum + value ** 2, 0) / x.length);
      return training.levels(100).map((t, i) => width(frames[i]) / Math.sqrt(0.25 * alpha(t) ** 2 + sigma(t) ** 2));
    }}""", way)  # fmt: skip
    assert len(widths) == 101
    assert widths == pytest.approx([1] * 101, abs=0.08)


def test_the_same_points_and_seed_give_the_same_losses(page):
    losses = page.evaluate(f"""async () => {{
      {MODULES}
      const points = randn(400, 5);
      return [1, 1, 2].map((seed) => {{
        const model = training.trainer(seed);
        return Array.from({{ length: 5 }}, () => model.step(points));
      }});
    }}""")
    assert losses[0] == losses[1] != losses[2]
    assert len(set(losses[0])) == 5


def test_two_moons_are_learned_and_the_ways_can_be_scrubbed(page, tmp_path):
    root = page.locator("[data-points]")
    untrained = samples(page, root)
    root.get_by_role("button", name="train").click()
    status = root.locator(".ld-status")
    page.wait_for_function("() => document.querySelector('[data-points]').dataset.near < 0.13", timeout=PATIENCE)
    print(f"\nmoons after {int(root.get_attribute('data-ms')) / 1000:.1f} s: {status.text_content()}")
    low, high = root.locator(".ld-loss").get_attribute("aria-label").split("curve from ")[1][:-1].split(" to ")
    trained = samples(page, root)
    assert trained.keys() == untrained.keys() == {"ODE", "chain", "SDE"}
    for way, far in trained.items():
        assert far < 0.16 < 0.3 < untrained[way]
    assert float(low) < 0.9 * float(high)
    step, starts, ends = root.get_by_role("slider", name="step"), [], []
    for name in ("ODE", "chain", "SDE"):
        root.get_by_role("radio", name=name).check()
        for key, seen in (("End", ends), ("Home", starts)):
            step.press(key)
            label = f"step {step.input_value()} of 100, {name}"
            assert label in root.locator(".ld-plane").get_attribute("aria-label")
            state(page, "drawn")
            page.wait_for_timeout(300)  # the arrows of that level
            seen.append(pixels(root))
    assert len(set(starts)) == 1
    assert len(set(ends)) == 3
    step.press("ArrowRight")
    assert step.get_attribute("aria-valuetext") == "1 of 100, t = 0.97"
    level = root.get_by_role("slider", name="t", exact=True)
    level.press("Home")
    level.press("ArrowRight")
    assert level.get_attribute("aria-valuetext") == "arrows at t = 0.01"
    page.wait_for_function("(before) => document.querySelector('.ld-plane').toDataURL() !== before", arg=starts[0])
    for width, theme in ((1100, "light"), (375, "dark")):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 700})
        if AXE.exists():
            page.add_script_tag(path=AXE)
            assert findings(page, "{include: ['[data-points]']}") == []
        assert page.locator("html").get_attribute("data-theme") == theme
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        root.screenshot(path=tmp_path / f"{theme}.png")


def test_points_are_drawn_by_keys_and_by_mouse_and_too_few_are_refused(page):
    root = page.locator("[data-points]")
    plane, spoken = root.locator(".ld-plane"), root.locator(".ld-cursor")
    assert count(root) == 200
    root.get_by_role("button", name="clear").click()
    assert count(root) == 0
    plane.focus()
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    assert spoken.text_content() == "x = -0.1, y = 0.2"
    page.keyboard.press("Space")
    assert spoken.text_content() == "point 1 at x = -0.1, y = 0.2"
    page.keyboard.press("Enter")
    assert count(root) == 2
    for button in ("train", "draw samples"):
        root.get_by_role("button", name=button).click()
        state(page, "refused")
        assert root.locator(".ld-status").text_content() == "Draw at least 20 points first; there are 2."
    box = plane.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 340, box["y"] + 340, steps=30)
    page.mouse.up()
    page.mouse.move(box["x"] + 40, box["y"] + 200)  # the pen is up
    assert 22 <= count(root) <= 34
    root.get_by_role("button", name="train").click()
    page.wait_for_function("document.querySelector('[data-points]').dataset.ms", timeout=PATIENCE)
    root.get_by_role("button", name="pause").click()
    state(page, "paused")
    root.locator("select").select_option("a ring")
    assert count(root) == 200
    assert root.locator(".ld-loss").get_attribute("aria-label") == "The loss: no loss yet."


def test_a_reader_who_wants_no_motion_sees_none_while_it_trains(page):
    page.emulate_media(reduced_motion="reduce")
    root = page.locator("[data-points]")
    root.get_by_role("button", name="train").click()
    page.wait_for_function("document.querySelector('[data-points]').dataset.ms", timeout=PATIENCE)
    before = pixels(root)
    page.wait_for_function("document.querySelector('[data-points]').dataset.ms > 1000", timeout=PATIENCE)
    assert pixels(root) == before
    root.get_by_role("button", name="pause").click()
    state(page, "paused")
    page.wait_for_function("(before) => document.querySelector('.ld-plane').toDataURL() !== before", arg=before)
