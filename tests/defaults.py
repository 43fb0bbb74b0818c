"""What a function or class takes where nothing is given."""

import inspect
from collections.abc import Callable


def defaults(thing: Callable) -> dict:
    """Name → default of every argument that has one."""
    parameters = inspect.signature(thing).parameters
    return {name: parameter.default for name, parameter in parameters.items()
            if parameter.default is not inspect.Parameter.empty}
