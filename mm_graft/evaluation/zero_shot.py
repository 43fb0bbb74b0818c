"""Zero-shot classification: an image belongs to the class whose text lies nearest in the space that CLIP trains.

No text encoder is run here: what one makes of the classes is a file. The image's feature goes through the projection of
the CLIP head, where there is one.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mm_graft.checkpoints.containers import read_checkpoint
from mm_graft.checkpoints.reading import CheckpointError, read_content
from mm_graft.evaluation.datasets import class_names
from mm_graft.evaluation.frozen import Evaluation
from mm_graft.evaluation.protocols import percent

# Where CLIP models keep the projection of the class token: MAWS, OpenCLIP and OpenAI, (D, E)
PROJECTION = re.compile(r'(?:^|\.)(?:vision_projection|visual\.proj)$|^proj$')
# Hugging Face, and OpenCLIP around a model of timm: linear layers, (E, D)
LINEAR = re.compile(r'(?:^|\.)(?:visual_projection|visual\.head\.proj)\.weight$')
# OpenCLIP's heads around models of timm, and pooling by attention: of CoCa, and of SigLIP in timm and Hugging Face
OTHER_HEAD = re.compile(r'(?:^|\.)(?:visual\.head\.(?!proj\.weight$)|attn_pool\.|head\.probe$)|attention_pool')


class ZeroShotHead(NamedTuple):
    """Projection (D, E) of features, None if there is none, and embeddings (C, E) of the classes."""

    projection: Tensor | None
    classes: Tensor


def cosine_similarity(features: Tensor, head: ZeroShotHead) -> Tensor:
    """Similarity (N, C) of images and classes: the logits of CLIP without their temperature, which ranks nothing.

    For a feature f, the projection W and the embedding t_c of a class, ``<Wᵀf, t_c> / (|Wᵀf| · |t_c|)`` (Radford et al.
    2021, arXiv 2103.00020, §2.3 and §3.1.2).
    """
    images = features if head.projection is None else features @ head.projection  # (N, D) → (N, E)
    return F.normalize(images, dim=1) @ F.normalize(head.classes, dim=1).T


def read_class_embeddings(path: str | Path) -> tuple[list[str], Tensor, Tensor | None]:
    """Names (C) of classes, their embeddings (C, E), and a projection (D, E) of features if the file has one.

    The file is a NumPy ``.npz`` with arrays ``classes`` and ``embeddings``, and ``projection`` or not; or one of
    ``torch.save`` with a dict of the same names.
    """
    try:
        with open(path, 'rb') as file:
            content = dict(np.load(file, allow_pickle=False)) if str(path).endswith('.npz') else read_content(file)
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(f'class embeddings {path} cannot be read: {error}; write them by numpy.savez or '
                         'torch.save') from error
    missing = [name for name in ('classes', 'embeddings') if not isinstance(content, dict) or name not in content]
    if missing:
        raise ValueError(f'class embeddings {path} lack {" and ".join(missing)}; give `classes`, C names, and '
                         '`embeddings` of shape (C, E)')
    names = [str(name) for name in content['classes']]
    embeddings, projection = (None if part is None else torch.as_tensor(part).float()
                              for part in (content['embeddings'], content.get('projection')))
    if embeddings.ndim != 2 or len(embeddings) != len(names) or (projection is not None and projection.ndim != 2):
        raise ValueError(f'class embeddings {path}: {len(names)} classes and embeddings of shape '
                         f'{tuple(embeddings.shape)}; give one row a class, and a projection of two dimensions')
    if not (embeddings.isfinite().all() and embeddings.any(dim=1).all()):
        raise ValueError(f'class embeddings {path} have a row that is zero, NaN or infinite; make them again')
    return names, embeddings, projection


def projection_of(checkpoint: str | Path) -> Tensor | None:
    """The projection (D, E) of the image encoder in the file of a CLIP model; None in another file."""
    tensors = read_checkpoint(checkpoint)
    if other := next(filter(OTHER_HEAD.search, tensors), None):
        raise ValueError(f'checkpoint {checkpoint} has an image head that is more than a projection of the class token '
                         f'({other}), which zero-shot does not know')
    found = {name: tensor for name, tensor in tensors.items() if PROJECTION.search(name) or LINEAR.search(name)}
    if len(found) > 1:
        raise ValueError(f'checkpoint {checkpoint} has several projections, {sorted(found)}; give a file of one model')
    return next((tensor.float().T if LINEAR.search(name) else tensor.float() for name, tensor in found.items()), None)


def check_classes(wanted: Sequence[str], given: Sequence[str], path: str | Path) -> None:
    """Check that embeddings are of the test set's classes, row by row."""
    if list(wanted) == list(given):
        return
    missing, others = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    found = (f'lack {missing[:3]}' if missing else f'are of {others[:3]} too' if others else
             'are in another order' if len(wanted) == len(given) else 'name a class twice')
    raise ValueError(f'class embeddings {path} have {len(given)} classes and the test images {len(wanted)}: they '
                     f'{found}; write one row for each class of the test images, in their order '
                     f'({", ".join(map(str, wanted[:3]))}, …)')


def zero_shot_head(evaluation: Evaluation) -> ZeroShotHead:
    """The classifier that the class embeddings make, checked against encoder and test images."""
    path = evaluation.settings.protocol.class_embeddings
    if path is None:
        raise ValueError('zero-shot compares images with embeddings of the classes; give --class-embeddings FILE')
    names, classes, own = read_class_embeddings(path)
    check_classes(class_names(evaluation.sets[-1]), names, path)
    projection = projection_of(evaluation.checkpoint) if own is None else own
    width = getattr(evaluation.encoder.backbone, 'embed_dims', None) or len(classes[0])
    ends = (width, len(classes[0]))
    if (projection is None and ends[0] != ends[1]) or (projection is not None and tuple(projection.shape) != ends):
        has = 'no projection is at hand' if projection is None else f'the projection is {tuple(projection.shape)}'
        raise ValueError(f'features have {ends[0]} numbers, the class embeddings {path} {ends[1]}, and {has}; give '
                         f'embeddings of this model\'s own text encoder, and, where the checkpoint has no projection, '
                         f'`projection` of shape {ends} beside them')
    return ZeroShotHead(projection, classes)


def run_zero_shot(evaluation: Evaluation) -> dict:
    """Share of the test images that are nearest to their own class."""
    head, test = zero_shot_head(evaluation), evaluation.features[-1]
    predicted = cosine_similarity(test.features, head).argmax(1)
    right = float((predicted == test.labels).float().mean())
    return {**percent(right, len(test.labels)), 'classes': len(head.classes),
            'projection': None if head.projection is None else list(head.projection.shape)}
