"""Sliders: Scrubber needs no kernel and works on a static page; Live asks Python again at every change."""

from learn_diffusion.widgets.live import Live
from learn_diffusion.widgets.scrubber import Scrubber

__all__ = ["Live", "Scrubber"]
