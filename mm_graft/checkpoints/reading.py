"""Reading checkpoint files: verified, bounded, and without running code from them."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import torch
from torch import Tensor

from mm_graft.checkpoints import digest
from mm_graft.checkpoints.archive import Archive
from mm_graft.checkpoints.builders import BUILDERS, SETTERS, VALUES
from mm_graft.checkpoints.folders import INDEX, shards_of, weights_file
from mm_graft.checkpoints.layouts import StateDict
from mm_graft.checkpoints.torch_files import read_archive, read_legacy
from mm_graft.checkpoints.unpickler import PlainUnpickler, UnsafePickleError
from mm_graft.files import open_regular

FOREIGN = (  # how files begin that people take for checkpoints, and what to do
    (b'<!doctype', 'a page of the web, which a server sends instead of a file; fetch it again'),
    (b'<html', 'a page of the web, which a server sends instead of a file; fetch it again'),
    (b'\x89hdf', 'an HDF5 file, as Keras writes; load it there, and save the weights by torch.save or safetensors'),
    (b'gguf', 'a quantized file (GGUF); take the one that it was made from'),
    (b'\x1f\x8b', 'compressed by gzip; unpack it'))


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, what is wrong, and what to do."""


def read_content(source: str | Path | BinaryIO, tensors: bool = True, device_of: Callable | None = None) -> object:
    """The content of a file; nothing in it can run code, and damaged files are refused.

    The format is detected from the content: PyTorch's archives, its files from before 1.6, and safetensors. Values are
    plain types, tensors, NumPy's arrays and the host's logs and configs; an object of any other class is an
    :class:`mm_graft.checkpoints.unpickler.Inert`, and a call of anything else is an error.

    Args:
        source: path of a file, of an index of shards, or of a folder of Hugging Face's, timm's or OpenCLIP's; or an
            open file.
        tensors: whether to read the tensors' content. Without it they are on the device ``meta`` and unchecked.
        device_of: device that the file names → the one for the tensors; the CPU by default.

    Raises:
        CheckpointError: no such file, no regular one, damaged, or not safe to open.
    """
    parts = parts_of(source)
    if len(parts) > 1 or str(parts[0]).endswith(INDEX):
        return _read_shards(parts[0], tensors, device_of)
    with _opened(parts[0]) as (file, name):
        return _read(file, name, tensors, device_of)


def parts_of(source: str | Path | BinaryIO) -> list[str | Path | BinaryIO]:
    """The files that hold a checkpoint: the index of shards and then the shards, or one file."""
    if not isinstance(source, str | Path):
        return [source]
    try:
        path = weights_file(source) if os.path.isdir(source) else source
        return [path, *shards_of(path)] if str(path).endswith(INDEX) else [path]
    except FileNotFoundError as error:
        raise CheckpointError(f'checkpoint {source} does not exist; give the path of a file') from error
    except ValueError as error:
        raise CheckpointError(f'checkpoint {source} {error}') from error


def _read_shards(index: str | Path, tensors: bool, device_of: Callable | None) -> StateDict:
    found = OrderedDict()
    for shard, names in shards_of(index).items():
        content = read_content(shard, tensors, device_of)
        missing = [name for name in names if not isinstance(content, dict) or name not in content]
        if missing:
            raise CheckpointError(f'checkpoint {shard} lacks {missing[0]}, which {index} says it has; fetch both again')
        found |= {name: content[name] for name in names}
    return found


def read_pickle(source: str | Path | BinaryIO) -> object:
    """The content of a pickle without tensors, as :func:`read_content` builds it."""
    with _opened(source) as (file, _):
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return PlainUnpickler(file, size, BUILDERS, SETTERS, VALUES).load()


@contextmanager
def _opened(source: str | Path | BinaryIO) -> Iterator[tuple[BinaryIO, object]]:
    """The open file and its name; errors become a CheckpointError that names it."""
    named = isinstance(source, str | Path)
    name = source if named else getattr(source, 'name', 'given as an open file')
    file = _open(source) if named else source
    try:
        yield file, name
    except UnsafePickleError as error:
        raise CheckpointError(f'checkpoint {name} would run code when opened by PyTorch ({error}), and was not opened; '
                              'ask for its state dict alone, saved by torch.save or as safetensors') from error
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in a reader (struct, zipfile, unicode, memory, …)
        raise CheckpointError(f'checkpoint {name} is damaged or no checkpoint: {_first_line(error)}') from error
    finally:
        if named:
            file.close()


