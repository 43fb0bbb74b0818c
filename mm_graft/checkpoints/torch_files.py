"""What ``torch.save`` wrote, as tensors and plain values: archives, and the files of before PyTorch 1.6.

A tensor is a view of a storage that the pickle refers to. Sizes, offsets and strides are compared with the storage, and
its size with the file's, before memory is asked for.
"""

import io
import os
import pickle
import re
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

import torch
from torch import Tensor

from mm_graft.checkpoints.archive import Archive, DamagedRecordError, fill
from mm_graft.checkpoints.builders import BUILDERS, SETTERS, VALUES
from mm_graft.checkpoints.unpickler import Builder, Inert, Name, PlainUnpickler, UnsafePickleError, describe

LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
MAX_EXPANSION = 2**26  # bytes that all views of tensors together may be larger than their storages
MAX_DIMENSIONS = 64
STORAGE_DTYPES = {
    'Double': torch.float64, 'Float': torch.float32, 'Half': torch.float16, 'BFloat16': torch.bfloat16,
    'Long': torch.int64, 'Int': torch.int32, 'Short': torch.int16, 'Char': torch.int8, 'Byte': torch.uint8,
    'Bool': torch.bool, 'ComplexFloat': torch.complex64, 'ComplexDouble': torch.complex128, 'Untyped': torch.uint8}
STORAGE = re.compile(r'torch\.(?:storage\.|cuda\.)?(\w+)Storage')


class Storage:
    """A storage that a pickle refers to."""

    def __init__(self, key: str, content: torch.UntypedStorage, dtype: torch.dtype) -> None:
        self.key, self.bytes, self.dtype = key, content, dtype


class Reader:
    """Reads the pickle of one file and the storages that it refers to.

    Args:
        storage_of: key and size in bytes → storage.
        device_of: device that the file names → the one to which its storages go.
    """

    def __init__(self, storage_of: Callable[[str, int], torch.UntypedStorage],
                 device_of: Callable[[str], torch.device] | None = None) -> None:
        self.storage_of, self.device_of = storage_of, device_of
        self.storages: dict[str, torch.UntypedStorage] = {}
        self.counts: dict[str, int] = {}
        self.expansion = 0

    def unpickle(self, file: BinaryIO, size: int) -> object:
        """The value of the pickle at the place of ``file``, of which ``size`` bytes are left."""
        return PlainUnpickler(file, size, {**BUILDERS, **self.builders()}, SETTERS, VALUES, self.persistent).load()

    def builders(self) -> dict[str, Builder]:
        """Names that PyTorch writes for tensors."""
        return {
            'torch._utils._rebuild_tensor': self.tensor,
            'torch._utils._rebuild_tensor_v2': self.tensor,
            'torch._utils._rebuild_tensor_v3': self.tensor_of_dtype,
            'torch._utils._rebuild_parameter': self.parameter,
            'torch._utils._rebuild_parameter_with_state': self.parameter,
            'torch._tensor._rebuild_from_type_v2': self.from_type,
        }

    def persistent(self, pid: object) -> object:
        """A storage, or of old whole models a part."""
        if not isinstance(pid, tuple) or not pid:
            raise UnsafePickleError('a persistent id that is no storage')
        if pid[0] == 'module':
            return pid[1]
        if pid[0] != 'storage' or len(pid) not in (5, 6) or (len(pid) == 6 and pid[5] is not None):
            raise UnsafePickleError('a persistent id that is no storage')
        kind, key, location, count = pid[1:5]
        match = STORAGE.fullmatch(kind.name) if isinstance(kind, Name) else None
        dtype = STORAGE_DTYPES.get(match[1]) if match else None
        if dtype is None or type(count) is not int or count < 0 or not isinstance(key, str):
            raise pickle.UnpicklingError(f'a storage {kind!r} of {count!r} elements')
        size = count * dtype.itemsize
        if key not in self.storages:
            storage, device = self.storage_of(key, size), self.device_of and self.device_of(str(location))
            self.storages[key] = torch.UntypedStorage(size, device=device).copy_(storage) if device else storage
            self.counts[key] = count
        if self.storages[key].nbytes() != size:
            raise pickle.UnpicklingError(f'storage {key} of two sizes')
        return Storage(key, self.storages[key], dtype)

    def tensor(self, args: tuple) -> object:
        """Storage, offset, size, stride, and what a loaded tensor does not need."""
        storage, offset, size, stride, *more = args
        if more[2:] and more[2]:
            return Inert('torch.Tensor')  # a conjugate or negative view
        return self._view(storage, storage.dtype, offset, size, stride)

    def tensor_of_dtype(self, args: tuple) -> object:
        """The same of a type that storages do not know."""
        storage, offset, size, stride, _, _, dtype, *_ = args
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError('a tensor of no type')
        return self._view(storage, dtype, offset, size, stride)

    def _view(self, storage: Storage, dtype: torch.dtype, offset: int, size: tuple, stride: tuple) -> Tensor:
        numbers = (offset, *size, *stride)
        if not all(type(number) is int and 0 <= number < 2**62 for number in numbers) or len(size) != len(stride):
            raise pickle.UnpicklingError('a tensor of no size')
        if len(size) > MAX_DIMENSIONS:
            raise pickle.UnpicklingError(f'a tensor of {len(size)} dimensions')
        elements, last = 1, offset
        for length, step in zip(size, stride):
            elements *= length
            last += (length - 1) * step
        room = storage.bytes.nbytes() // dtype.itemsize
        if elements and last >= room:
            raise pickle.UnpicklingError(f'a tensor of {tuple(size)} in a storage of {room} elements')
        self.expansion += max(0, elements - room) * dtype.itemsize
        if self.expansion > MAX_EXPANSION:
            raise pickle.UnpicklingError(f'a tensor of {tuple(size)} that repeats {room} elements')
        return torch.empty(0, dtype=dtype, device=storage.bytes.device).set_(storage.bytes, offset, size, stride)

    def parameter(self, args: tuple) -> object:
        """Data, whether it has a gradient, and hooks or attributes, which are left out."""
        data, gradient = args[:2]
        if not isinstance(data, Tensor):
            return data
        learnt = bool(gradient) and (data.is_floating_point() or data.is_complex())
        return torch.nn.Parameter(data, requires_grad=learnt)

    def from_type(self, args: tuple) -> object:
        """A tensor with attributes of its own, which are left out, or of a class of its own, which is not built."""
        function, kind, inner, *_ = args
        builder = self.builders().get(function.name) if isinstance(function, Name) else None
        if builder is None or builder == self.from_type or not isinstance(inner, tuple):
            raise UnsafePickleError(describe(function))
        result = builder(inner)
        named = kind.name if isinstance(kind, Name) else '?'
        if named == 'torch.nn.parameter.Parameter' and not isinstance(result, torch.nn.Parameter):
            return self.parameter((result, result.requires_grad))
        return result if named in ('torch.Tensor', 'torch.nn.parameter.Parameter') else Inert(named)


