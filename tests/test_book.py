"""The website: built with warnings as errors, every chapter on it, nothing asked of other hosts, the sliders alive."""

from __future__ import annotations

import html
import importlib.util
import json
import os
import re
import site
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from test_notebooks import missing_alt

from learn_diffusion import challenge, checkpoints, targets
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.widgets import Scrubber
from learn_diffusion.widgets.images import GAP_COLOUR, data_uri, encode
from tools import ROOT
from tools.accessibility import AXE, findings
from tools.notebooks import NOTEBOOKS
from tools.website import build, landing, launch, sharing

PIXELS = """slider => [...slider.closest('.ld-scrubber').querySelectorAll('canvas')].map((c) => c.toDataURL())"""


def chapters(pages):
    return sorted((pages / "notebooks").glob("*.html"))


def test_every_notebook_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    parts = [[chapter["file"] for chapter in part["chapters"]] for part in toc["parts"]]
    chapters = [[name for name in part if name.startswith("notebooks/")] for part in parts]
    assert sorted(name for part in chapters for name in part) == [
        f"notebooks/{path.stem}" for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    ]
    assert all(part == sorted(part) for part in chapters)  # the parts order the chapters, and within a part the numbers


def test_the_page_on_adding_your_own_runs_from_top_to_bottom(monkeypatch):
    monkeypatch.setattr(targets, "TARGETS", dict(targets.TARGETS))  # the page adds one
    boxes = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "book" / "add_your_own.md").read_text(encoding="utf-8"), re.M | re.S
    )
    assert len(boxes) == 8
    names = {}
    for box in boxes:
        exec(compile(box, "add_your_own.md", "exec"), names)


def test_every_notebook_is_a_page(pages):
    assert [path.stem for path in chapters(pages)] == [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    assert "Where formulas" not in (pages / "index.html").read_text()
    for path in chapters(pages):
        assert "<math" in path.read_text() or path.stem.startswith("00"), f"{path.name}: no formula was set"


def test_a_failing_build_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "assemble", lambda source: source.mkdir(parents=True))
    with pytest.raises(SystemExit, match="The book was not built"):
        build.build(tmp_path)


def test_every_picture_has_alt_text(pages):
    for path in every(pages):
        assert missing_alt(path.read_text(encoding="utf-8")) == [], path.name


