"""A Sphinx extension: what other sites and a web server read of the pages.

Every page says its title and a description, for previews of links to it. Canonical addresses, the preview's picture and
sitemap.xml need the public address of the site. LEARN_DIFFUSION_SITE is the one place for it: the Pages workflow
fills it in. Where it is not set, they are left out, and 404.html takes the site to be at the root of its host.
"""

from __future__ import annotations

import os
import re
import textwrap
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes

MISSING = """<section>
<h1>Page not found</h1>
<p>There is no page at this address. It may have been renamed.</p>
<p>The <a href="index.html">first page</a> lists all chapters, and the <a href="search.html">search</a> knows every
page. Or begin with <a href="notebooks/00_start_here.html">chapter 00</a>.</p>
</section>"""


def settings() -> dict[str, dict[str, str]]:
    """What to add to _config.yml: the public address, or nothing. Raises SystemExit for what is none."""
    found = os.environ.get("LEARN_DIFFUSION_SITE", "").rstrip("/")
    if found and not re.fullmatch(r"https?://[\w.:-]+(/[\w.~-]+)*", found):
        raise SystemExit(f"LEARN_DIFFUSION_SITE: expected https://host/path, got {found!r}")
    return {"html": {"baseurl": f"{found}/"}} if found else {}


def describe(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Add a page's title, description and address to its head."""
    config, title = app.config, re.sub("<[^>]+>", "", context.get("title", ""))
    tags = {"og:type": "website", "og:site_name": escape(config.html_title), "og:title": title}
    tags["og:description"] = escape(description(doctree) or title, quote=True)
    if config.html_baseurl and doctree is not None:
        context["pageurl"] = address(app, pagename)
        tags |= {"og:url": escape(context["pageurl"]), "og:image": f"{escape(config.html_baseurl)}_static/social.png"}
    head = "".join(f'<meta property="{name}" content="{content}" />\n' for name, content in tags.items())
    head += f'<meta name="description" content="{tags["og:description"]}" />\n'
    if pagename == "404":  # a server sends it in place of a page at any depth: links count from the site's own folder
        context["pageurl"] = None
        root = escape(urlsplit(config.html_baseurl or "/").path)
        head = f'<base href="{root}" />\n<meta name="robots" content="noindex" />\n{head}'
    context["metatags"] = f"{context.get('metatags', '')}\n{head}"


def description(doctree) -> str:
    """The first paragraph of a page; of a chapter, which begins with what you will do, that list."""
    for node in doctree.findall(lambda node: isinstance(node, nodes.bullet_list | nodes.paragraph)) if doctree else ():
        if len(text := " ".join(node.astext().split())) > 40:
            return textwrap.shorten(text, 200, placeholder=" ...")
    return ""


def address(app, pagename: str) -> str:
    """The public address of a page; of the first page, that of the site."""
    return app.config.html_baseurl + ("" if pagename == "index" else app.builder.get_target_uri(pagename))


def missing(app):
    yield "404", {"title": "Page not found", "body": MISSING}, "page.html"


def finish(app, exception) -> None:
    """Write sitemap.xml where the address is known, and let the places within 404.html stay within it."""
    if exception or app.builder.name != "html":
        return
    page = Path(app.outdir, "404.html")
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace('href="#', 'href="404.html#'), encoding="utf-8")  # not places of the first page
    if app.config.html_baseurl:
        places = "".join(f"<url><loc>{escape(address(app, name))}</loc></url>\n" for name in sorted(app.env.found_docs))
        Path(app.outdir, "sitemap.xml").write_text(
            '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
            f"{places}</urlset>\n",
            encoding="utf-8",
        )


def setup(app) -> dict[str, bool]:
    app.connect("html-page-context", describe)
    app.connect("html-collect-pages", missing)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
