"""Checkpoint files from one layout to another, with a record of where they come from."""

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from mm_graft.checkpoints import digest
from mm_graft.checkpoints.containers import PROVENANCE, provenance_of, read_file
from mm_graft.checkpoints.conversion import check_encoder, read_model, write_model
from mm_graft.checkpoints.detection import LAYOUTS, MMPRETRAIN, STEM, locate
from mm_graft.checkpoints.facts import Facts, read_facts
from mm_graft.checkpoints.grids import SourceGrid, find_grid, to_grid
from mm_graft.checkpoints.intact import training_meta
from mm_graft.checkpoints.layouts import BASE, Converted, StateDict, encoder_only
from mm_graft.checkpoints.localmim import plain_encoder
from mm_graft.checkpoints.reading import CheckpointError, first_non_finite, parts_of, read_content
from mm_graft.checkpoints.resize import Grid
from mm_graft.files import atomic_write, check_target, sha256_of_file
from mm_graft.version import __version__

SUFFIXES = ('.pth', '.safetensors')


@dataclass(frozen=True)
class Origin:
    """Which encoder of which file is taken."""

    path: str | Path
    layout: str | None = None  #: of the file; detected if None
    branch: str = 'base'  #: which encoder of a contrastive checkpoint
    prefix: str | None = None  #: what stands before the names of its model; found if None
    container: str | None = None  #: key under which the state dict stands; found if None
    grid: Grid | None = None  #: rows and columns of patches that its positions are for, where the file does not say

    def read(self, target: Grid | None = None) -> 'Source':
        """The model in mmpretrain's names, its provenance, and the stated facts.

        Positions are interpolated to the grid of patches ``target``, if one is given.
        """
        file = read_file(self.path, self.container, self.branch)
        branch = 'base' if file.is_average else self.branch
        with naming(self.path):
            layout = self.layout or locate(file.tensors, branch, None, self.prefix).layout
            model = read_model(file.tensors, layout, branch, self.prefix)
            check_encoder(encoder_only(model).backbone)
            if name := first_non_finite(model.backbone):
                raise ValueError(f'its weights are NaN or infinite, first {name}; use an earlier one')
            encoder = encoder_only(model).backbone
            facts = read_facts(file, layout, len(encoder[STEM]))
            grid = find_grid(encoder, self.grid, facts.grid)
            if target and grid:
                model = replace(model, backbone=to_grid(model.backbone, grid.grid, target))
                grid = SourceGrid(target, 'given')
        record = {
            'source': Path(self.path).name,
            'source_sha256': sha256_of_file(*parts_of(self.path)),
            'from': layout,
            'branch': self.branch,
            'tool': f'mm_graft {__version__}',
            'dropped': dict(file.rest),
            'heads': facts.heads,
            'activation': facts.activation,
            'eps': facts.eps,
            'pixels': facts.pixels,
            'grid': grid and list(grid.grid),
            'grid_known': grid and grid.how,
        }
        return Source(model, record, facts)


class Source(NamedTuple):
    """A model in mmpretrain's names, its provenance, and the facts that no tensor stores."""

    model: Converted
    record: dict
    facts: Facts


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Add the path of the checkpoint to errors."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, LookupError) as error:
        raise CheckpointError(f'checkpoint {path}: {error}') from error


def convert_file(origin: Origin, target: str | Path, to: str, grid: Grid | None = None) -> dict:
    """Write a checkpoint in another layout; returns the provenance that is recorded in the new file.

    Args:
        origin: the source.
        target: the new file, ``.pth`` or ``.safetensors``. It appears whole or not at all.
        to: layout of the target.
        grid: rows and columns of patches to which positions are interpolated; None keeps them.
    """
    _check_target(target, origin.path)
    model, record, _ = origin.read(grid)
    with naming(origin.path):
        result = write_model(model, to)
    record |= {'to': to, 'dropped': {**record['dropped'], **result.dropped}}
    with atomic_write(target) as part:
        part.write_bytes(serialize(result.backbone, record, to, Path(target).suffix))
    return record


def publish_file(origin: Origin, folder: str | Path, name: str, suffix: str = '.pth', plain: bool = False) -> Path:
    """Write the encoder alone, in mmpretrain's layout, as ``folder/name-<first 8 of its sha256><suffix>``.

    ``plain`` makes a ViT without LocalMIM's taps of it.
    """
    _check_target(Path(folder, name + suffix), origin.path)
    model, record, _ = origin.read()
    encoder = encoder_only(model)
    if plain and not any(name.startswith('tap_norms.') for name in encoder.backbone):
        raise CheckpointError(f"checkpoint {origin.path}: plain=True (--plain) is for LocalMIM's encoders, and this "
                              'one has no norms of taps; leave it out')
    encoder = plain_encoder(encoder) if plain else encoder
    record |= {'to': MMPRETRAIN, 'dropped': {**record['dropped'], **encoder.dropped}}
    tensors = {BASE + key: tensor for key, tensor in encoder.backbone.items()}
    content = serialize(tensors, record, MMPRETRAIN, suffix)
    path = Path(folder, f'{name}-{hashlib.sha256(content).hexdigest()[:8]}{suffix}')
    with atomic_write(path) as part:
        part.write_bytes(content)
    return path


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
    """The record in a file written here, or None."""
    with naming(path):
        return provenance_of(read_content(path))


def _check_target(path: str | Path, source: str | Path) -> None:
    """Check that a file can be written in a known format, over nothing that would be lost."""
    check_target(path, *SUFFIXES)
    if not Path(path).is_file():
        return
    if any(Path(path).samefile(part) for part in parts_of(source)):
        raise ValueError(f'{path} is the file that is read, which would be lost; name another one')
    with suppress(CheckpointError):
        if training_meta(path) is not None:
            raise ValueError(f'{path} is the state of a run, which would be lost; name another file')