def test_every_link_within_the_site_leads_somewhere(pages):
    """Files and the places in them; MyST checks its own links, this also those that the theme and raw HTML make."""
    places = {}
    for path in every(pages):
        places[path] = set(re.findall(r'\sid="([^"]+)"', path.read_text(encoding="utf-8")))
    for path in every(pages):
        for link in re.findall(r'<a[^>]*\shref="([^"]*)"', path.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", link):
                continue  # another site, or a mail
            file, _, place = html.unescape(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), f"{path.name}: {link}"
            assert not place or target not in places or place in places[target], f"{path.name}: {link}"


def test_headings_are_in_order(pages):
    """One title a page, and no level skipped: it is how a screen reader leafs through."""
    for path in every(pages):
        levels = [
            int(level) for level in re.findall(r"<h([1-6])[ >]", path.read_text(encoding="utf-8").split("<article")[1])
        ]
        assert levels[0] == 1, path.name
        assert levels.count(1) == 1, path.name
        assert all(after <= before + 1 for before, after in pairwise(levels)), f"{path.name}: {levels}"


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """One chapter, built where the addresses of repository and site are known: the source folder and the pages."""
    folder = tmp_path_factory.mktemp("known")
    source = folder / "src"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEARN_DIFFUSION_REPOSITORY", "https://github.com/someone/some_course")
        patch.setenv("LEARN_DIFFUSION_SITE", "https://someone.github.io/some_course/")
        patch.setattr(build.playground, "fill", lambda folder: None)
        build.assemble(source)
    toc = {"format": "jb-book", "root": "notebooks/B_conventions"}
    (source / "_toc.yml").write_text(yaml.safe_dump(toc))
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    subprocess.run([jupyter_book, "build", source, "--path-output", folder], capture_output=True, check=True)
    return source, folder / "_build" / "html"


def test_launch_buttons_stand_where_an_address_is_known_and_nowhere_else(pages, known, monkeypatch):
    for name in ("colab.research.google.com", "mybinder.org"):
        assert name not in (pages / "notebooks" / "01_adding_noise.html").read_text(encoding="utf-8")
    monkeypatch.setenv("LEARN_DIFFUSION_REPOSITORY", "https://github.com/someone/some_course")
    config = launch.settings()
    assert config["repository"] == {
        "url": "https://github.com/someone/some_course",
        "branch": "launch",
        "path_to_book": "",
    }
    source, built = known
    written = yaml.safe_load((source / "_config.yml").read_text())
    assert written["repository"]["url"] == "https://github.com/someone/some_course"
    assert written["launch_buttons"]["colab_url"].startswith("https://colab")
    assert written["html"]["favicon"] == "favicon.svg"  # the rest stays
    page = (built / "notebooks" / "B_conventions.html").read_text(encoding="utf-8")
    where = "someone/some_course/{}launch/{}notebooks/B_conventions.ipynb"
    assert f"https://colab.research.google.com/github/{where.format('blob/', '')}" in page
    assert "https://mybinder.org/v2/gh/someone/some_course/launch?urlpath=tree/notebooks/B_conventions.ipynb" in page
    monkeypatch.setenv("LEARN_DIFFUSION_REPOSITORY", "javascript:alert(1)")
    with pytest.raises(SystemExit, match="expected https://host/owner/name"):
        launch.settings()


def head(path: Path) -> dict[str, str]:
    """What a page says of itself to other sites: name -> content."""
    text = path.read_text(encoding="utf-8").split("</head>")[0]
    said = re.findall(r'<meta (?:property|name)="([\w:]+)" content="([^"]*)"', text)
    return dict(said + re.findall(r'rel="(canonical)" href="([^"]*)"', text))


def test_every_page_says_what_it_is_about_and_without_an_address_names_none(pages):
    for path in every(pages):
        said = head(path)
        assert said["og:title"] in path.read_text(encoding="utf-8").split("<title>")[1], path.name
        assert len(said["og:description"]) > 30 or path.stem in ("404", "references"), path.name
        assert said["description"] == said["og:description"]
        assert said["og:site_name"] == "learn_diffusion"
        assert not said.keys() & {"canonical", "og:url", "og:image"}, path.name
    assert head(pages / "index.html")["og:description"].startswith("A course on diffusion models")
    assert head(pages / "notebooks" / "07_training_on_images.html")["og:description"].startswith("write the whole")
    assert not (pages / "sitemap.xml").exists()


def test_with_an_address_pages_and_sitemap_name_it(known, monkeypatch):
    _, built = known
    address = "https://someone.github.io/some_course/notebooks/B_conventions.html"
    said = head(built / "notebooks" / "B_conventions.html")
    assert (said["canonical"], said["og:url"]) == (address, address)
    root, _, picture = said["og:image"].partition("some_course/")
    assert root == "https://someone.github.io/"
    width, height = Image.open(built / picture).size
    assert 1.7 < width / height < 2.1  # what previews show
    assert 1000 < width <= 1200
    sitemap = ElementTree.parse(built / "sitemap.xml")
    assert [place.text for place in sitemap.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")] == [address]
    assert '<base href="/some_course/"' in (built / "404.html").read_text(encoding="utf-8")
    assert "canonical" not in head(built / "404.html")
    app = SimpleNamespace(config=SimpleNamespace(html_baseurl="https://host/course/"))
    assert sharing.address(app, "index") == "https://host/course/"
    for wrong in ("host/course", "https://host/course?x", "javascript:alert(1)"):
        monkeypatch.setenv("LEARN_DIFFUSION_SITE", wrong)
        with pytest.raises(SystemExit, match="expected https://host/path"):
            sharing.settings()


def test_a_notebook_in_colab_fetches_the_course_only_where_it_is_missing(tmp_path, monkeypatch):
    """The first code cell, run by IPython beside no installed package, with pip and git as they are asked."""
    notebook = launch.fetching(nbformat.read(NOTEBOOKS / "00_start_here.ipynb", as_version=4), "https://host/o/n")
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[1].cell_type == "code"
    nbformat.validate(notebook)
    shell = InteractiveShell.instance()
    asked = []
    monkeypatch.setattr(shell, "system", asked.append)
    monkeypatch.setattr(shell, "run_line_magic", lambda name, line, **_: asked.append(f"{name} {line}"))
    monkeypatch.setattr(site, "addsitedir", asked.append)
    shell.run_cell(notebook.cells[1].source).raise_error()
    assert asked == []  # it is installed here
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    shell.run_cell(notebook.cells[1].source).raise_error()
    assert asked == [
        "git clone --quiet --depth 1 https://host/o/n learn_diffusion_course",
        "pip install --quiet --editable learn_diffusion_course",
        os.path.abspath("learn_diffusion_course"),
    ]


def test_a_page_with_a_time_that_was_never_measured_is_refused():
    table = build.table()
    assert re.fullmatch(r"\d+ s", build.filled("{{time 07}}", table))
    assert build.filled("{{chapters}}", table).count(".ipynb)") == len(list(NOTEBOOKS.glob("*.ipynb")))
    with pytest.raises(SystemExit, match="time 99"):
        build.filled("{{time 99}}", table)


def test_a_page_shows_a_table_as_its_benchmark_kept_it_and_refuses_one_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    table = build.tables.Table("Speed", ["who", "seconds", "more"], [["we", 0.12345, 1], ["they", 1234, 2]], ["a note"])
    path = tmp_path / "benchmarks" / "results" / "speed.json"
    build.tables.write(path, "python speed.py", [table], 1.0)
    whole, part = build.filled("{{table speed 0}}\n\n{{table speed 0: more; who}}", "").split("\n\n**Speed**")
    assert "| we   | 0.123   | 1    |" in whole
    assert "| they | 1,234   | 2    |" in whole
    assert whole.endswith(": `python speed.py`")
    assert "| more | who  |" in part
    assert "| 1    | we   |" in part
    for wrong in ("speed 1", "speed 0: less", "quality 0"):
        with pytest.raises(SystemExit, match=wrong.split(":")[0]):
            build.filled(f"{{{{table {wrong}}}}}", "")


def kept(name: str, i: int) -> list[dict]:
    """The rows of a measured table; of columns with one name, the first."""
    table = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))["tables"][i]
    return [dict(reversed([*zip(table["columns"], row, strict=True)])) for row in table["rows"]]


