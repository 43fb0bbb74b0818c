"""How a command ends: input errors and Ctrl-C in one line, bugs with a traceback."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType

TRACEBACK = 'MM_GRAFT_TRACEBACK'
INTERRUPTED = 128 + signal.SIGINT
INPUT_ERRORS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError, RuntimeError,
                NameError, SyntaxError, OSError, subprocess.CalledProcessError)


class ReportedError(Exception):
    """Wraps an error that must keep its traceback, such as one of a run that has started."""


@contextmanager
def clean_errors() -> Iterator[None]:
    """Turn input errors into one line on stderr and exit status 1, Ctrl-C into one line and status 130.

    A :class:`ReportedError` keeps its traceback, as does every error with MM_GRAFT_TRACEBACK=1. A second Ctrl-C ends
    the process at once.
    """
    listening = signal.getsignal(signal.SIGINT) is signal.default_int_handler and current_thread() is main_thread()
    if listening:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        _tell('interrupted')
        sys.exit(INTERRUPTED)
    except ReportedError as error:
        raise error.__cause__ from None
    except INPUT_ERRORS as error:
        if os.environ.get(TRACEBACK):
            raise
        _tell(f'error: {one_line(error)}\n       (set {TRACEBACK}=1 for the traceback)')
        sys.exit(1)
    finally:
        if listening and signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def one_line(error: BaseException) -> str:
    """The message of an error in one line; with its place in the code if the message is empty or only a key."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = ' '.join(str(message).split())
    if text and not (isinstance(error, KeyError) and ' ' not in text):
        return text
    said = f'{type(error).__name__}: {text}' if text else type(error).__name__
    return f'{said} ({_origin(error)})' if error.__traceback__ else said


def _origin(error: BaseException) -> str:
    """The line that raised an error, with its file and number."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f'`{frame.line}`, {Path(frame.filename).name}:{frame.lineno}'


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _tell(text: str) -> None:
    sys.stderr.write(text + '\n')
