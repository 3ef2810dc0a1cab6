"""Sliders: Scrubber runs in the reader's browser, also without a kernel; Interactive asks Python each time it is moved.

Frames that can be computed beforehand belong in a Scrubber: it answers at once, and on the website too. What truly
needs the model each time (a guidance scale, a prompt) needs Interactive. PaintedMask is a picture to paint on.
"""

from learn_diffusion.widgets.interactive import Interactive
from learn_diffusion.widgets.mask_painter import PaintedMask
from learn_diffusion.widgets.scrubber import Scrubber

__all__ = ["Interactive", "PaintedMask", "Scrubber"]
