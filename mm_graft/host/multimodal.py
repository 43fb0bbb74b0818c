"""mmpretrain without its multimodal models where the installed transformers is too new for them.

With pycocotools and transformers 5 or newer installed, ``import mmpretrain.models`` ends in ``NoneType takes no
arguments``: names that its BLIP code imports are gone, a bare ``except`` sets them to None, and classes are derived
from them. mmpretrain has placeholders for environments that lack its multimodal requirements; here it is made to use
them.
"""

import logging
import sys
from importlib.metadata import PackageNotFoundError, version

from mmengine.logging import print_log

NEWEST = 4  # major version of transformers that mmpretrain's multimodal models know


def too_new() -> str | None:
    """Version of the installed transformers, if mmpretrain cannot use it."""
    try:
        installed = version('transformers')
    except PackageNotFoundError:
        return None
    return installed if int(installed.split('.')[0]) > NEWEST else None


def leave_out_multimodal() -> None:
    """Make mmpretrain register placeholders for its multimodal models, unless they are imported."""
    installed = too_new()
    if installed is None or 'mmpretrain.models' in sys.modules:
        return
    from mmpretrain.utils import dependency
    if dependency.WITH_MULTIMODAL:
        dependency.WITH_MULTIMODAL = False
        print_log(f"transformers {installed} is newer than mmpretrain's multimodal models know; they are left out",
                  logger='current', level=logging.DEBUG)
