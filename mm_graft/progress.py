"""How far something is: a bar in a terminal; in a log or a pipe, which overwrite nothing, a line now and then."""

import sys
import time

from tqdm import tqdm

SECONDS = 30  # between two lines


class Progress(tqdm):
    """tqdm's bar where standard error is a terminal, else at most a line in ``SECONDS``; arguments are tqdm's."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.drawn, self.last_line = in_terminal(), time.monotonic()
        plain = {} if self.drawn else {
            'leave': False, 'bar_format': '{desc}: {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}{postfix}]'}
        super().__init__(*args, **{**kwargs, **plain})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or write a line if it is time for one."""
        if self.drawn:
            return super().display(msg, pos)
        if msg != '' and time.monotonic() - self.last_line >= SECONDS:  # tqdm takes a bar away by an empty message
            self.last_line = time.monotonic()
            self.fp.write(f'{self}\n')
        return False

    def clear(self, nolock: bool = False) -> None:
        """Take the bar away for a line of others; lines stay."""
        if self.drawn:
            super().clear(nolock)


def in_terminal() -> bool:
    """Whether somebody sees a bar on standard error."""
    return sys.stderr.isatty()
