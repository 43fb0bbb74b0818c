"""Algorithms, backbones, necks, heads, losses and targets.

Importing this room imports every module in it, which registers the classes: a new file needs no line elsewhere.
"""

from mm_graft.registry import import_submodules

import_submodules(__name__, __path__)