def mean_and_bar(cell: str) -> tuple[float, float]:
    mean, bar = map(float, cell.split(" ± "))
    return mean, bar


def test_the_page_on_peers_says_what_its_tables_say():
    assert max(row["difference"] for row in kept("parity", 0)) < 2e-5  # "no pixel differs by more than"
    beside_azula = [row["difference"] for row in kept("parity", 2) if row["azula"] != "xEABSampler"]
    assert max(beside_azula) < 1e-12  # "the last digits of double precision"
    pictures, work = {}, {}
    for row in kept("throughput", 0):
        size = row["size"], row["batch"]
        pictures[size] = min(row["ours / peer"], pictures.get(size, 9))
        work[size] = min(row["the same by FLOP"], work.get(size, 9))
    assert all(0.97 < ratio < 1.15 for (side, n), ratio in pictures.items() if side == "32x32x3" and n >= 16)
    small = [pictures["8x8x1", n] for n in (1, 16, 64, 128)]
    assert small == sorted(small)  # "the smaller the batch, the more"
    assert all(6 / 7 < ratio < 1 for ratio in small[2:])  # "by up to a seventh"
    for row in kept("operations", 0):
        shares = {kind: float(share[:-1]) for kind, share in row.items() if str(share).endswith("%")}
        backward, forward = shares.pop("convolutions, backward"), shares.pop("convolutions, forward")
        assert forward + backward > max(share for kind, share in shares.items() if kind != "the rest")
    assert max(work.values()) < 1  # "by operations the best peer is ahead"
    ours, *stock = kept("quality", 1)
    tenth, bar = mean_and_bar(ours["distance"])
    ends = [mean_and_bar(row["distance"]) for row in stock]
    assert all(tenth + bar < end - more for end, more in ends)  # "nearer than each of the others at its end"
    assert all(5 < row["s"] / ours["s"] < 15 for row in stock)  # "a tenth of the seconds"
    assert round(max(row["parameters"] for row in stock) / ours["parameters"]) == 26  # "up to 26 times as large"
    small, large = (
        {(row["optimizer"], row["target"], row["steps"]): row for row in kept("optimizers", i)} for i in (0, 1)
    )
    for target, seconds in (("x0", "52"), ("v", "60")):
        half, whole, adamw = (
            large[key, target, steps] for key, steps in (("muon", 200), ("muon", 400), ("adamw", 400))
        )
        assert (half["s"], adamw["s"]) == (seconds, "91")  # "after 52 seconds in place of 91"
        (near, bar), (far, more) = (mean_and_bar(row["distance"]) for row in (half, adamw))
        assert near < far  # "end nearer"
        assert 0.4 < mean_and_bar(whole["distance"])[0] / far < 0.6  # "about half"
        (one, bar), (other, more) = (mean_and_bar(small[key, target, 400]["distance"]) for key in ("muon", "adamw"))
        assert abs(one - other) < max(bar, more)  # "cannot be told apart"
        assert int(small["muon", target, 400]["s"]) > int(small["adamw", target, 400]["s"])  # "take longer"


