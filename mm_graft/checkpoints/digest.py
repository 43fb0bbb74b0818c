"""Digests of the content of checkpoints, written into them and verified when they are read.

PyTorch's archives get one more record: the SHA-256 of every other. Those are the pickle, in which names, types, shapes
and everything that is no tensor stand, and the bytes of each storage. PyTorch reads such an archive as any other.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

RECORD = 'mm_graft.sha256'  # not SHA-256 for secrecy: of hashlib's it is the fastest where the processor knows it
MIDNIGHT = (1980, 1, 1, 0, 0, 0)  # the same checkpoint at another time is the same bytes
CHUNK = 2**24


def seal(file: str | Path | BinaryIO) -> bool:
    """Put the digests of its records into an archive that ``torch.save`` has just written; False for another file."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file, 'a') as archive:
        folder = archive.namelist()[0].split('/')[0]
        if f'{folder}/data.pkl' not in archive.namelist():
            return False
        digests = {}
        for name in archive.namelist():
            digest = hashlib.sha256()
            with archive.open(name) as record:
                while chunk := record.read(CHUNK):
                    digest.update(chunk)
            digests[name.removeprefix(f'{folder}/')] = digest.hexdigest()
        archive.writestr(zipfile.ZipInfo(f'{folder}/{RECORD}', MIDNIGHT), json.dumps(digests))
    return True


def of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes, in the order of the names; for ``.safetensors``."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f'{name}|{tensor.dtype}|{tuple(tensor.shape)}|'.encode())
        if tensor.numel():
            digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
