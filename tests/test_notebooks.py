"""The notebooks as files: normalised, in order, without errors, described in words, small, and on their own feet."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import nbformat
import pytest
import yaml

from tools.notebooks import KERNEL, MARKS, NOTEBOOKS, ROOT, WIDGET, chapter_table, measured, normalise

# name: bytes, for a notebook that may exceed the bound, with the reason beside it
LARGER = {
    "12_text_to_image": 480_000,  # drawn scenes in colour at 64x64, and a slider of them
    "13_editing": 330_000,  # the same, and two sliders of them
    "14_latents_and_transformers": 430_000,  # scenes in colour at 64x64 under four sliders
    "16_art_and_design": 330_000,  # patterns in colour, with the grain of a small model, and two sliders of them
    "17_game_worlds": 330_000,  # maps in colour, and two films
    "18_product_pictures": 390_000,  # pictures in colour at 64x64
    "20_stable_diffusion": 330_000,  # scenes in colour at 64x64 under three sliders
    "28_one_photograph": 440_000,  # a photograph, and canvases by two models, up to 320 pixels wide
}
BOUND = 300_000  # bytes of a notebook
FIGURE_BOUND = 100 * 1024  # bytes of one output
# what a student can hold: lines that are not blank in a cell and in a chapter, and characters in a line (alt texts too)
CELL, CHAPTER, LINE = 25, 250, 79
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
# cells that show what a training or a distance came to, which differs from processor to processor, and progress bars
MAY_DIFFER = {
    "04_what_to_predict": 1,
    "05_first_denoiser": 5,
    "06_unet": 3,
    "07_training_on_images": 6,
    "09_fewer_steps": 4,
    "10_straighter_paths": 7,
    "11_guidance": 4,
    "12_text_to_image": 6,
    "13_editing": 7,
    "14_latents_and_transformers": 6,
    "15_the_gan_race": 8,
    "16_art_and_design": 5,
    "17_game_worlds": 7,
    "18_product_pictures": 6,
    "19_science": 8,
    "20_stable_diffusion": 5,
    "21_flow_maps": 7,
    "22_adapting": 10,
    "23_memorisation": 7,
    "24_likelihood": 3,
    "28_one_photograph": 3,
    "A_failure_museum": 9,
}

each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def problems(nb: nbformat.NotebookNode) -> list[str]:
    """What is wrong with a notebook's cells and outputs, in words."""
    found = []
    for i, cell in enumerate(cell for cell in nb.cells if cell.cell_type == "code"):
        where = f"code cell {i + 1}"
        if cell.execution_count != i + 1:
            found.append(f"{where}: executed out of order ({cell.execution_count})")
        for out in cell.outputs:
            if out.output_type == "error":
                found.append(f"{where}: stored error {out.ename}")
            if out.output_type == "stream" and out.name == "stderr":
                found.append(f"{where}: stored stderr")
            data = out.get("data", {})
            if WIDGET in data:
                found.append(f"{where}: stored widget state")
            if any(kind.startswith("image/") for kind in data):
                found.append(f"{where}: a bare picture, which has no alt text; use learn_diffusion.plots")
            found += [f"{where}: {problem}" for problem in missing_alt("".join(data.get("text/html", "")))]
            if len(json.dumps(data)) > FIGURE_BOUND:
                found.append(f"{where}: an output of {len(json.dumps(data))} bytes, expected at most {FIGURE_BOUND}")
    return found + [p for cell in nb.cells if cell.cell_type == "markdown" for p in missing_alt(cell.source)]


