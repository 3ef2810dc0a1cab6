"""axe-core on open pages, and what of its findings is not ours to mend."""

from __future__ import annotations

from tools import ROOT

AXE = ROOT / "book" / "node_modules" / "axe-core" / "axe.min.js"
# What the theme and Sphinx write themselves, and what the checker wrongly takes for a fault: rule, part of the element
KNOWN = [
    ("label-content-name-mismatch", "search-button"), ("label-content-name-mismatch", "theme-switch-button"),
    ("label-content-name-mismatch", "Toggle hidden content"), ("region", "sidebar-primary-item"),
    ("aria-allowed-role", "doc-biblioentry"), ("aria-deprecated-role", "doc-biblioentry"),
    ("aria-required-children", "citation-list"),
    ("empty-table-header", "<math"),  # a heading that is a formula: the checker does not read MathML
]  # fmt: skip


def findings(page, options: str) -> list[tuple[str, list[str], str]]:
    """What the accessibility checker finds on an open page, without what is KNOWN."""
    return [
        (violation["id"], node["target"], node["html"][:200])
        for violation in page.evaluate(f"async () => (await axe.run({options})).violations")
        for node in violation["nodes"]
        if not any(violation["id"] == rule and part in node["html"] for rule, part in KNOWN)
    ]
