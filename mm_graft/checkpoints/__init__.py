"""Checkpoints of every known layout: read safely, loaded completely or not at all, converted, published, exported."""

from .containers import read_checkpoint
from .conversion import convert_backbone, convert_model
from .detection import LAYOUT_NAMES, detect_layout
from .files import Origin, convert_file, publish_file
from .hub_folder import write_hub_folder
from .layouts import Converted
from .loader import Coverage, backbone_tensors, load_backbone
from .reading import CheckpointError, read_content

__all__ = [
    'LAYOUT_NAMES', 'CheckpointError', 'Converted', 'Coverage', 'Origin', 'backbone_tensors', 'convert_backbone',
    'convert_file', 'convert_model', 'detect_layout', 'load_backbone', 'publish_file', 'read_checkpoint',
    'read_content', 'write_hub_folder'
]
