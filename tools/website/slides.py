"""Build the slides of the ninety-minute plan: `python -m tools.website.slides [FOLDER]` writes book/_build/slides.

Chapters, their order and the speaker's notes come from the plan in book/instructors.md, and what the slides show from
the notebooks' stored cells and outputs, as SLIDES says. The folder needs no network: reveal.js comes from npm.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from PIL import Image

from tools import ROOT
from tools.notebooks import title
from tools.website import build as website
from tools.website import playground

# chapter -> heading -> what of that section is shown, in the notebook's order; "" is what stands above all headings
SLIDES = {
    "00": {"": "picture", "From noise to picture": "picture", "When is it decided?": "picture"},
    "01": {"One small step": "picture", "Do we have to walk?": "box picture", "Your turn": "exercise exercise"},
    "07": {"What we ask of the network": "box", "The training loop": "picture picture", "Does it draw?": "picture",
           "Your turn": "exercise"},
    "08": {"The naive idea: jump": "picture", "The better idea: a little less noise, then ask again": "box picture",
           "Take the chance out": "picture"},
    "12": {"": "picture", "The larger model, measured": "picture picture", "What it cannot do": "picture picture"},
    "A": {"Exhibit 2: filled holes": "picture", "Exhibit 3: noise that is not there": "printed",
          "Exhibit 9: uphill": "printed"},
}  # fmt: skip
QUESTION = re.compile(r"\*\*(?:Predict|Before|Guess|What)\b.*", re.S)
LONG = 250  # characters: of a paragraph that is as long, only the question is shown
WIDE, HIGH, GAP = 1184, 590, 32  # pixels that slides.html leaves below a heading, and between panels
PLAYER = "LICENSE", "dist/reveal.css", "dist/reveal.js", "dist/plugin/notes.js"


def markdown(text: str) -> str:
    """Markdown as HTML, its formulas as MathML; links, which lead to notebooks, become plain text."""
    shown = {True: "block", False: "inline"}
    formula = {"renderer": lambda tex, options: convert(tex, display=shown[options["display_mode"]])}
    reader = MarkdownIt("commonmark").use(dollarmath_plugin, **formula)
    for mark in ("link_open", "link_close"):
        reader.add_render_rule(mark, lambda *_: "")
    return reader.render(text)


def plan() -> tuple[str, list[dict[str, str]], str]:
    """The plan of 90 minutes: what stands above its table, the rows by their headings, and what stands below."""
    guide = (ROOT / "book" / "instructors.md").read_text(encoding="utf-8")
    chosen = re.search(r"^## Plan: 90 minutes\n(.*?)^## ", guide, re.M | re.S)[1]
    above, table, below = re.split(r"^```.*\n", website.filled(chosen, website.table()), flags=re.M)
    cells = (re.split(r"^  -", row, flags=re.M) for row in re.split(r"^\* -", table, flags=re.M)[1:])
    heads, *rows = ([" ".join(cell.split()) for cell in row] for row in cells)
    return above, [dict(zip(heads, row, strict=True)) for row in rows], below


def pieces(nb: nbformat.NotebookNode) -> Iterator[tuple[str, str, str]]:
    """Heading, kind and content of all that a slide could use: text, answer, box, picture, printed or exercise."""
    heading = ""
    for cell, after in zip(nb.cells, [*nb.cells[1:], None], strict=True):
        if cell.cell_type == "markdown":
            for part in re.split(r"(<details>.*?</details>|^## [^\n]*)", cell.source, flags=re.M | re.S):
                if part.startswith("## "):
                    heading = part[3:]
                elif part.startswith("<details>"):
                    yield heading, "answer", re.sub(r"<summary>.*?</summary>|</?details>", "", part)
                else:
                    for text in re.split(r"\n\s*\n", part.strip()):
                        yield heading, "box" if text.startswith(">") else "text", text
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                yield heading, "picture", data["text/html"]
            elif data.get("text/markdown", "").startswith("**Exercise"):  # the task, and the answer to begin with
                task, code = re.split(r"(?<=\.) \(", data["text/markdown"])[0], after.source.split("\n\n\n")[0]
                yield heading, "exercise", f"{task}\n```\n{code}\n```"
            elif output.output_type == "stream":
                yield heading, "printed", f"<figure><pre>{html.escape(output.text)}</pre></figure>"


def slides(nb: nbformat.NotebookNode, topic: str, wanted: dict[str, str]) -> Iterator[str]:
    """The slides of a chapter: what is wanted, under the question asked before it; answers become notes."""
    left = {heading: kinds.split() for heading, kinds in wanted.items()}
    made, question, before = [], "", ""
    for heading, kind, content in pieces(nb):
        if heading != before:
            question, before = "", heading
        if kind == "text" and (asked := QUESTION.search(content)):
            question = content if len(content) < LONG else asked[0]
        elif kind == "answer" and made and made[-1][0] == heading:
            made[-1][2] += markdown(content)
        elif left.get(heading, [])[:1] == [kind]:
            left[heading].pop(0)
            made.append([heading or topic, body(kind, content, question and markdown(question)), ""])
            question = ""
    if missing := {heading: kinds for heading, kinds in left.items() if kinds}:
        raise SystemExit(f"slides, chapter {topic}: the notebook no longer has {missing}")
    return (section(*slide) for slide in made)


def body(kind: str, content: str, question: str) -> str:
    """What stands below the heading. A picture that answers the question appears at the next key; what is printed is
    what the question is about."""
    if kind == "exercise":
        return markdown(content)
    if kind == "box":  # its name, its formula, where it holds, and the sentence that says it in words
        parts = re.split(r"\n\s*\n", re.sub(r"^> ?", "", content, flags=re.M))
        words = (" ".join(re.findall(r"This holds [^.]*\.|In words: \*.*?\*", part, re.S)) for part in parts)
        kept = (part if part.startswith(("**", "$$")) else said for part, said in zip(parts, words, strict=True))
        return '<div class="box">' + markdown("\n\n".join(kept)) + "</div>"
    asked = f'<div class="question">{question}</div>' if question else ""
    if kind == "printed":
        return asked + content
    shown = enlarged(content, question)
    return f'{asked}<div class="fragment">{shown}</div>' if asked else shown


def section(name: str, shown: str, notes: str, kind: str = "") -> str:
    aside = f'<aside class="notes">{notes}</aside>' if notes else ""
    return f'<section class="{kind}"><h1>{html.escape(name)}</h1>{shown}{aside}</section>\n'


def enlarged(figure: str, question: str) -> str:
    """A figure of a notebook as large as its slide has room for; each pixel becomes a square of whole pixels."""
    caption = re.search(r"<figcaption[^>]*>(.*?)<|$", figure)[1] or ""
    high = HIGH - 38 * -(-len(re.sub("<.*?>", "", question)) // 75) - 33 * -(-len(caption) // 90) - 30
    if found := re.search(r'data-scrubber="([^"]*)"', figure):
        settings = json.loads(html.unescape(found[1]))
        panels = settings["panels"]
        wide, tall = ([panel[side] * panel["zoom"] for panel in panels] for side in ("width", "height"))
        head = 38 * any(panel["title"] for panel in panels)
        high -= 70 if max(map(len, settings["labels"])) < 50 else 110  # the slider; a long label stands below it
        beside = min((WIDE - GAP * (len(panels) - 1)) / sum(wide), (high - head) / max(tall))
        below = min(WIDE / max(wide), (high - (head + 16) * len(panels)) / sum(tall))
        for panel in panels:
            panel["zoom"] = max(1, int(panel["zoom"] * max(beside, below) + 1e-9))
        return figure.replace(found[1], html.escape(json.dumps(settings)) + '" data-prevent-swipe="', 1)
    width, height = WIDE, high
    if pixels := re.search(r'image-rendering:pixelated" src="data:image/\w+;base64,([^"]*)', figure):
        width, height = Image.open(io.BytesIO(base64.b64decode(pixels[1]))).size
        zoom = max(1, min(WIDE // width, high // height))
        width, height = width * zoom, height * zoom
    if live := re.search(r"\((\w+ = [^)]*)\)", figure):  # a control's still picture: what the model was asked for
        figure = re.sub(r"This control asks Python[^<]*", live[1], figure)
    return re.sub(r' width="\d+"', f' width="{width}"', figure, count=1).replace("height:auto", f"height:{height}px")


def deck() -> str:
    """The page with all slides."""
    above, rows, below = plan()
    late, *asides = re.split(r"^(?:\(.*\)=\n)?### ", below, flags=re.M)
    made = [section("Diffusion models in ninety minutes", markdown(above), markdown(late), "title")]
    for chapter in dict.fromkeys(row["chapter"] for row in rows):
        parts = [row for row in rows if row["chapter"] == chapter]
        told = "\n\n".join(
            f"**{head}:** {cell}" for row in parts for head, cell in row.items() if cell and head != "chapter"
        )
        if not chapter:  # what the room does, and what to say, are for the room
            made.append(section(parts[0]["the room"], markdown(parts[0]["what to say"]), markdown(told), "title"))
            continue
        number, path = re.match(r"\[(\w+)\]\((.*)\)", chapter).groups()
        nb = nbformat.read(ROOT / path, as_version=4)
        topic = nb.cells[0].source.split(":")[0].removeprefix("# ")
        told += "".join(f"\n\n#### {aside}" for aside in asides if f"chapter {number}" in aside.splitlines()[0])
        made.append(section(title(nb), f"<p>{html.escape(topic)}</p>", markdown(told), "title"))
        made += slides(nb, topic, SLIDES[number])
    return Path(__file__).with_suffix(".html").read_text(encoding="utf-8").replace("{{slides}}", "".join(made))


def build(out: Path = playground.BOOK) -> Path:
    """The folder of the slides, made anew. Raises OSError where npm, which brings reveal.js, is missing or fails."""
    folder, package = out / "_build" / "slides", playground.packages() / "reveal.js"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "reveal").mkdir(parents=True)
    (folder / "index.html").write_text(deck(), encoding="utf-8")
    for name in PLAYER:
        shutil.copy(package / name, folder / "reveal")
    return folder


if __name__ == "__main__":
    try:
        print(build(*(Path(arg).resolve() for arg in sys.argv[1:])) / "index.html")
    except OSError as error:
        raise SystemExit(f"The slides were not built: {error}") from error