def test_the_page_on_peers_says_what_fresh_noise_gains():
    fresh = ("ours: ddim, eta 1", "diffusers: DDPM")
    reached = {row["sampler"] for row in kept("sampling", 1) if row["calls"]}
    assert reached == set(fresh)  # "only the walks with fresh noise get there"
    far = {(row["sampler"], row["calls"]): row["distance"] for row in kept("sampling", 0)}
    bar = {(row["sampler"], row["calls"]): row["± over seeds"] for row in kept("sampling", 0)}
    assert [round(far[name, 50], 2) for name in fresh] == [0.68, 0.68]
    others = [value for (name, calls), value in far.items() if calls in (49, 50) and name not in fresh]
    astray = others.pop(others.index(far["diffusers: Heun", 49]))
    assert (round(min(others), 2), round(max(others), 2)) == (0.84, 0.9)
    notes = json.loads((ROOT / "benchmarks" / "results" / "sampling.json").read_text())["tables"][0]["notes"]
    assert "training digits against held-out ones: 0.826" in notes  # "as they come, are at 0.83"
    assert (round(astray), round(far["diffusers: Heun, Karras sigmas, leading", 49], 2)) == (8, 0.86)
    assert all(0.07 < bar[name, 50] < 0.13 for name, calls in far if calls == 50)  # "spread by about 0.1"
    solvers = ("ours: dpmpp_2m", "diffusers: DPMSolverMultistep")
    five = [round(far[name, 5], 2) for name in (*solvers, "diffusers: UniPC", fresh[0])]
    assert five == [1.57, 1.54, 1.23, 1.82]
    for name in solvers:  # "with 10 they are level"
        assert abs(far[name, 10] - far[fresh[0], 10]) < bar[fresh[0], 10]


def test_the_page_on_peers_says_how_far_its_scenes_come():
    ours, *stock = kept("quality_scenes", 1)
    assert ours["distance"] == "521 ± 31"  # "after a minute, to 521"
    assert 55 < ours["s"] < 65
    assert all(550 < row["s"] < 650 for row in stock)  # "in their ten minutes"
    sizes = [row["parameters"] / 1e6 for row in stock]
    assert (round(min(sizes)), round(max(sizes))) == (4, 18)  # "of 4 to 18 million weights"
    noise = 2249  # computed again in test_benchmarks.py
    far = {row["recipe"]: mean_and_bar(row["distance"])[0] for row in stock}
    assert far.pop("diffusers, stock") / noise > 0.9  # "still nearly noise"
    assert all(0.4 < value / noise < 0.6 for value in far.values())  # "half-way"


def test_the_page_on_peers_says_what_is_ours_in_it():
    found = {row["recipe"]: mean_and_bar(row["distance"]) for row in kept("ablation", 1)}
    ours, bar = found["ours"]
    for part in ("ours, AdamW", "ours, target v"):
        assert found[part][0] - ours > bar + found[part][1]
        assert 0.7 < ours / found[part][0] < 0.8  # "about a quarter"
    assert min(far for name, (far, _) in found.items() if name.endswith("matched")) > 4 * ours


