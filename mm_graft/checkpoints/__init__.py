"""Checkpoints of every known layout: read safely, loaded completely or not at all, converted, published, exported."""

from .conversion import LAYOUT_NAMES, convert_backbone, convert_model, detect_layout
from .files import convert_file, publish_file
from .layouts import Converted
from .loader import Coverage, backbone_tensors, load_backbone
from .reading import CheckpointError, read_checkpoint, read_content

__all__ = [
    'LAYOUT_NAMES', 'CheckpointError', 'Converted', 'Coverage', 'backbone_tensors', 'convert_backbone', 'convert_file',
    'convert_model', 'detect_layout', 'load_backbone', 'publish_file', 'read_checkpoint', 'read_content'
]
