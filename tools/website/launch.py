"""Launch buttons: Colab and Binder open a chapter from the repository, whose address stands in the environment.

LEARN_DIFFUSION_REPOSITORY is the one place: the Pages workflow fills it in. Where it is not set, as on a laptop, the
pages have no buttons, rather than buttons that point nowhere.

`python -m tools.website.launch` puts a first cell into every notebook, which fetches the course where it is not
installed. Colab needs that: it opens a notebook without the repository around it. The workflow runs it on a branch of
its own, BRANCH.
"""

from __future__ import annotations

import os
import re
from typing import Any

import nbformat

from tools import ROOT

NOTEBOOKS = ROOT / "notebooks"
BRANCH = "launch"
FOLDER = "learn_diffusion_course"
CELL = """\
# Only where the course is not installed, as in Colab: fetch it.
import importlib.util
import os
import site

if importlib.util.find_spec("learn_diffusion") is None:
    !git clone --quiet --depth 1 {address} {folder}
    %pip install --quiet --editable {folder}
    site.addsitedir(os.path.abspath("{folder}"))  # this kernel started before the installation
"""


def address() -> str | None:
    """The repository's address, or None where none is set. Raises SystemExit for what is none."""
    found = os.environ.get("LEARN_DIFFUSION_REPOSITORY", "").removesuffix(".git").rstrip("/")
    if found and not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", found):
        raise SystemExit(f"LEARN_DIFFUSION_REPOSITORY: expected https://host/owner/name, got {found!r}")
    return found or None


def settings() -> dict[str, dict[str, Any]]:
    """What to add to _config.yml: the address and the buttons, or nothing."""
    found = address()
    if found is None:
        return {}
    return {
        "repository": {"url": found, "branch": BRANCH, "path_to_book": ""},
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com",
        },
    }  # fmt: skip


def fetching(notebook: nbformat.NotebookNode, repository: str) -> nbformat.NotebookNode:
    """The notebook with a first code cell that fetches the course; the title stays above it."""
    cell = nbformat.v4.new_code_cell(CELL.format(address=repository, folder=FOLDER), id="fetch-the-course")
    notebook.cells.insert(1, cell)
    return notebook


def main() -> None:
    found = address()
    if found is None:
        raise SystemExit("LEARN_DIFFUSION_REPOSITORY: expected the repository's address, it is not set")
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        nbformat.write(fetching(nbformat.read(path, as_version=4), found), path)


if __name__ == "__main__":
    main()