def test_the_other_pages_say_what_their_measured_tables_say():
    peaks = re.findall(r"([\d.]+) GB of memory", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert f"at most {max(map(float, peaks))} GB" in (ROOT / "book/instructors.md").read_text(encoding="utf-8")
    lessons = {(row["kernels"], row["threads a kernel"]): row for row in kept("concurrent_kernels", 0)}
    alone, four, crowd = (lessons[n, "1"] for n in (1, 4, 20))
    assert (crowd["finished"], crowd["failed"]) == (20, 0)  # "everybody finishes"
    assert round(crowd["minutes in all"] / alone["minutes in all"]) == 10  # "ten times as long as alone"
    assert round(crowd["GB together, at most"] / 20, 1) == 0.4  # "about 0.4 GB each"
    assert 30 < crowd["s to the first picture, median"] < 60  # "after more than half a minute"
    busy = lessons[4, "torch's choice"]
    assert round(busy["minutes in all"] / four["minutes in all"]) == 5  # "five times as long"
    asked = {row["training"]: row for row in kept("scaling", 0)}
    ratios = [row["GB of a batch"] / row["GB of weights"] for row in asked.values()]
    assert [round(ratio) for ratio in ratios[:3]] == [3, 3, 4]  # "about three to four times as much"
    assert ratios[3] > 100  # "for the pixels more than a hundred times"
    codes, pixels = "photographs, 256x256 in codes", "photographs, 256x256"
    assert 9 < asked[pixels]["GFLOP a picture"] / asked[codes]["GFLOP a picture"] < 11  # "ten times the operations"
    assert round(asked[pixels]["MB a picture"] / asked[codes]["MB a picture"]) == 25
    assert round(asked[codes]["million weights"]) == 246
    plan = {row["training"]: row for row in kept("scaling", 1)}
    bound, unit = plan["latent_scenes_by_caption"]["here"].split()
    took = checkpoints.read(pretrained_path("latent_scenes_by_caption"))[2]["seconds"] / 60
    assert unit == "min"
    assert 0.24 < float(bound) / took < 0.26  # "the bound is a quarter of that"
    assert round(took) == 164
    alone, eight = (float(plan[name][key].split()[0]) for name, key in ((codes, "1 GPU"), (pixels, "8 GPUs, one host")))
    assert "days" in plan[codes]["1 GPU"]
    assert alone < eight  # "fewer days on one GPU than the fourth on eight"
    on_eight, on_many = (plan[codes][key].split() for key in ("8 GPUs, one host", "64 GPUs, 8 hosts"))
    assert on_eight[1] == on_many[1]
    assert float(on_eight[0]) < float(on_many[0])  # "from 8 GPUs to 64 their training gets slower"
    assert round(float(plan[codes]["share of talking, 64 GPUs"].rstrip("%")), -1) == 90  # "9 parts in 10"
    power = {row["what grows"]: row["s a training step"] for row in kept("model_scaling", 1)}
    assert 0 < power["weights"] < 1  # "less than the weights"
    assert 0 < power["batch"] < 1  # "less than its batch"
    assert 1 < power["side"] < 2  # "less than the number of pixels"
    assert abs(power["pictures"]) < 0.1  # "more data cost no time"
    same = [r for r in kept("model_scaling", 0) if (r["batch"], r["side"], r["widths"]) == (64, 32, "32-64")]
    assert len(same) == 6  # "timed six times here"
    measured = kept("scaling", 2)
    gains = {(row["pictures"], row["batch"]): row["speed-up"] for row in measured}
    assert gains["8x8", 16] == min(gains.values()) < 1  # "two processes are slower than one"
    assert all(row["two threads"] < 1.05 * row["two processes"] for row in measured)  # "about as fast, or faster"


def test_the_page_on_the_challenge_says_what_its_table_and_its_rules_say():
    rows = {row["entry"]: row for row in kept("challenge", 0)}
    one, two, four = (
        {name: mean_and_bar(row[calls]) for name, row in rows.items()} for calls in ("1 call", "2 calls", "4 calls")
    )
    assert one["reflow"][0] < one["meanflow"][0] / 3  # "less than a third of MeanFlow's"
    for few in (two, four):  # "cannot be told apart"
        assert abs(few["reflow"][0] - few["meanflow"][0]) < few["reflow"][1] + few["meanflow"][1]
    assert one["flow"] > two["flow"] > four["flow"]  # "nearer with every call"
    assert 2 * one["real digits"][0] < min(four[name][0] for name in ("flow", "meanflow", "reflow"))
    assert {row["copied"] for row in rows.values()} == {"0.0%"}  # "no entry copies"
    assert {path.stem for path in (ROOT / "benchmarks" / "challenge").glob("*.py")} == rows.keys() - {"real digits"}
    page = (ROOT / "book" / "challenge.md").read_text(encoding="utf-8")
    assert f"at most {challenge.WEIGHTS:,} parameters" in page
    assert f"at most {challenge.SECONDS:g} seconds" in page
    assert f"at most {challenge.MFLOP:g} MFLOP" in page
    assert f"{challenge.PICTURES} pictures" in page


def test_no_page_names_a_file_on_another_host(pages):
    """Scripts, styles, fonts, pictures; links that a reader may click are another matter."""
    for path in pages.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="(https?:)?//', text)
        fetched += re.findall(r'<link[^>]*rel="(?:stylesheet|preload|icon)"[^>]*href="(https?:)?//', text)
        assert not fetched, path.name


def every(pages):
    """All pages for readers; search and index are the theme's own."""
    return [
        path for path in [*sorted(pages.glob("*.html")), *chapters(pages)] if path.stem not in ("search", "genindex")
    ]


CONTRAST = ("index", "404", "playground", "instructors", "glossary", "00_start_here", "13_editing", "A_failure_museum")
SHEETS = "() => [...document.querySelectorAll('.ld-scrubber')].every((figure) => figure.querySelector('canvas'))"

CUT = """() => [...document.querySelectorAll('.cell_input pre')].filter((box) => box.scrollWidth > box.clientWidth + 1)
    .map((box) => box.textContent.slice(0, 60))"""


class Visit(NamedTuple):
    """What a reader's browser saw of a page."""

    asked: list[str]  # addresses
    complaints: list[str]  # of scripts, and of files that are not there
    inaccessible: list  # findings; of colours only on pages that show between them everything that has colours
    sliders: list[bool]  # whether each moves
    cut: list[str]  # cells whose code does not fit into its box on a screen of 1200
    narrow: int  # pixels that the page takes on a screen of 375


@pytest.fixture(scope="module")
def visits(browser, site, pages):
    """Every page, opened once."""
    seen = {}
    for path in every(pages):
        page = browser.new_page(color_scheme="dark")
        asked, complaints = [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("pageerror", lambda error, complaints=complaints: complaints.append(str(error)))
        page.on("console", lambda line, complaints=complaints: line.type == "error" and complaints.append(line.text))
        page.goto(f"{site}/{path.relative_to(pages)}", wait_until="load")
        page.wait_for_function(SHEETS)
        sliders = [moves(slider) for slider in page.locator(".ld-scrubber input[type=range]").all()]
        found = []
        if AXE.exists():
            page.add_script_tag(path=AXE)
            if path.stem in CONTRAST:
                found = colours(page, "dark")
                page.emulate_media(color_scheme="light")
                page.reload(wait_until="load")
                page.add_script_tag(path=AXE)
                found += colours(page, "light")
            found += findings(page, "{rules: {'color-contrast': {enabled: false}}}")
        page.set_viewport_size({"width": 1200, "height": 900})
        cut = page.evaluate(CUT)
        page.set_viewport_size({"width": 375, "height": 700})
        narrow = page.evaluate("document.documentElement.scrollWidth")
        page.close()
        seen[path] = Visit(asked, complaints, found, sliders, cut, narrow)
    return seen


def moves(slider) -> bool:
    """The canvases change under the keyboard, with no kernel anywhere."""
    seen = []
    for key in ("Home", "End"):
        slider.press(key)
        seen.append(slider.evaluate(PIXELS))
    return seen[0] != seen[1]


def colours(page, theme: str) -> list:
    assert page.locator("html").get_attribute("data-theme") == theme
    return findings(page, "{runOnly: ['color-contrast']}")


def test_the_pages_ask_no_other_host_and_complain_of_nothing(visits, site, pages):
    runtime = (pages / "_static" / "playground" / "models" / "manifest.json").exists()
    for path, visit in visits.items():
        assert [url for url in visit.asked if not url.startswith((site, "data:"))] == [], path.name
        in_vain = path.stem == "playground" and not runtime  # without npm the page looks for a file that is not there
        assert visit.complaints == [] or in_vain, path.name


def test_the_pages_are_small(pages):
    for path in every(pages):
        assert path.stat().st_size < (500_000 if path.stem == "index" else 2_000_000), path.name


def test_the_first_page_with_its_pictures_is_small(pages):
    page = pages / "index.html"
    pictures = {src for src in sources(page) if not src.startswith("data:")}
    assert len(pictures) == len(list(NOTEBOOKS.glob("*.ipynb")))
    assert page.stat().st_size + sum((pages / src).stat().st_size for src in pictures) <= 500_000


def sources(page: Path) -> list[str]:
    return re.findall(r'<img[^>]*\ssrc="([^"]*)"', page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("width", [1200, 375])
def test_the_first_screen_has_a_slider_and_three_doors(browser, site, pages, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"{site}/index.html")
    page.wait_for_function(SHEETS)
    doors = page.locator(".ld-doors a")
    assert doors.all_text_contents() == ["Read", "Play", "Run"]
    for door in doors.all():
        assert (pages / door.get_attribute("href")).is_file()
    for part in page.locator(".ld-first, .ld-scrubber, .ld-doors li").all():
        box = part.bounding_box()
        assert box["y"] + box["height"] <= 800
        assert box["x"] + box["width"] <= width
    slider, canvas = page.locator(".ld-first input[type=range]"), page.locator(".ld-first canvas")
    assert slider.bounding_box()["width"] > 200  # long enough for a finger
    page.keyboard.press("Tab")
    while not slider.evaluate("slider => slider === document.activeElement"):
        page.keyboard.press("Tab")
    seen = []
    for key, frame in [("Home", "0"), ("ArrowRight", "1"), ("End", slider.get_attribute("max"))]:
        page.keyboard.press(key)
        assert canvas.get_attribute("data-frame") == frame
        seen.append(canvas.evaluate("canvas => canvas.toDataURL()"))
    assert len(set(seen)) == 3
    page.locator(".ld-doors li").nth(1).click(position={"x": 5, "y": 5})  # the whole door is its link
    page.wait_for_url("**/playground.html")
    page.close()


CARD = re.compile(
    r'<div class="ld-card .*?alt="([^"]*)".*?src="([^"]*)".*?href="notebooks/(\w+)\.html".*?doc">(.*?)</span>'
    r".*?<p>(.*?)</p>\s*<p>(.*?) · (.*?) · (.*?) cores</p>\s*</div>",
    re.S,
)


def test_every_chapter_has_a_card_with_a_picture_and_the_facts_of_the_readme(pages):
    cards = CARD.findall((pages / "index.html").read_text(encoding="utf-8"))
    row = r"\| \[(.+?)\]\(notebooks/(\w+)\.ipynb\) \| (.+?) \| (.+?) and (.+?) of memory on (.+?) CPU cores"
    rows = re.findall(row, build.table())
    assert [(topic, name, html.unescape(asked), *facts) for _, _, name, topic, asked, *facts in cards] == rows
    for alt, src, name, *_ in cards:
        assert len(alt) >= 8
        assert Image.open(pages / src).size == landing.SIZE
        assert (pages / "notebooks" / f"{name}.html").is_file()


def test_a_tagged_picture_stands_for_its_chapter_or_else_the_most_colourful():
    def shown(level: tuple[int, int, int], alt: str, **metadata) -> nbformat.NotebookNode:
        address = data_uri(*encode(np.full((4, 6, 3), level, np.uint8)))
        data = {"text/html": f'<img alt="{alt}" src="{address}">'}
        outputs = [nbformat.v4.new_output("display_data", data)]
        return nbformat.v4.new_code_cell(outputs=outputs, metadata=metadata)

    title, grey, tint = (
        nbformat.v4.new_markdown_cell("# 99 None: why?"),
        shown((9, 9, 9), "grey"),
        shown(GAP_COLOUR, "tint"),
    )
    red, tagged = shown((200, 0, 0), "a &lt; b"), shown((9, 9, 9), "tagged", tags=["card"])
    frames = np.full((6, 3, 4, 4), np.linspace(-1, 1, 6)[:, None, None, None])
    frames[:, 0] = -1  # no red: less colourful than red, more so than grey
    slider = Scrubber(frames, list("abcdef"), alt="a slider")
    film = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", {"text/html": slider.html})])

    def chosen(*cells) -> landing.Picture:
        return landing.picture(nbformat.v4.new_notebook(cells=[title, *cells]))

    assert chosen(grey, red, tint).alt == "a < b"
    assert chosen(grey, tint).alt == "grey"
    assert chosen(red, tagged).alt == "tagged"
    third = chosen(grey, film)
    assert third.alt == "a slider"
    assert third.rgb.shape == (4, 4, 3)
    assert third.rgb[0, 0].tolist() == [0, 102, 102]  # the frame at a third of the way
    assert landing.fitted(third.rgb).size == landing.SIZE
    with pytest.raises(SystemExit, match="99 None: why\\?: expected a stored picture"):
        chosen()


def test_a_missing_page_has_the_sites_style_and_links_that_work_at_any_depth(browser, site):
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    asked = []
    page.on("response", lambda response: asked.append((response.status, response.url)))
    page.goto(f"{site}/no/such/page.html")
    assert page.locator("article h1").inner_text().startswith("Page not found")
    (status, _), *files = asked
    assert status == 404
    assert len(files) > 10
    assert all(status < 400 and url.startswith((site, "data:")) for status, url in files)
    assert page.locator(".bd-sidebar-primary").bounding_box()["x"] == 0  # styled: beside the text, not above it
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map((link) => link.href)")
    assert len(links) > 20
    assert {link for link in links if not page.request.get(link).ok} == set()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skip to the content: of this page
    page.wait_for_url("**/404.html#main-content")
    page.get_by_role("link", name="first page").click()
    page.wait_for_url(f"{site}/index.html")
    page.close()


def test_no_line_of_code_runs_out_of_its_box(visits):
    assert {path.name: visit.cut for path, visit in visits.items() if visit.cut} == {}


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("flow matching", "10_straighter_paths"),
        ("classifier-free guidance", "11_guidance"),
        ("inpainting", "13_editing"),
        ("DDIM", "09_fewer_steps"),
        ("text to image", "12_text_to_image"),
        ("GAN", "15_the_gan_race"),
        ("UNet", "06_unet"),
    ],
)
def test_the_search_finds_a_topic_on_its_own_page_first(browser, site, words, page):
    tab = browser.new_page()
    tab.goto(f"{site}/search.html?q={words}")
    first = tab.locator("#search-results ul.search li a").first
    first.wait_for()
    assert page in first.get_attribute("href")
    tab.close()


WIDEST = """() => {
  const box = document.querySelector('.cell_input pre');
  box.textContent = 'x'.repeat(88);
  const pen = document.createElement('canvas').getContext('2d');
  const text = document.querySelector('.bd-article p');
  pen.font = `${getComputedStyle(text).fontSize} ${getComputedStyle(text).fontFamily}`;
  const prose = 'a small network learns to say which part of a noised picture is noise ';
  return {
    cut: box.scrollWidth > box.clientWidth,
    characters: text.clientWidth / (pen.measureText(prose).width / prose.length),
    picture: document.querySelector('.cell_output').clientWidth / text.clientWidth,
  };
}"""


@pytest.mark.parametrize("width", [1200, 1400, 1920])
def test_a_line_has_70_characters_of_text_or_88_of_code_and_pictures_have_more_room(browser, site, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"{site}/notebooks/07_training_on_images.html")
    seen = page.evaluate(WIDEST)
    assert not seen["cut"]
    assert 62 < seen["characters"] < 80  # the width of a letter depends on the reader's font
    assert seen["picture"] > 1.15
    page.close()


@pytest.mark.parametrize("width", [1200, 375])
def test_there_is_one_search_button_and_it_opens_the_search(browser, site, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"{site}/index.html")
    buttons = page.locator(".search-button__button >> visible=true")
    assert buttons.count() == 1
    buttons.click()
    page.locator("#pst-search-dialog input[type=search]").wait_for()
    page.close()


def test_the_sidebar_and_the_next_page_say_number_and_topic(pages):
    text = (pages / "notebooks" / "07_training_on_images.html").read_text(encoding="utf-8")
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    assert re.findall(r'"caption-text">(.*?)</span></p>', text)[: len(toc["parts"])] == [
        part["caption"] for part in toc["parts"]
    ]
    for chapter in (chapter for part in toc["parts"] for chapter in part["chapters"] if "title" in chapter):
        assert f">{chapter['title']}</a>" in text
    assert re.findall(r'prev-next-title">(\w+ [\w ]+)', text) == ["06 The UNet", "08 Sampling"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_printed_page_is_the_text_alone_in_black_with_the_addresses_of_its_links(browser, site, theme):
    page = browser.new_page(color_scheme=theme)
    page.goto(f"{site}/errata.html")
    page.emulate_media(media="print", color_scheme=theme)
    for place in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".prev-next-footer"):
        assert not page.locator(place).first.is_visible(), place
    page.evaluate("""() => {
      const link = document.querySelector('.bd-article p').appendChild(document.createElement('a'));
      link.href = 'https://example.org/there';
    }""")
    link = page.locator(".bd-article a[href*='example.org']")
    assert "(" in link.evaluate("a => getComputedStyle(a, '::after').content")  # the address, in brackets
    colour = page.locator(".bd-article p").first.evaluate("p => getComputedStyle(p).color")
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 80  # dark enough for paper
    page.close()


def test_every_page_fits_a_telephone(visits):
    assert {path.name: visit.narrow for path, visit in visits.items() if visit.narrow > 375} == {}


def test_every_page_passes_the_accessibility_checker_also_in_the_dark(visits):
    if not AXE.exists():
        pytest.skip("no axe-core found: npm ci in book/ brings it")
    assert {path.name: visit.inaccessible for path, visit in visits.items() if visit.inaccessible} == {}


def test_every_chapter_has_sliders_and_all_of_them_move(visits, pages):
    for path, visit in visits.items():
        assert all(visit.sliders), path.name
        assert visit.sliders or path not in chapters(pages), path.name
