"""Choosing the tensors of a file from which a model, or a part of one, starts: complete, or an error.

The host loads what fits and drops the rest without a word, by ``load_from`` as by ``init_cfg``.
"""

import re
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mm_graft.checkpoints.bounds import bounded_by
from mm_graft.checkpoints.containers import read_checkpoint
from mm_graft.checkpoints.conversion import read_model
from mm_graft.checkpoints.loader import backbone_tensors
from mm_graft.checkpoints.reading import CheckpointError, check_weights
from mm_graft.spelling import some_of

BACKBONE = 'backbone.'
PATCHES = 'patch_embed.'
COUNTER = 'num_batches_tracked'  # of batch norm, which old files do not have
# The linear classifier of MAE, timm and MAWS, of torchvision, and of Hugging Face
CLASSIFIER = re.compile(r'(?:^|\.)(?:head|head_dist|heads\.head|classifier)\.(weight|bias)$')


def fitting(own: dict[str, Tensor], state: dict) -> list[str]:
    """Names of the model's tensors that a state dict has with their shapes."""
    return [name for name, tensor in own.items()
            if isinstance(state.get(name), Tensor) and state[name].shape == tensor.shape]


def choose_weights(model: nn.Module, state: dict, path: str, complete: bool) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file for a model (at least its whole backbone, or an error), and a line for the log.

    Where the model's own names do not cover its backbone, the file is read in any known layout: for the backbone alone,
    or, if the model has to be ``complete``, as for a test, for all of it, or the backbone and the linear classifier
    behind it.
    """
    own = model.state_dict()
    names = fitting(own, state)
    missing = [name for name in own if name not in set(names)]
    behind = [name for name in own if not name.startswith(BACKBONE)]
    plain = hasattr(model, 'backbone') and len(behind) <= 2 and all(name.startswith('head.') for name in behind)
    if complete and plain and any(name.startswith(BACKBONE) for name in missing):
        return with_classifier(model, path)
    if complete:
        state = converted_model(state) if missing else state
        larger = [name for name in state if name.startswith(BACKBONE) and name not in own]
        if larger or len(fitting(own, state)) < len(own):
            problem = f'it has a larger backbone, with {some_of(larger)}' if larger else f'it lacks {some_of(missing)}'
            raise CheckpointError(f'checkpoint {path} has {len(names)} of {len(own)} tensors of '
                                  f'{type(model).__name__}; {problem}; give a checkpoint of this config')
        return chosen_of(own, state, path)
    if any(name.startswith(BACKBONE) for name in missing) or not names:
        if not hasattr(model, 'backbone'):
            raise CheckpointError(f'checkpoint {path} has {len(names)} of the {len(own)} tensors of '
                                  f'{type(model).__name__}, which has no `backbone` to load alone')
        tensors, coverage = backbone_tensors(model.backbone, path)
        chosen = {BACKBONE + name: tensor for name, tensor in tensors.items()}
        rest = [name for name in own if name not in chosen]
        return chosen, f'{coverage}; newly initialized: {some_of(rest) or "nothing"}'
    return chosen_of(own, state, path)


def load_model(cfg: Config, checkpoint: str | Path) -> tuple[nn.Module, str]:
    """The whole model of a config with all weights of a checkpoint, in eval mode, and a line that says what was loaded.

    Raises:
        CheckpointError: a tensor of the model is not in the file, or the config is of an encoder alone.
    """
    if 'type' not in cfg.model:
        raise CheckpointError(f'checkpoint {checkpoint} does not say of which algorithm it is; give the config that it '
                              'was trained with')
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    outside = {'data_preprocessor': cfg.data_preprocessor} if cfg.get('data_preprocessor') else {}
    with bounded_by(checkpoint, cfg.model):
        model = MODELS.build({**outside, **cfg.model})
    weights, line = choose_weights(model, read_checkpoint(checkpoint), str(checkpoint), complete=True)
    model.load_state_dict(weights)
    model.eval()  # not chained: the host's backbones return nothing from `train`
    return model, line


def converted_model(state: dict) -> dict[str, Tensor]:
    """The tensors of a file of a known layout under the host's names; none of one that is of no such layout."""
    try:
        return read_model(state).backbone
    except ValueError:
        return {}


