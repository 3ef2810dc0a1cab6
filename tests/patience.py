"""A pytest plugin for nbval (`-p patience`), which waits 5 seconds for what a cell that has ended still has to print.

On a machine with two notebooks at a time, or one that was asleep meanwhile, that is too short.
"""

from __future__ import annotations

from nbval.plugin import IPyNbCell

SECONDS = 60
made = IPyNbCell.__init__


def patient(self, *arguments, **options) -> None:
    made(self, *arguments, **options)
    self.output_timeout = SECONDS


IPyNbCell.__init__ = patient