def read_archive(file: BinaryIO, tensors: bool = True, device_of: Callable | None = None) -> object:
    """What ``torch.save`` wrote; without ``tensors`` these are on the device ``meta``, and nothing of them is compared.

    Raises:
        UnsafePickleError: it would have run code.
        Exception: damaged; what a damaged archive raises is not to be foreseen.
    """
    archive = Archive(file)
    if archive.records.get('byteorder') and archive.read('byteorder', 16) != sys.byteorder.encode():
        raise pickle.UnpicklingError('the byte order of another machine')
    content = archive.read('data.pkl')
    reader = Reader(archive.storage if tensors else _hollow, device_of)
    try:
        return reader.unpickle(io.BytesIO(content), len(content))
    except DamagedRecordError as error:
        names = _TensorNames(_hollow)
        found = names.unpickle(io.BytesIO(content), len(content))
        raise DamagedRecordError(error.record, error.reason, names.of(found, error.record)) from error


class _TensorNames(Reader):
    """Finds the names of the tensors of a storage."""

    def _view(self, storage: Storage, *_: object) -> Inert:
        return Inert('tensor', (f'data/{storage.key}', ))

    def of(self, content: object, record: str) -> list[str]:
        """Dotted names of the tensors whose content is in ``record``."""
        found, seen, todo = [], set(), [('', content)]
        while todo:
            name, value = todo.pop()
            if isinstance(value, Inert) and value.args == (record, ):
                found.append(name)
            children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            if id(value) not in seen:
                todo += [(f'{name}.{key}' if name else str(key), child) for key, child in children]
            seen.add(id(value))
        return sorted(found)


def _hollow(_: str, size: int) -> torch.UntypedStorage:
    return torch.UntypedStorage(size, device='meta')


def read_legacy(file: BinaryIO) -> object:
    """What ``torch.save`` wrote before PyTorch 1.6: four pickles, then the storages one after another, without sums.

    It raises what :func:`read_archive` does.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    declared = 0

    def allocate(_: str, count: int) -> torch.UntypedStorage:
        nonlocal declared
        declared += count
        if declared > size:
            raise pickle.UnpicklingError('storages of more bytes than the file has')
        return torch.UntypedStorage(count)

    reader = Reader(allocate)
    magic, protocol, system, content, keys = (reader.unpickle(file, size - file.tell()) for _ in range(5))
    if magic != LEGACY_MAGIC or protocol != 1001 or not system.get('little_endian', True):
        raise pickle.UnpicklingError('no PyTorch file, or one of another byte order')
    if type(keys) is not list or sorted(keys) != sorted(reader.storages):
        raise pickle.UnpicklingError('other storages than the tensors need')
    for key in keys:
        count, = struct.unpack('<q', file.read(8))
        if count != reader.counts[key]:
            raise pickle.UnpicklingError(f'storage {key} of two sizes')
        fill(reader.storages[key], file)
    if file.read(1):
        raise pickle.UnpicklingError('more bytes than storages')
    return content
