"""Checkpoints of every known layout, read safely and loaded completely or not at all."""

from .conmim import conmim_to_mmpretrain
from .layouts import KINDS, Converted, convert, detect_kind
from .loader import CheckpointError, Coverage, backbone_tensors, load_backbone, read_checkpoint
from .localmim import from_localmim

KINDS['conmim'] = conmim_to_mmpretrain
KINDS['localmim'] = from_localmim

__all__ = [
    'KINDS', 'CheckpointError', 'Converted', 'Coverage', 'backbone_tensors', 'convert', 'detect_kind', 'load_backbone',
    'read_checkpoint'
]
