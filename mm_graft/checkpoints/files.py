"""Checkpoint files from one layout to another, with a record of where they come from."""

import hashlib
import io
import json
from collections import OrderedDict
from pathlib import Path

import torch

from mm_graft.checkpoints import digest
from mm_graft.checkpoints.conversion import (
    LAYOUTS,
    MMPRETRAIN,
    check_encoder,
    convert_backbone,
    convert_model,
    detect_layout,
)
from mm_graft.checkpoints.layouts import BASE, Converted, StateDict
from mm_graft.checkpoints.localmim import plain_encoder
from mm_graft.checkpoints.reading import CheckpointError, read_content, read_parts
from mm_graft.checkpoints.resize import resize_model
from mm_graft.files import atomic_write, parse_json
from mm_graft.version import __version__

PROVENANCE = 'provenance'
SUFFIXES = ('.pth', '.safetensors')


def convert_file(source: str | Path, target: str | Path, layout: str | None, to: str, branch: str = 'base',
                 grid: tuple[int, int] | None = None) -> dict:
    """Write a checkpoint in another layout; returns the record of provenance that stands in the new file.

    Args:
        source: the file.
        target: the new file, ``.pth`` or ``.safetensors``. It appears whole or not at all.
        layout: layout of the source; detected if None.
        to: layout of the target.
        branch: which encoder of a contrastive checkpoint becomes the encoder of the result.
        grid: rows and columns of patches to which positions are interpolated; None keeps them.

    Raises:
        CheckpointError: the source is unusable, of another layout, or more than the target can hold.
    """
    _check_target(target)
    tensors, rest = read_parts(source)
    try:
        layout = layout or detect_layout(tensors)
        result = convert_model(resize_model(tensors, grid) if grid else tensors, layout, to, branch)
    except (ValueError, TypeError, RuntimeError, LookupError) as error:
        raise CheckpointError(f'checkpoint {source}: {error}') from error
    record = provenance(source, layout, to, branch, {**rest, **result.dropped})
    if grid:
        record['grid'] = list(grid)
    with atomic_write(target) as part:
        part.write_bytes(serialize(result.backbone, record, to, Path(target).suffix))
    return record


def publish_file(source: str | Path, folder: str | Path, name: str, layout: str | None = None, branch: str = 'base',
                 suffix: str = '.pth', plain: bool = False) -> Path:
    """Write the encoder alone, in mmpretrain's layout, as ``folder/name-<first 8 of its sha256><suffix>``.

    Args:
        source: the file.
        folder: where to.
        name: how the new file's name begins.
        layout: layout of the source; detected if None.
        branch: which encoder of a contrastive checkpoint.
        suffix: ``.pth`` or ``.safetensors``.
        plain: for a ViT without LocalMIM's taps.

    Raises:
        CheckpointError: the source is unusable or of another layout.
    """
    _check_target(Path(folder, name + suffix))
    tensors, rest = read_parts(source)
    try:
        layout = layout or detect_layout(tensors)
        encoder = convert_backbone(tensors, layout, branch)
        check_encoder(encoder.backbone)
        encoder = plain_encoder(encoder) if plain else encoder
    except (ValueError, TypeError, RuntimeError, LookupError) as error:
        raise CheckpointError(f'checkpoint {source}: {error}') from error
    result = Converted({BASE + key: tensor for key, tensor in encoder.backbone.items()}, encoder.dropped)
    record = provenance(source, layout, MMPRETRAIN, branch, {**rest, **result.dropped})
    content = serialize(result.backbone, record, MMPRETRAIN, suffix)
    path = Path(folder, f'{name}-{hashlib.sha256(content).hexdigest()[:8]}{suffix}')
    with atomic_write(path) as part:
        part.write_bytes(content)
    return path


def provenance(source: str | Path, layout: str, to: str, branch: str, dropped: dict[str, str]) -> dict:
    """Where a file comes from: source and its hash, layouts, tool, and what was left out for which reason."""
    return {
        'source': Path(source).name,
        'source_sha256': hashlib.sha256(Path(source).read_bytes()).hexdigest(),
        'from': layout,
        'to': to,
        'branch': branch,
        'tool': f'mm_graft {__version__}',
        'dropped': dropped,
    }


def serialize(tensors: StateDict, record: dict, layout: str, suffix: str) -> bytes:
    """The content of a file: the state dict in the container of its layout, with the record beside it.

    timm's users load a bare state dict; there the record is an attribute of it, as PyTorch's own ``_metadata`` is.
    """
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    if suffix == '.safetensors':
        from safetensors.torch import save
        texts = {PROVENANCE: json.dumps(record), 'format': 'pt', digest.RECORD: digest.of_tensors(tensors)}
        return save(tensors, texts)
    container = 'state_dict' if layout == MMPRETRAIN else LAYOUTS[layout].container
    if container is None:
        content = OrderedDict(tensors)
        content.provenance = record
    else:
        content = {container: tensors, PROVENANCE: record}
        if layout == MMPRETRAIN:
            content['meta'] = {}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    digest.seal(buffer)
    return buffer.getvalue()


def read_provenance(path: str | Path) -> dict | None:
    """The record in a file written here, or None.

    Raises:
        CheckpointError: no such file, damaged, or not safe to open.
    """
    content = read_content(path)
    record = getattr(content, 'metadata', {}).get(PROVENANCE) or getattr(content, PROVENANCE, None)
    if isinstance(content, dict):
        record = content.get(PROVENANCE) or record
    if isinstance(record, str):
        try:
            record = parse_json(record)
        except ValueError as error:
            raise CheckpointError(f'checkpoint {path}: its record of provenance is damaged') from error
    return record if isinstance(record, dict) else None


def _check_target(path: str | Path) -> None:
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f'{path}: the format follows the name; end it in one of {SUFFIXES}')
