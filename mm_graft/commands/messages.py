"""How a command ends: input errors and Ctrl-C in one line, bugs with a traceback."""

import os
import reprlib
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
STOPPED = {signal.SIGINT: 'interrupted', signal.SIGTERM: 'terminated'}  # the last line
INPUT_ERRORS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError, RuntimeError,
                NameError, SyntaxError, OSError, subprocess.CalledProcessError)
PLAIN = (str, int, float, list, tuple, dict, type(None))


class ReportedError(Exception):
    """Wraps an error that must keep its traceback, such as one of a run that has started."""


@contextmanager
def clean_errors() -> Iterator[None]:
    """Turn input errors into one line on stderr and exit status 1, Ctrl-C and SIGTERM into one and status 130 or 143.

    A :class:`ReportedError` keeps its traceback, as does every error with MM_GRAFT_TRACEBACK=1. A second signal ends
    the process at once. SIGTERM ends one of several processes without a word, which may wait for the others.
    """
    earlier = _listen()
    try:
        yield
    except KeyboardInterrupt as stop:
        number = stop.args[0] if stop.args else signal.SIGINT
        sys.stderr.write(f'{STOPPED[number]}\n')
        sys.exit(128 + number)
    except ReportedError as error:
        raise error.__cause__ from None
    except (*INPUT_ERRORS, ArithmeticError) as error:
        if os.environ.get(TRACEBACK) or (isinstance(error, ArithmeticError) and not _component(error)):
            raise
        sys.stderr.write(f'error: {one_line(error)}\n       (set {TRACEBACK}=1 for the traceback)\n')
        sys.exit(1)
    finally:
        for number, handler in earlier.items():
            if signal.getsignal(number) is _stop:
                signal.signal(number, handler)


def one_line(error: BaseException) -> str:
    """The message of an error in one line.

    With its place in the code if the message is empty or only a key, and with the component and its settings if one
    that was being built from a config raised it without a check of ours.
    """
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = ' '.join(str(message).split())
    if not text or (isinstance(error, KeyError) and ' ' not in text):
        text = f'{type(error).__name__}: {text}' if text else type(error).__name__
        text = f'{text} ({_origin(error)})' if error.__traceback__ else text
    return _component(error) + text


def _origin(error: BaseException) -> str:
    """The line that raised an error, with its file and number."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f'`{frame.line}`, {Path(frame.filename).name}:{frame.lineno}'


def _component(error: BaseException) -> str:
    """Beginning of the message about a component that an error ended; empty if none, or if we raised it ourselves."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    building = {}
    for frame in frames:
        if frame.f_code.co_name == 'build_from_cfg':
            building = frame.f_locals['cfg']
        elif frame.f_code.co_name == 'build_dataloader':
            building = {}  # the loop that builds it has other settings
    ours = frames and frames[-1].f_globals.get('__name__', '').startswith('mm_graft.')
    told = ours and traceback.extract_tb(error.__traceback__)[-1].line.startswith('raise')
    if told or not isinstance(building, dict) or 'type' not in building:
        return ''
    kind = building['type']
    given = ', '.join(f'{key}={reprlib.repr(value)}' for key, value in building.items()
                      if key not in ('type', '_scope_') and isinstance(value, PLAIN))
    return f'{getattr(kind, "__name__", kind)} cannot be built with {given or "no settings"}: '


def _listen() -> dict[signal.Signals, object]:
    """Install the handler of the signals that nobody handles yet; returns their handlers before."""
    if current_thread() is not main_thread():
        return {}
    usual = {signal.SIGINT: signal.default_int_handler}
    if int(os.environ.get('WORLD_SIZE', 1)) == 1:
        usual[signal.SIGTERM] = signal.SIG_DFL
    return {number: signal.signal(number, _stop) for number, handler in usual.items()
            if signal.getsignal(number) is handler}


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt(signal.Signals(number))
