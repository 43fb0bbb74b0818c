"""The text of a config, laid out once.

For the files of a run, each tracker and each checkpoint MMEngine has yapf lay out the same text anew, which takes a
second each time.
"""

from collections.abc import Callable
from functools import wraps

from yapf.yapflib import yapf_api

MOST = 8  # texts that are remembered


def lay_out_once() -> None:
    """Have yapf remember the last texts that it was given."""
    if not hasattr(yapf_api.FormatCode, '__wrapped__'):
        yapf_api.FormatCode = remembering(yapf_api.FormatCode)


def remembering(lay_out: Callable) -> Callable:
    """The function, which looks among the last ``MOST`` texts and settings first."""
    known: dict = {}

    @wraps(lay_out)
    def remembered(text: str, **settings: object) -> tuple:
        key = text, repr(sorted(settings.items()))
        if key not in known:
            if len(known) >= MOST:
                known.pop(next(iter(known)))
            known[key] = lay_out(text, **settings)
        return known[key]

    return remembered
