"""The evaluation of the package lvis with NumPy from 1.24 on, which has no ``numpy.float`` any more.

Imported by ``custom_imports`` of the configs of LVIS; its newest release, 0.5.3, ends with an AttributeError otherwise.
Only the name by which ``lvis.eval`` knows NumPy is changed; NumPy itself stays. Without lvis nothing happens, so that
its own message says what to install.
"""

from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np


def give_float(module: object) -> None:
    """Let ``module.np.float`` be Python's float, as in old versions of NumPy."""
    module.np = SimpleNamespace(**{**vars(np), 'float': float})


if find_spec('lvis') is not None:
    give_float(import_module('lvis.eval'))
