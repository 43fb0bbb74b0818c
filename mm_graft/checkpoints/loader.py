"""Load backbones completely or not at all."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.logging import print_log
from torch import nn

from mm_graft.checkpoints.conversion import convert_backbone, detect_layout
from mm_graft.checkpoints.fit import fit
from mm_graft.checkpoints.layouts import StateDict
from mm_graft.checkpoints.localmim import plain_encoder
from mm_graft.checkpoints.reading import CheckpointError, first_non_finite, read_checkpoint

POSITIONS = ('pos_embed', 'relative_position_bias_table')


@dataclass(frozen=True)
class Coverage:
    """What a load did.

    Attributes:
        path: the file.
        layout: its layout.
        loaded: tensors that went into the backbone.
        dropped: names in the file that are not part of the backbone, with the reason.
        fresh: names of the backbone that no such file has, and that kept their initial values.
    """

    path: str
    layout: str
    loaded: int
    dropped: dict[str, str]
    fresh: tuple[str, ...] = ()

    def __str__(self) -> str:
        reasons = sorted(set(self.dropped.values()))
        left_out = f'; left out {len(self.dropped)} ({", ".join(reasons)})' if self.dropped else ''
        fresh = f'; fresh: {", ".join(self.fresh)}' if self.fresh else ''
        return f'loaded all {self.loaded} backbone tensors from {self.path} ({self.layout}){left_out}{fresh}'


def backbone_tensors(backbone: nn.Module, path: str | Path, layout: str | None = None, branch: str = 'base',
                     resize: bool = False) -> tuple[StateDict, Coverage]:
    """The tensors of a checkpoint of any known layout, under the names of ``backbone`` and of its shapes.

    Every parameter and buffer of the backbone must be in the file with its shape, and nothing may be left over. The
    exceptions, all reported: parts of another use of the encoder (mask token, final norm, the norm of averaged patches,
    LocalMIM's tap norms), and indices that follow from the grid. A shared table of relative positions is copied into
    the blocks of a fine-tuning backbone.

    Args:
        backbone: the encoder itself (a ViT or BEiT of mmpretrain, mmseg's BEiT, this package's or timm's), not the
            algorithm around it.
        path: the file.
        layout: layout of the file, see ``LAYOUT_NAMES``; detected if None.
        branch: ``'base'``, or ``'momentum'`` for the slowly moving encoder of a contrastive checkpoint.
        resize: interpolate position embeddings and tables of relative positions to the backbone's grid.

    Raises:
        CheckpointError: the file is unusable, of another method, or of another size.
    """
    state_dict = read_checkpoint(path)
    try:
        layout = layout or detect_layout(state_dict)
        converted = convert_backbone(state_dict, layout, branch)
        if not hasattr(backbone, 'tap_norms'):
            converted = plain_encoder(converted)
        fitted = fit(backbone, converted.backbone, resize)
    except (ValueError, TypeError, RuntimeError, LookupError) as error:
        raise CheckpointError(f'checkpoint {path}: {error}') from error
    _check_complete(path, layout, backbone.state_dict(), fitted.tensors)
    if name := first_non_finite(fitted.tensors):
        raise CheckpointError(f'checkpoint {path} ({layout}) has weights that are NaN or infinite, first {name}; use '
                              'an earlier one')
    return fitted.tensors, Coverage(str(path), layout, len(fitted.tensors) - len(fitted.fresh),
                                    {**converted.dropped, **fitted.dropped}, fitted.fresh)


def load_backbone(backbone: nn.Module, path: str | Path, layout: str | None = None, branch: str = 'base',
                  resize: bool = False) -> Coverage:
    """Load a checkpoint of any known layout into a backbone, completely or not at all; see :func:`backbone_tensors`."""
    tensors, coverage = backbone_tensors(backbone, path, layout, branch, resize)
    backbone.load_state_dict(tensors, strict=True)
    print_log(str(coverage), logger='current')
    return coverage


def _check_complete(path: str | Path, layout: str, target: StateDict, tensors: StateDict) -> None:
    missing = [name for name in target if name not in tensors]
    left_over = [name for name in tensors if name not in target]
    if missing or left_over:
        raise CheckpointError(
            f'checkpoint {path} ({layout}) covers {len(target) - len(missing)} of {len(target)} backbone tensors; '
            f'missing {missing[:3]}, left over {left_over[:3]}; use a checkpoint of this architecture')
    wrong = [name for name in target if target[name].shape != tensors[name].shape]
    if not wrong:
        return
    positions = all(name.endswith(POSITIONS) for name in wrong)
    remedy = 'load with resize=True to interpolate them, or use the same image size' if positions else \
        'use the same width, depth, patch size and image size'
    raise CheckpointError(
        f'checkpoint {path} ({layout}): {len(wrong)} tensors have another shape, first {wrong[0]}: '
        f'{tuple(tensors[wrong[0]].shape)} in the file, {tuple(target[wrong[0]].shape)} in the model; {remedy}')
