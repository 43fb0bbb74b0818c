"""Load backbones completely or not at all."""

import re
from dataclasses import dataclass
from pathlib import Path

from mmengine.logging import print_log
from torch import nn

from mm_graft.checkpoints.adapters import merge_adapters
from mm_graft.checkpoints.containers import CheckpointFile, read_file
from mm_graft.checkpoints.conversion import convert_backbone
from mm_graft.checkpoints.detection import HOST_NAMES, MOMENTUM_WORD, lacking, locate
from mm_graft.checkpoints.facts import Facts, activation_of, eps_of, heads_of, read_facts
from mm_graft.checkpoints.fit import FRESH, STEMS, adapt_stem, fit
from mm_graft.checkpoints.grids import SourceGrid, find_grid
from mm_graft.checkpoints.layouts import Converted, StateDict, is_number
from mm_graft.checkpoints.localmim import plain_encoder
from mm_graft.checkpoints.reading import CheckpointError, check_weights, integrity
from mm_graft.checkpoints.resize import Grid, grid_of
from mm_graft.spelling import some_of

OWN_NAMES = "the backbone's own names"
# What stands beside an encoder under its prefix and is no part of it
BESIDE = re.compile(r'(heads?|head_dist|fc|classifier|lm_head|projectors?|predictor|decoder\w*|mask_token)(\.|$)')


@dataclass(frozen=True)
class Coverage:
    """Report of a load."""

    path: str
    layout: str
    loaded: int  #: number of tensors loaded into the backbone
    dropped: dict[str, str]  #: names in the file that are not part of the backbone, with the reason
    fresh: tuple[str, ...] = ()  #: names of the backbone that such files lack, which kept their initial values
    assumed: tuple[str, ...] = ()  #: facts that the file does not state, taken from the backbone
    verified: str = ''  #: digest or checksums by which the file was verified
    differs: tuple[str, ...] = ()  #: settings in which the backbone differs slightly from what the file states

    def __str__(self) -> str:
        reasons = sorted(set(self.dropped.values()))
        left_out = f'; left out {len(self.dropped)} ({", ".join(reasons)})' if self.dropped else ''
        fresh = f'; newly initialized: {some_of(self.fresh, 3)}' if self.fresh else ''
        assumed = f'; assumed, as the file does not state it: {", ".join(self.assumed)}' if self.assumed else ''
        differs = f'; differs from the file: {", ".join(self.differs)}' if self.differs else ''
        verified = f'; verified by {self.verified}' if self.verified else ''
        return (f'loaded all {self.loaded} backbone tensors from {self.path} ({self.layout}){left_out}{fresh}{assumed}'
                f'{differs}{verified}')


def backbone_tensors(
    backbone: nn.Module, path: str | Path, layout: str | None = None, branch: str = 'base', resize: bool = False,
    prefix: str | None = None, container: str | None = None, grid: Grid | None = None, channels: bool = False,
) -> tuple[StateDict, Coverage]:
    """The tensors of a checkpoint of any known layout, under the names of ``backbone`` and of its shapes.

    Every parameter and buffer of the backbone must be in the file with its shape, and nothing may be left over. The
    exceptions, all reported: parts of another use of the encoder (mask token, final norm, the norm of averaged patches,
    LocalMIM's tap norms), and indices that follow from the grid. A shared table of relative positions is copied into
    the blocks of a fine-tuning backbone.

    Args:
        backbone: the encoder itself (a ViT or BEiT of mmpretrain, mmseg's BEiT, this package's or timm's), not the
            algorithm around it.
        path: the file.
        layout: of the file, see ``LAYOUT_NAMES``; detected if None.
        branch: ``'base'``, or ``'momentum'`` for the momentum encoder of a contrastive checkpoint.
        resize: interpolate position embeddings and tables of relative positions to the backbone's grid.
        prefix: of the names in the file; found if None.
        container: key of the state dict in the file; found if None.
        grid: rows and columns of patches of the file's position table, where it does not say.
        channels: adapt the patch projection to the backbone's number of input channels, see
            :func:`mm_graft.checkpoints.fit.adapt_stem`.

    Raises:
        CheckpointError: the file is unusable, of another method, or of another size.
    """
    file = read_file(path, container, branch)
    branch = 'base' if file.is_average else branch
    try:
        layout, encoder = find_encoder(backbone, file.tensors, layout, branch, prefix)
        facts = read_facts(file, layout, width_of(encoder.backbone))
        source = find_grid(encoder.backbone, grid, facts.grid, grid_of(backbone))
        fitted = fit(backbone, encoder.backbone, source, resize)
        fitted.tensors = adapt_stem(fitted.tensors, backbone.state_dict()) if channels else fitted.tensors
        assumed = check_facts(backbone, facts, source)
    except (ValueError, TypeError, RuntimeError, LookupError) as error:
        raise CheckpointError(f'checkpoint {file.path}: {error}') from error
    _check_complete(file, layout, backbone.state_dict(), fitted.tensors)
    check_weights(file.path, fitted.tensors, backbone.state_dict())
    weights = {name: why for name, why in file.rest.items() if 'weights' in why}
    return fitted.tensors, Coverage(
        str(file.path), layout, len(fitted.tensors) - len(fitted.fresh),
        {**weights, **encoder.dropped, **fitted.dropped}, fitted.fresh, assumed, integrity(file.path),
        other_eps(backbone, facts))


