"""What packages below say in every run though it asks nothing of its user: left out, so that the rest is read."""

import logging
import re
import warnings
from functools import wraps

WARNINGS = (
    'Fail to import ``MultiScaleDeformableAttention``',  # mmcv without compiled operators; no model here has them
    "Only use 'alpha' for pillow backend",  # mmcv, of each picture whose colors are changed
    'Seems like `optimizer.step()` has been overridden',  # MMEngine, of steps that PyTorch has wrapped
)
LINES = (
    '"FileClient" will be deprecated', '"HardDiskBackend" is the alias',  # MMEngine, of its own checkpoint hook
    'Exp name: ',  # before each line of the log, where the name of the file already says it
)


def leave_out_warnings() -> None:
    """Leave out the warnings; imports nothing."""
    for beginning in WARNINGS:
        warnings.filterwarnings('ignore', message=re.escape(beginning))


def leave_out_debugging() -> None:
    """Leave out what the host prints for debugging where no log has been started."""
    from mmengine import logging as host
    if not hasattr(host.print_log, '__wrapped__'):
        host.print_log = _without_debugging(host.print_log)


def asks_something(record: logging.LogRecord) -> bool:
    """A filter for a log: False for the lines that are left out."""
    return not record.getMessage().startswith(LINES)


def _without_debugging(print_log: object) -> object:
    """MMEngine's ``print_log``, which prints whatever the level is if no logger is named."""
    @wraps(print_log)
    def wrapped(msg: object, logger: object = None, level: int = logging.INFO) -> None:
        if logger is not None or level > logging.DEBUG:
            print_log(msg, logger, level)

    return wrapped
