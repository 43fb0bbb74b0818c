"""Checkpoints of every known layout: read safely, loaded completely or not at all, converted, published, exported."""

from .files import convert_file, publish_file
from .kinds import KINDS, convert, detect_kind, exchange
from .layouts import Converted
from .loader import Coverage, backbone_tensors, load_backbone
from .reading import CheckpointError, read_checkpoint, read_content

__all__ = [
    'KINDS', 'CheckpointError', 'Converted', 'Coverage', 'backbone_tensors', 'convert', 'convert_file', 'detect_kind',
    'exchange', 'load_backbone', 'publish_file', 'read_checkpoint', 'read_content'
]