def width_of(encoder: StateDict) -> int:
    """Width of the tokens of a ViT; 0 for another encoder."""
    return next((len(tensor) for name, tensor in encoder.items() if name.endswith(STEMS)), 0)


def find_encoder(backbone: nn.Module, tensors: StateDict, layout: str | None, branch: str,
                 prefix: str | None) -> tuple[str, Converted]:
    """The layout of a file, and its encoder under mmpretrain's names or under the backbone's own."""
    tensors, own = merge_adapters(tensors), backbone.state_dict()
    is_host_vit = all(map(HOST_NAMES.fullmatch, own)) and not lacking(own)  # a backbone may lack, say, the final norm
    direct = None if layout or is_host_vit else under_own_names(own, tensors, branch, prefix)
    if direct is not None:
        return OWN_NAMES, direct
    converted = convert_backbone(tensors, layout, branch, prefix)
    if not hasattr(backbone, 'tap_norms'):
        converted = plain_encoder(converted)
    return layout or locate(tensors, branch, None, prefix).layout, converted


def under_own_names(own: StateDict, tensors: StateDict, branch: str, prefix: str | None) -> Converted | None:
    """The tensors below some prefix that have exactly the names of a backbone; None where there are none such."""
    plain = {name.removeprefix('timm_model.'): name for name in own}
    needed = [name for name in plain if not FRESH.search(name)]
    starts = {name[:-len(needed[0])] for name in tensors if needed and name.endswith(needed[0])}
    found = {}
    for start in starts if prefix is None else {prefix}:
        inside = {name[len(start):]: tensor for name, tensor in tensors.items() if name.startswith(start)}
        strange = [name for name, value in inside.items() if name not in plain and not BESIDE.match(name)
                   and not is_number(name, value) and not name.endswith('relative_position_index')]
        if start[-1:] in ('', '.') and not strange and all(name in inside for name in needed):
            found[start] = inside
    wanted = [start for start in found if bool(MOMENTUM_WORD.search(start)) == (branch == 'momentum')] or list(found)
    if len(wanted) > 1:
        raise ValueError(f'it holds several such encoders, below {sorted(wanted)}; name one by prefix')
    if not wanted:
        return None
    inside = found[wanted[0]]
    dropped = {name: 'not part of this backbone' for name in tensors
               if not name.startswith(wanted[0]) or name[len(wanted[0]):] not in plain}
    return Converted({plain[name]: tensor for name, tensor in inside.items() if name in plain}, dropped)


def check_facts(backbone: nn.Module, facts: Facts, source: SourceGrid | None) -> tuple[str, ...]:
    """Facts that are assumed because the file does not state them."""
    assumed = []
    for what, own, stated in (('heads', heads_of(backbone), facts.heads),
                              ('activation', activation_of(backbone), facts.activation)):
        if own is not None and stated is not None and own != stated:
            setting = ' (arch=dict(…, num_heads=…))' if what == 'heads' else ''
            raise ValueError(f'it has {what} {stated} by {facts.source}, the backbone has {own}; build the backbone '
                             f'with {what} {stated}{setting}')
        if own is not None and stated is None:
            assumed.append(f'{what} {own}')
    if source is not None and source.how == 'assumed':
        assumed.append(f'grid {source.grid[0]} × {source.grid[1]}')
    return tuple(assumed)


def other_eps(backbone: nn.Module, facts: Facts) -> tuple[str, ...]:
    """The eps of a backbone's layer norms, if its file states another."""
    own = eps_of(backbone)
    if None in (own, facts.eps) or own == facts.eps:
        return ()
    return (f'norm eps {own:g} here, {facts.eps:g} by {facts.source}', )


def load_backbone(backbone: nn.Module, path: str | Path, layout: str | None = None, branch: str = 'base',
                  resize: bool = False, **options: object) -> Coverage:
    """Load a checkpoint of any known layout into a backbone, completely or not at all; see :func:`backbone_tensors`."""
    tensors, coverage = backbone_tensors(backbone, path, layout, branch, resize, **options)
    backbone.load_state_dict(tensors, strict=True)
    print_log(str(coverage), logger='current')
    return coverage


def _check_complete(file: CheckpointFile, layout: str, target: StateDict, tensors: StateDict) -> None:
    missing = [name for name in target if name not in tensors]
    left_over = [name for name in tensors if name not in target]
    if missing or left_over:
        raise CheckpointError(
            f'checkpoint {file.path} ({layout}) covers {len(target) - len(missing)} of {len(target)} backbone tensors; '
            f'missing {missing[:3]}, left over {left_over[:3]}; the names in the file are such as '
            f'{list(file.tensors)[:3]}. Use a checkpoint of this architecture, or build the backbone like it')
    wrong = [name for name in target if target[name].shape != tensors[name].shape]
    if wrong:
        hint = '; channels=True adapts it to other input channels' if wrong[0] in STEMS else ''
        raise CheckpointError(
            f'checkpoint {file.path} ({layout}): {len(wrong)} tensors have another shape, first {wrong[0]}: '
            f'{tuple(tensors[wrong[0]].shape)} in the file, {tuple(target[wrong[0]].shape)} in the model; use the same '
            f'width, depth, patch size and image size{hint}')
