"""The handouts: one A4 page a part, to print and to write on. `page()` is the website's _static/handouts.html.

All of it comes from the notebooks: a chapter's question, its exercises, the formula of its first box and the sentence
that says it in words, and the first prediction that it asks for. So nothing has to follow here when a chapter changes.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat

from tools.notebooks import title
from tools.website import landing, slides

ASKED = re.compile(r"(?:\*\*(?:Predict|Before|Guess)\b|\*\*What [^*]*\?\*\*).*")
POINTS_BACK = re.compile(r"\b(?:the first|it|they|them|these|this|that)\b|^\*\*Predict\*\*")
RULE = '<p class="rule"></p>'


def words(nb: nbformat.NotebookNode) -> str:
    """What the chapter's first box says, as a formula where it has one and in words; empty where no box does."""
    for _, kind, content in slides.pieces(nb):
        box = re.sub(r"^> ?", "", content, flags=re.M) if kind == "box" else ""
        if said := re.search(r"In words: \*(.*?)\*((?<![.!?]\*) \$[^$]+\$)?(?=[\s.]|$)", box, re.S):
            formula = re.search(r"\$\$(.*?)\$\$|\$\\qquad(.*?)\$", box, re.S)
            shown = f"${inline((formula[1] or formula[2]).strip())}$ &emsp; " if formula else ""
            sentence = " ".join((said[1] + (said[2] or "")).split())
            return shown + sentence[0].upper() + sentence[1:]
    return ""


def inline(tex: str) -> str:
    """A displayed formula for one line; of what MathML's converter cannot read, \\big\\| keeps its bars."""
    tex = re.sub(r"\\(?:begin|end)\{aligned\}|&", "", tex.replace(r"\big\|", r"\|"))
    return tex.replace("\\\\", r",\quad ")


def prediction(nb: nbformat.NotebookNode) -> str:
    """What the room is asked first; empty where nothing is. Of a long paragraph only the question, with the sentence
    before it where the question points back.
    """
    for _, kind, content in slides.pieces(nb):
        text = " ".join(content.split())
        if kind == "text" and (asked := ASKED.search(text)):
            shown = re.sub(r" \([^()]*\)$", "", asked[0] if len(text) >= slides.LONG else text)  # less a hint
            if len(text) >= slides.LONG and POINTS_BACK.search(shown):
                before = re.split(r"(?<=[.?!]) |(?<=[.?!]\)) ", text[: asked.start()].strip())[-1]
                shown = f"{before} {shown}"
            return shown.strip()
    return ""


def exercises(nb: nbformat.NotebookNode) -> list[str]:
    """The names of its exercises."""
    tasks = (content for _, kind, content in slides.pieces(nb) if kind == "exercise")
    return [re.match(r"\*\*Exercise ([\w.]+)\.", task)[1] for task in tasks]


def chapter(topic: str, nb: nbformat.NotebookNode) -> str:
    done = "".join(f"<span>&#9744;&nbsp;{name}</span>" for name in exercises(nb))
    said, asked = words(nb), prediction(nb)
    parts = [
        f'<header><h2>{html.escape(topic)}: {html.escape(title(nb))}</h2><p class="exercises">{done}</p></header>',
        f'<div class="words">{slides.markdown(said) if said else "In one sentence:" + RULE}</div>',
        slides.markdown(asked) + RULE if asked else "",
    ]
    return f"<article>{''.join(parts)}</article>\n"


def page() -> str:
    """The page with all parts, complete: it asks for no other file."""
    parts = []
    for caption, pages in landing.parts():
        chapters = "".join(chapter(each["title"], landing.notebook(each)) for each in pages)
        parts.append(f"<section><h1>{html.escape(caption)}</h1>\n{chapters}</section>\n")
    return Path(__file__).with_suffix(".html").read_text(encoding="utf-8").replace("{{parts}}", "".join(parts))