def _open(path: str | Path) -> BinaryIO:
    try:
        return open_regular(path)
    except FileNotFoundError as error:
        raise CheckpointError(f'checkpoint {path} does not exist; give the path of a file') from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'checkpoint {path} cannot be opened: {error}') from error


def _read(file: BinaryIO, name: object, tensors: bool, device_of: Callable | None) -> object:
    file.seek(0)
    start = file.read(9)
    file.seek(257)
    is_tar = file.read(5) == b'ustar'
    file.seek(0)
    if start[8:] == b'{':
        return _read_safetensors(file)
    if start.startswith(b'PK'):
        return read_archive(file, tensors, device_of)
    if is_tar:
        raise CheckpointError(f'checkpoint {name} is a tar archive, as PyTorch wrote until 2017 or as a download is '
                              'packed; unpack it and give the file in it')
    if start.startswith(b'\x80'):
        return read_legacy(file)
    if start == b'version h':
        raise CheckpointError(f'checkpoint {name} is the pointer that Git LFS leaves in the place of a file; fetch the '
                              'file with git lfs pull')
    if what := next((what for magic, what in FOREIGN if start.lower().startswith(magic)), None):
        raise pickle.UnpicklingError(f'it is {what}')
    raise pickle.UnpicklingError('it begins neither as an archive nor as a pickle nor as safetensors')


def _read_safetensors(file: BinaryIO) -> StateDict:
    """Tensors by name, with the texts of the header as the attribute ``metadata``."""
    from safetensors import safe_open
    from safetensors.torch import load
    if not isinstance(getattr(file, 'name', None), str | Path):
        return OrderedDict(load(file.read()))
    with safe_open(file.name, 'pt') as opened:
        tensors = OrderedDict((name, opened.get_tensor(name)) for name in opened.keys())  # noqa: SIM118 - no mapping
        tensors.metadata = opened.metadata() or {}
    expected = tensors.metadata.get(digest.RECORD)
    if expected and expected != digest.of_tensors(tensors):
        raise ValueError('its tensors do not match its digest')
    return tensors


def integrity(path: str | Path) -> str:
    """Digest or checksums by which a file was verified."""
    parts = parts_of(path)
    if len(parts) > 1:
        return 'nothing, as its shards have no digest'
    with _opened(parts[0]) as (file, _):
        start = file.read(9)
        if start.startswith(b'PK'):
            return 'its digest' if Archive(file).digests else 'checksums only, as it has no digest'
        if start[8:] == b'{' and digest.RECORD in (_read_safetensors(file).metadata):
            return 'its digest'
        return 'nothing, as its format has no checksums'


def meta_of(content: object) -> dict:
    """What MMEngine's Runner writes about a run into its files; empty in others."""
    meta = content.get('meta') if isinstance(content, dict) else None
    return meta if isinstance(meta, dict) else {}


def first_non_finite(tensors: Mapping[str, object], own: Mapping[str, Tensor] = MappingProxyType({})) -> str | None:
    """Name of the first tensor with a value that is NaN or infinite; masks, which are infinite on purpose, aside.

    Args:
        tensors: of a file.
        own: tensors of the model into which they are copied, in whose type they must be finite.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or str(name).endswith('mask'):
            continue
        smallest = torch.float32 if tensor.itemsize == 1 else tensor.dtype  # PyTorch does not look into eight bits
        if not tensor.to(own[name].dtype if name in own else smallest).isfinite().all():
            return str(name)
    return None


def check_weights(path: str | Path, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Check that the tensors of a file are numbers of the kind that a model has, and finite in its type."""
    for name, tensor in tensors.items():
        if own[name].is_floating_point() and not tensor.is_floating_point():
            raise CheckpointError(f'checkpoint {path} has {name} as {tensor.dtype}, which PyTorch would silently turn '
                                  f'into {own[name].dtype}; use weights that are not quantized')
    if name := first_non_finite(tensors, own):
        raise CheckpointError(f'checkpoint {path} has weights that are NaN or infinite, first {name}; use an earlier '
                              'one')


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
