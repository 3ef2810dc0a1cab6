"""A pytest plugin for nbval (`-p tools.nbval_patience`): a cell that has ended gets 60 seconds to print the rest.

nbval gives it 5. On a machine with two notebooks at a time, or one that was asleep meanwhile, that is too short.
"""

from __future__ import annotations

from nbval.plugin import IPyNbCell

SECONDS = 60
made = IPyNbCell.__init__


def patient(self, *arguments, **options) -> None:
    made(self, *arguments, **options)
    self.output_timeout = SECONDS


IPyNbCell.__init__ = patient
