"""The features of a folder of images, in parts on disk until all are there."""

import json
import os
import shutil
import sys
from contextlib import suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from mm_graft.analysis.reconstruction import read_readable
from mm_graft.checkpoints import CheckpointError
from mm_graft.checkpoints.digest import of_tensors
from mm_graft.evaluation.datasets import extensions_of, reading_of
from mm_graft.files import atomic_write, write_text
from mm_graft.image_folders import list_images
from mm_graft.nested import value_at
from mm_graft.pretrained import PretrainedEncoder, Tokens
from mm_graft.progress import Progress

PART = 16  # batches in a part


def embed(encoder: PretrainedEncoder, folder: str, out: Path, pool: str | None, block: int | None,
          batch_size: int, cfg: Config) -> None:
    """Encode the center of every image of a folder and write one file with ``path`` and ``features``.

    Images that cannot be read are named in ``out`` with ``.unreadable.txt`` behind it, and left out.

    Args:
        encoder: what encodes.
        folder: of images.
        out: an ``.npz`` with arrays ``path`` (N, ) and ``features`` (N, D) or (N, patches, D), or a ``.parquet`` with a
            column of each.
        pool: 'cls', 'avg' or 'patches'; 'cls' where there is a class token if None.
        block: after which block, from 1; the last one and its norm if None.
        batch_size: images encoded at once.
        cfg: of the encoder, whose training says how images are read.
    """
    if out.suffix == '.parquet' and find_spec('pyarrow') is None:
        raise ValueError(f'{out}: writing Parquet needs pyarrow; pip install pyarrow, or choose a name in .npz')
    images, reading = list_images(folder, extensions=extensions_of(cfg)), reading_of(cfg)
    if not images.names:
        raise ValueError(f'nothing to encode: {images}')
    sys.stdout.write(f'{images}\n')
    parts = Path(f'{out}.parts')
    files = [(name, (status := os.stat(Path(images.root) / name)).st_size, status.st_mtime_ns) for name in images.names]
    key = sha256(json.dumps([encoder.source, fingerprint(encoder), images.root, files, pool, block,
                             batch_size, reading, repr(value_at(cfg, 'model.backbone'))]).encode()).hexdigest()[:16]
    parts = parts / key
    parts.mkdir(parents=True, exist_ok=True)
    step = PART * batch_size
    for start in Progress(range(0, len(images.names), step), desc='embed', unit='part'):
        part = parts / f'{start:09d}.npz'
        if not part.is_file():
            with atomic_write(part) as path, open(path, 'wb') as file:
                np.savez(file, **encode_names(encoder, images.root, images.names[start:start + step], pool, block,
                                              batch_size, reading))
    write(out, sorted(parts.glob('*.npz')))
    shutil.rmtree(parts)
    with suppress(OSError):  # another call is using it
        parts.parent.rmdir()
    sys.stdout.write(f'wrote {out}\n')


def fingerprint(encoder: PretrainedEncoder) -> str:
    """Something that no other weights or normalization have."""
    return of_tensors({name: tensor.cpu() for name, tensor in (*encoder.named_parameters(), *encoder.named_buffers())})


def encode_names(encoder: PretrainedEncoder, root: str, names: list[str], pool: str | None, block: int | None,
                 batch_size: int, reading: dict) -> dict[str, np.ndarray]:
    """Features, paths and what could not be read, of some images."""
    kept, features, unreadable = [], [], []
    device = next(encoder.parameters()).device
    for start in range(0, len(names), batch_size):
        part = names[start:start + batch_size]
        pixels, readable, problems = read_readable([Path(root) / name for name in part], encoder.image_size,
                                                   encoder.encoder.num_channels, reading)
        kept += [part[index] for index in readable]
        unreadable += [f'{part[index]}: {problem}' for index, problem in problems.items()]
        if len(pixels):
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device).float() / 255
            with torch.no_grad():
                features.append(pooled(encoder(batch, block), pool, encoder.source).float().cpu().numpy())
    return {'path': np.array(kept, dtype=str), 'unreadable': np.array(unreadable, dtype=str),
            'features': np.concatenate(features) if features else np.zeros((0, 0), np.float32)}


def pooled(tokens: Tokens, pool: str | None, source: str) -> torch.Tensor:
    """One row, or one matrix, for each image."""
    if pool == 'patches':
        return tokens.patch_tokens
    if pool == 'avg' or (pool is None and tokens.class_token is None):
        return tokens.patch_tokens.mean(1)
    if tokens.class_token is None:
        raise CheckpointError(f'{source} has no class token; give --pool avg')
    return tokens.class_token


def write(out: Path, parts: list[Path]) -> None:
    """Put parts together into one file, complete or not at all."""
    loaded = [dict(np.load(part)) for part in parts]
    paths = np.concatenate([part['path'] for part in loaded])
    features = np.concatenate([part['features'] for part in loaded if len(part['path'])])
    unreadable = np.concatenate([part['unreadable'] for part in loaded]).tolist()
    with atomic_write(out) as path:
        if out.suffix == '.parquet':
            import pyarrow
            import pyarrow.parquet
            rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.reshape(-1)), features.shape[1])
            pyarrow.parquet.write_table(pyarrow.table({'path': paths.tolist(), 'features': rows}), path)
        else:
            with open(path, 'wb') as file:
                np.savez(file, path=paths, features=features)
    if unreadable:
        write_text(f'{out}.unreadable.txt', '\n'.join(unreadable) + '\n')
        sys.stdout.write(f'{len(unreadable)} images could not be read: {out}.unreadable.txt\n')
