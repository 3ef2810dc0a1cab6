"""A Sphinx extension: pages that ask nothing of other hosts.

Formulas become MathML while the book is built. Every current browser draws MathML by itself and screen readers read it;
MathJax would come from another host, or from a package manager that `make book` does not otherwise need.

sphinx-thebe, which Jupyter Book always loads, is silenced: it puts the address of a script on another host into every
page, twice (a JavaScript error), and names a repository that is not ours.

The theme's pages load icons twice, as a font and as a script of 1.5 MB, and the whole index of the search on every
page; `lighten` leaves the font, and the index on the page that searches.
"""

from __future__ import annotations

import re
from pathlib import Path

import sphinx_thebe
from docutils import nodes
from latex2mathml.converter import convert

SILENCED = {sphinx_thebe.init_thebe_core, sphinx_thebe.update_thebe_context}


LONG = 40  # characters: such a formula may be wider than a telephone


def inline(translator, node: nodes.math) -> None:
    formula = convert(node.astext())
    translator.body.append(f'<span class="math-long">{formula}</span>' if len(node.astext()) > LONG else formula)
    raise nodes.SkipNode


def display(translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math-display" tabindex="0">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def silence_thebe(app, config) -> None:
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if listener.handler in SILENCED:
                app.disconnect(listener.id)


def lighten(app, exception: Exception | None) -> None:
    pages = Path(app.outdir)
    for page in pages.rglob("*.html") if exception is None else ():
        search = "" if page.name == "search.html" else "|searchtools|language_data|searchindex"
        spare = rf'<(script|link)[^>]*"[^"]*/?(?:fontawesome{search})\.js[^>]*>(?:</script>)?'
        page.write_text(re.sub(spare, "", page.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(display, None))
    app.connect("config-inited", silence_thebe)  # by then every extension is loaded
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
