"""For developers: run and normalise notebooks, build the website, serve pages to a browser, print and store tables."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