def with_classifier(model: nn.Module, path: str) -> tuple[dict[str, Tensor], str]:
    """Backbone and linear classifier of a fine-tuned file of another layout, under the names of ``model``."""
    tensors, coverage = backbone_tensors(model.backbone, path)
    chosen = {BACKBONE + name: tensor for name, tensor in tensors.items()}
    theirs = {name: tensor for name, tensor in tensors_of(path).items()
              if name in coverage.dropped and CLASSIFIER.search(name)}
    rest = {name: tensor for name, tensor in model.state_dict().items() if name not in chosen}
    for name, tensor in rest.items():
        kind = name.rpartition('.')[2]
        found = [other for other in theirs if CLASSIFIER.search(other)[1] == kind]
        shapes = [tuple(theirs[other].shape) for other in found]
        if coverage.fresh or shapes != [tuple(tensor.shape)]:
            raise CheckpointError(
                f'checkpoint {path} does not hold all of {type(model).__name__}: {name} of shape '
                f'{tuple(tensor.shape)} is not in it (its classifier has {dict(zip(found, shapes)) or "no such part"}'
                + (f', and it lacks {some_of(coverage.fresh)}' if coverage.fresh else '')
                + '); give a fine-tuned checkpoint with these classes, or a config of its own')
        chosen[name] = theirs[found[0]]
    check_weights(path, chosen, model.state_dict())
    return chosen, f'{coverage}; of them the classifier went into {some_of(list(rest))}'


def choose_part(part: nn.Module, path: str, prefix: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The same for ``init_cfg=dict(type='Pretrained', …)`` of a model or a part of one.

    A model with a ``backbone`` follows :func:`choose_weights`. Of anything else every tensor has to be in the file
    (behind ``prefix``), under its own names or, for an encoder, in any known layout. Of an address that MMEngine knows
    (``torchvision://…``) names alone are compared.
    """
    start = f'{prefix.rstrip(".")}.' if prefix else ''
    tensors = {name.removeprefix(start): tensor for name, tensor in tensors_of(path).items() if name.startswith(start)}
    if not tensors:
        raise CheckpointError(f'checkpoint {path} has no tensors below {start!r}')
    if hasattr(part, 'backbone'):
        return choose_weights(part, tensors, path, complete=False)
    own = part.state_dict()
    missing = [name for name in own if name not in set(fitting(own, tensors)) and not name.endswith(COUNTER)]
    if not missing:
        return chosen_of(own, tensors, path)
    if not any(PATCHES in name for name in own):  # no encoder whose layouts are known
        raise CheckpointError(f'checkpoint {path} has {len(own) - len(missing)} of {len(own)} tensors of '
                              f'{type(part).__name__}; it lacks {some_of(missing)}, or has other shapes')
    chosen, coverage = backbone_tensors(part, path, prefix=start or None)
    return chosen, str(coverage)


def tensors_of(path: str) -> dict[str, Tensor]:
    """The tensors of a file, or of an address."""
    if '://' not in path:
        return read_checkpoint(path)
    from mmengine.runner import CheckpointLoader
    content = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    return content.get('state_dict', content)


def chosen_of(own: dict[str, Tensor], state: dict, path: str) -> tuple[dict[str, Tensor], str]:
    """What fits by name and shape, and a line about the rest."""
    chosen = {name: state[name] for name in fitting(own, state)}
    check_weights(path, chosen, own)
    missing, unused = [name for name in own if name not in chosen], [name for name in state if name not in chosen]
    return chosen, (f'loaded {len(chosen)} of {len(own)} tensors from {path}'
                    + (f'; newly initialized: {some_of(missing)}' if missing else '')
                    + (f'; not used: {some_of(unused)}' if unused else ''))
