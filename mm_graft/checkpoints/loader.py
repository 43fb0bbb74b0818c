"""Read checkpoints without running code from them, and load backbones completely or not at all."""

import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mm_graft.checkpoints.layouts import StateDict, convert, detect_kind, mmpretrain_to_timm
from mm_graft.checkpoints.localmim import plain_encoder

CONTAINERS = ('state_dict', 'model', 'module')


class _Ignored:
    """Stands in for what a Runner's checkpoint holds beside tensors (logged values); takes anything, does nothing."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


# The logged values of a Runner pickle bound methods and numpy scalars. Opening them as they are would allow `getattr`
# to a stranger's file, so each of these names is read as the inert class above.
RUNNER_GLOBALS = [(_Ignored, name) for name in (
    'builtins.getattr', 'mmengine.logging.history_buffer.HistoryBuffer', 'numpy.dtype', 'numpy.ndarray',
    'numpy._core.multiarray._reconstruct', 'numpy._core.multiarray.scalar', 'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar')]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, what is wrong, and what to do."""


@dataclass(frozen=True)
class Coverage:
    """What a load did.

    Attributes:
        path: the file.
        kind: its layout.
        loaded: tensors that went into the backbone.
        dropped: names in the file that are not part of the backbone, with the reason.
    """

    path: str
    kind: str
    loaded: int
    dropped: dict[str, str]

    def __str__(self) -> str:
        reasons = sorted(set(self.dropped.values()))
        left_out = f'; left out {len(self.dropped)} ({", ".join(reasons)})' if self.dropped else ''
        return f'loaded all {self.loaded} backbone tensors from {self.path} ({self.kind}){left_out}'


def read_checkpoint(path: str | Path) -> StateDict:
    """The tensors of a ``.pth``, ``.pt``, ``.tar`` or ``.safetensors`` file, by name, on the CPU.

    Pickles are opened with ``weights_only=True``: nothing in the file is executed. Containers (``state_dict``,
    ``model``, ``module``) are opened.

    Raises:
        CheckpointError: no such file, damaged, not safe to open, or without tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'checkpoint {path} does not exist; give the path of a file')
    content = _read_safetensors(path) if path.suffix == '.safetensors' else _read_pickle(path)
    for container in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
            break
    if not isinstance(content, dict):
        raise CheckpointError(f'checkpoint {path} holds a {type(content).__name__}, not a state dict')
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f'checkpoint {path} holds no tensors under {CONTAINERS} or at its top level')
    return tensors


def _read_pickle(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(RUNNER_GLOBALS):
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r'GLOBAL ([\w.]+)|but got (.+)', str(error))
        if refused is None:
            raise CheckpointError(f'checkpoint {path} is damaged or no PyTorch file') from error
        raise CheckpointError(
            f'checkpoint {path} needs {refused.group(1) or refused.group(2)} to open, which could run code; if you '
            'trust its source, load it once with torch.load(weights_only=False), save its state dict alone, and use '
            'that file') from error
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, OSError,
            zipfile.BadZipFile) as error:
        raise CheckpointError(f'checkpoint {path} is damaged or no PyTorch file: {_first_line(error)}') from error


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f'checkpoint {path} is damaged or no safetensors file: {_first_line(error)}') from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def backbone_tensors(backbone: nn.Module, path: str | Path, kind: str | None = None,
                     branch: str = 'base') -> tuple[StateDict, Coverage]:
    """The tensors of a checkpoint of any known layout, under the names of ``backbone`` and of its shapes.

    Every parameter and buffer of the backbone must be in the file with its shape, except the norm behind the mean of
    the patches (``out_type='avg_featmap'``), which stays as it is; nothing may be left over, except
    a final norm or LocalMIM's tap norms that the backbone does not have. Nothing is resized, unless the backbone has a
    method ``adapt_tensors(tensors)`` that fits what it knows how to fit (``ConMIMViT`` and its relative positions).

    Args:
        backbone: the encoder itself (a ViT of mmpretrain, this package or timm), not the algorithm around it.
        path: the file.
        kind: layout of the file, see ``KINDS``; detected if None.
        branch: ``'base'``, or ``'momentum'`` for the slowly moving encoder of a contrastive checkpoint.

    Raises:
        CheckpointError: the file is unusable, of another method, or of another size.
    """
    state_dict = read_checkpoint(path)
    try:
        kind = kind or detect_kind(state_dict)
        converted = convert(state_dict, kind, branch)
        if not hasattr(backbone, 'tap_norms'):
            converted = plain_encoder(converted)
        tensors = _names_of(backbone, converted.backbone)
        if hasattr(backbone, 'adapt_tensors'):
            tensors = backbone.adapt_tensors(tensors)
    except ValueError as error:
        raise CheckpointError(f'checkpoint {path}: {error}') from error
    target = backbone.state_dict()
    if getattr(backbone, 'out_type', None) == 'avg_featmap':  # the norm behind the mean is the task's, and new
        tensors = {**{name: target[name] for name in target if name.startswith('ln2.')}, **tensors}
    dropped = dict(converted.dropped)
    for name in [name for name in tensors if name not in target and name.startswith(('ln1.', 'timm_model.norm.'))]:
        dropped[name] = 'the backbone has no final norm'
        del tensors[name]
    _check_complete(path, kind, target, tensors)
    return tensors, Coverage(str(path), kind, len(tensors), dropped)


def load_backbone(backbone: nn.Module, path: str | Path, kind: str | None = None, branch: str = 'base') -> Coverage:
    """Load a checkpoint of any known layout into a backbone, completely or not at all; see :func:`backbone_tensors`."""
    tensors, coverage = backbone_tensors(backbone, path, kind, branch)
    backbone.load_state_dict(tensors, strict=True)
    print_log(str(coverage), logger='current')
    return coverage


def _names_of(backbone: nn.Module, tensors: StateDict) -> StateDict:
    """The tensors under the names that the backbone uses."""
    names = list(backbone.state_dict())
    if any(name.startswith('timm_model.') for name in names):
        return {f'timm_model.{name}': tensor for name, tensor in mmpretrain_to_timm(tensors).items()}
    if any(name.startswith('blocks.') for name in names):
        return mmpretrain_to_timm(tensors)
    return dict(tensors)


def _check_complete(path: str | Path, kind: str, target: StateDict, tensors: StateDict) -> None:
    missing = [name for name in target if name not in tensors]
    left_over = [name for name in tensors if name not in target]
    if missing or left_over:
        raise CheckpointError(
            f'checkpoint {path} ({kind}) covers {len(target) - len(missing)} of {len(target)} backbone tensors; '
            f'missing {missing[:3]}, left over {left_over[:3]}; use a checkpoint of this architecture')
    wrong = [name for name in target if target[name].shape != tensors[name].shape]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f'checkpoint {path} ({kind}): {len(wrong)} tensors have another shape, first {name}: '
            f'{tuple(tensors[name].shape)} in the file, {tuple(target[name].shape)} in the model; '
            'use the same width, depth, patch size and image size')
