"""PyTorch's zip archives, read without PyTorch's reader.

That takes what a file says about itself for true: a directory with one flipped bit gives tensors of uninitialized
memory. Here each record is compared with its checksum, with the digest that this package's writer puts beside it, and
with the size that is expected, before memory is asked for.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import torch

from mm_graft.checkpoints.digest import CHUNK, RECORD
from mm_graft.checkpoints.unpickler import UnsafePickleError

MAX_PICKLE = 2**30  # bytes of a record that describes the tensors; the longest logs of a run take 0.2 of that
END = 22  # bytes of the end of an archive that has no comment


class DamagedRecordError(zipfile.BadZipFile):
    """A damaged record of an archive."""

    def __init__(self, record: str, reason: str, tensors: list[str] = ()) -> None:
        self.record, self.reason = record, reason
        named = f' ({", ".join(tensors[:3])})' if tensors else ''
        super().__init__(f'its record {record}{named} {reason}')


class Archive:
    """The records of a zip archive, each verified against its checksum as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self.zip = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise zipfile.BadZipFile(f'its end or its directory is missing ({error})') from error
        entries = self.zip.infolist()
        self.folder = entries[0].filename.split('/')[0] if entries else ''
        self.records = {entry.filename.removeprefix(f'{self.folder}/'): entry for entry in entries}
        if any(name.startswith('code/') or name == 'constants.pkl' for name in self.records):
            raise UnsafePickleError('the code of a TorchScript archive')
        if entries and all(entry.filename.endswith('.npy') for entry in entries):
            raise zipfile.BadZipFile('it is an archive of NumPy arrays (.npz), as Google\'s ViTs are; load it by timm '
                                     "(timm.create_model(…, checkpoint_path=…)), and save that model's state dict")
        if reason := self._oddity(file, entries):
            raise zipfile.BadZipFile(f'not a PyTorch archive: {reason}')
        self.digests: dict[str, str] = {}
        if RECORD in self.records:
            self.digests = json.loads(self.read(RECORD))
            if self.digests.keys() | {RECORD} != self.records.keys():
                raise zipfile.BadZipFile('its records are not those that its digest lists')

    def _oddity(self, file: BinaryIO, entries: list[zipfile.ZipInfo]) -> str | None:
        """Ambiguities that readers could resolve differently, and sizes larger than the file."""
        size = file.seek(0, os.SEEK_END)
        file.seek(-END, os.SEEK_END)
        if file.read(4) != b'PK\5\6' or min(entry.header_offset for entry in entries) != 0:
            return 'something stands before or behind it'
        if len(self.records) < len(entries) or {entry.filename.split('/')[0] for entry in entries} != {self.folder}:
            return 'its records have the same names, or are in several folders'
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            return 'its records are compressed'
        return 'its records together are larger than it' if sum(entry.file_size for entry in entries) > size else None

    def read(self, name: str, limit: int = MAX_PICKLE) -> bytes:
        """A record that is small.

        Raises:
            DamagedRecordError: missing, damaged, or larger than ``limit``.
        """
        if name not in self.records or self.records[name].file_size > limit:
            raise DamagedRecordError(name, f'is missing, or larger than {limit} bytes')
        with self._checked(name) as record:
            content = record.read()
        self._compare(name, content)
        return content

    def storage(self, key: str, size: int) -> torch.UntypedStorage:
        """A record as a storage.

        Raises:
            DamagedRecordError: missing, damaged, or of another size.
        """
        name = f'data/{key}'
        if name not in self.records or self.records[name].file_size != size:
            raise DamagedRecordError(name, f'is missing, or has not {size} bytes')
        with self._checked(name) as record:
            storage = torch.UntypedStorage(size)
            fill(storage, record)
            record.read(1)  # also of an empty record the checksum is compared
        self._compare(name, memory(storage))
        return storage

    @contextmanager
    def _checked(self, name: str) -> Iterator[BinaryIO]:
        """A record to be read to its end, where it is compared with its checksum."""
        try:
            with self.zip.open(self.records[name]) as record:
                yield record
        except zipfile.BadZipFile as error:
            raise DamagedRecordError(name, f'does not match its checksum or header ({error})') from error

    def _compare(self, name: str, content: bytes | memoryview) -> None:
        if self.digests and self.digests.get(name) != hashlib.sha256(content).hexdigest():
            raise DamagedRecordError(name, 'does not match its digest')


def memory(storage: torch.UntypedStorage) -> memoryview:
    """The bytes of a storage on the CPU."""
    if not storage.nbytes():
        return memoryview(b'')
    return memoryview(torch.empty(0, dtype=torch.uint8).set_(storage).numpy())


def fill(storage: torch.UntypedStorage, file: BinaryIO) -> None:
    """Put the next bytes of a file into a storage.

    Raises:
        EOFError: there are not as many.
    """
    done, size = 0, storage.nbytes()
    view = memory(storage)
    while done < size:
        step = file.readinto(view[done:done + CHUNK])
        if not step:
            raise EOFError('it ends within a storage')
        done += step
