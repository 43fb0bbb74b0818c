"""Checkpoints of every known layout, read safely and loaded completely or not at all."""

from .layouts import KINDS, Converted, convert, detect_kind
from .loader import CheckpointError, Coverage, load_backbone, read_checkpoint

__all__ = [
    'KINDS', 'CheckpointError', 'Converted', 'Coverage', 'convert', 'detect_kind', 'load_backbone', 'read_checkpoint'
]