class _Images(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.alts = []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.alts.append(dict(attributes).get("alt") or "")


def missing_alt(page: str) -> list[str]:
    parser = _Images()
    parser.feed(page)
    markdown = re.findall(r"!\[(.*?)\]\(", page)
    return ["a picture without alt text" for alt in parser.alts + markdown if len(alt.strip()) < 8]


@each
def test_has_no_problems(path):
    assert problems(read(path)) == []


@each
def test_is_normalised(path):
    assert normalise(read(path)) == read(path), f"{path.name}: run `make notebooks ONLY={path.stem[:2]}`"


@each
def test_is_small(path):
    bound = LARGER.get(path.stem, BOUND)
    assert path.stat().st_size <= bound, f"{path.name}: {path.stat().st_size} bytes, expected at most {bound}"


@each
def test_needs_no_other_folder_and_no_network(path):
    """Data comes through the package; a path, a download or a shell line would tie the notebook to one machine."""
    for cell in read(path).cells:
        if cell.cell_type == "code":
            for line in cell.source.splitlines():
                assert not re.match(r"\s*[!%]", line), f"{path.name}: {line!r}"
                assert not re.search(r"https?://|urllib|requests|open\(|\.\./|os\.chdir|sys\.path", line), line


@each
def test_has_the_form_of_a_chapter(path):
    nb = read(path)
    assert nb.cells[0].source.startswith("# ")
    assert nb.cells[0].source.splitlines()[0].endswith("?"), "a chapter's title is a question"
    assert "**You will**" in nb.cells[0].source
    assert re.fullmatch(r"\d+ s and \d+\.\d GB of memory on \d+ CPU cores", measured(nb))
    assert nb.metadata == nbformat.from_dict(KERNEL)


@each
def test_only_results_of_training_are_left_uncompared(path):
    ignored = [cell for cell in read(path).cells if "nbval-ignore-output" in cell.metadata.get("tags", [])]
    assert len(ignored) <= MAY_DIFFER.get(path.stem, 0)


def test_the_readme_has_the_measured_table():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.split(MARKS[0])[1].split(MARKS[1])[0].strip() == chapter_table(), "run `make notebooks`"


def test_the_verdict_of_the_race_is_quoted_as_chapter_15_prints_it():
    outputs = [out.get("text", "") for cell in read(NOTEBOOKS / "15_the_gan_race.ipynb").cells
               for out in cell.get("outputs", [])]  # fmt: skip
    (verdict,) = re.findall(r"f (\d+ comparisons: .+)", "\n".join(outputs))
    for path in (NOTEBOOKS / "00_start_here.ipynb", ROOT / "book" / "instructors.md"):
        quoted = re.findall(r"f (\d+ comparisons: \w+ \d+, \w+ \d+, \w+ \d+)", " ".join(path.read_text().split()))
        assert quoted == [verdict], path.name


def test_the_guide_quotes_the_table_of_chapter_12():
    outputs = [
        str(out.get("data", {}).get("text/plain", ""))
        for cell in read(NOTEBOOKS / "12_text_to_image.ipynb").cells
        for out in cell.get("outputs", [])
    ]
    printed = re.findall(r"unseen triple .+ ([\d.]+)% ± .+\n +unseen pair .+ ([\d.]+)% ± ", "\n".join(outputs))
    guide = " ".join((ROOT / "book" / "instructors.md").read_text(encoding="utf-8").split())
    quoted = re.findall(r"right in ([\d.]+) % of unseen triples, and in ([\d.]+) % of unseen pairs", guide)
    assert quoted == printed
    assert len(quoted) == 1


def test_links_between_chapters_lead_somewhere():
    for path in PATHS:
        for cell in read(path).cells:
            if cell.cell_type == "markdown":
                for target in re.findall(r"\]\((\w+\.ipynb)\)", cell.source):
                    assert (NOTEBOOKS / target).exists(), f"{path.name} links to {target}"


def too_much(nb: nbformat.NotebookNode) -> list[str]:
    """Where the code of a chapter exceeds what a student can hold, in words."""
    cells = [
        [line for line in cell.source.splitlines() if line.strip()] for cell in nb.cells if cell.cell_type == "code"
    ]
    found = [f"code cell {i + 1}: {len(cell)} lines" for i, cell in enumerate(cells) if len(cell) > CELL]
    found += [f"code cell {i + 1}: {line}" for i, cell in enumerate(cells) for line in cell if len(line) > LINE]
    total = sum(map(len, cells))
    return found + [f"{total} lines in all"] * (total > CHAPTER)


@each
def test_a_chapter_is_no_more_than_a_student_can_hold(path):
    assert too_much(read(path)) == []


def test_too_much_is_found():
    def chapter(*sources: str) -> nbformat.NotebookNode:
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])

    assert too_much(chapter("x = 1\n\n" * 25, "#" * 79)) == []
    assert too_much(chapter("x = 1\n" * 26)) == ["code cell 1: 26 lines"]
    assert too_much(chapter("y" * 80)) == [f"code cell 1: {'y' * 80}"]
    assert too_much(chapter(*["x = 1\n" * 25] * 11)) == ["275 lines in all"]


@each
def test_a_title_names_the_topic_and_asks_its_question(path):
    """ "# NN Topic: question?", with the number and topic of the sidebar."""
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    topics = {page["file"]: page["title"] for part in contents["parts"] for page in part["chapters"] if "title" in page}
    first = read(path).cells[0].source.splitlines()[0]
    assert first.startswith(f"# {topics[f'notebooks/{path.stem}']}: ")
    assert first.endswith("?")


def uses_networks(path) -> bool:
    """Whether a chapter trains, loads or samples from a network."""
    code = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    return bool(re.search(r"\b(checkpoints\.load|training\.train|train|train_gan|Denoiser)\(", code))


def pinned(source: str) -> list[str]:
    """Lines that say where to compute, without a comment that says why."""
    return [line for line in source.splitlines() if re.search(r"""["']cpu["']""", line) and "#" not in line]


@each
def test_a_chapter_computes_where_a_gpu_is(path):
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    assert [line for cell in code for line in pinned(cell)] == []
    assert "device = resolve_device()" in code[0] or not uses_networks(path)


def test_a_pinned_device_is_found():
    assert pinned("train(model, x, 10, device=\"cpu\")\ncheckpoints.load(path, 'cpu')") != []
    assert pinned('x = y.cpu()\nkrige(x.to("cpu"))  # scipy reads the host\'s memory') == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda cell: cell.update(execution_count=7), "out of order"),
        (lambda cell: cell.outputs.append(nbformat.v4.new_output("error", ename="KeyError")), "stored error"),
        (lambda cell: cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text="x")), "stderr"),
        (lambda cell: cell.outputs.append(_shown({"image/png": "iVBO"})), "bare picture"),
        (lambda cell: cell.outputs.append(_shown({"text/html": '<img src="data:">'})), "without alt text"),
        (lambda cell: cell.outputs.append(_shown({"text/html": "x" * 200_000})), "expected at most"),
        (lambda cell: cell.outputs.append(_shown({WIDGET: {}})), "widget state"),
    ],
)
def test_the_checks_above_can_fail(change, expected):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", execution_count=1)])
    assert problems(nb) == []
    change(nb.cells[0])
    assert any(expected in problem for problem in problems(nb))


def test_lines_that_arrive_in_pieces_are_stored_in_one():
    pieces = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("one", "\n", "two\n")]
    nb = normalise(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=pieces)]))
    assert [out.text for out in nb.cells[0].outputs] == ["one\ntwo\n"]
    assert normalise(nb) == nb


def _shown(data):
    return nbformat.v4.new_output("display_data", data=data)
