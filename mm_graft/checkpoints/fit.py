"""Fitting the tensors of an encoder to the names and the grid of a particular backbone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from mm_graft.checkpoints.grids import SourceGrid, fits, is_positional, to_grid
from mm_graft.checkpoints.layouts import StateDict, mmpretrain_to_timm
from mm_graft.checkpoints.names import TABLE
from mm_graft.checkpoints.resize import Grid, grid_of, table_grids

SHARED = f'rel_pos_bias.{TABLE}'
BLOCK_TABLE = re.compile(rf'^(layers|blocks)\.\d+\.attn\.(rel_pos_bias\.)?{TABLE}$')
STEMS = ('patch_embed.projection.weight', 'patch_embed.proj.weight', 'timm_model.patch_embed.proj.weight')
MMSEG_TABLE = re.compile(rf'^layers\.\d+\.attn\.{TABLE}$')
# What belongs to one use of an encoder and not to another: pre-training, classification by the mean of the patches …
OPTIONAL = {
    'mask_token': 'the backbone hides no patches',
    'ln1.': 'the backbone has no final norm',
    'norm.': 'the backbone has no final norm',
    'ln2.': 'the backbone does not average its patches',
    'fc_norm.': 'the backbone does not average its patches',
    'attn_pool.': 'the backbone does not pool by attention',
}
# … and what starts fresh where the file has none: the norm of the averaged patches, the token of hidden patches in a
# ViT of timm, adapters, and what follows from the grid
FRESH = re.compile(r'^(timm_model\.)?(ln2|fc_norm)\.|^timm_model\.mask_token$|relative_position_index$|'
                   r'\.lora_(down|up|scale)$')


@dataclass
class Fitted:
    """The tensors of a backbone."""

    tensors: StateDict  #: name → tensor
    dropped: dict[str, str] = field(default_factory=dict)  #: name → why it was not used
    fresh: tuple[str, ...] = ()  #: names that the file lacks, which keep their initial values


def fit(backbone: nn.Module, encoder: StateDict, source: SourceGrid | None = None, resize: bool = False) -> Fitted:
    """The tensors of an encoder, under mmpretrain's names or the backbone's own, for ``backbone``.

    A table of relative positions that all blocks share is copied into blocks that have tables of their own, as BEiT and
    ConMIM do for fine-tuning. ``source`` is the grid of the positions; those of another are interpolated on ``resize``.
    """
    own = backbone.state_dict()
    tensors = spread_table(names_of(own, encoder), own)
    if source is not None:
        tensors = on_grid(tensors, own, source, grid_of(backbone), resize, table_grids(backbone))
    dropped = {}
    for name in [name for name in tensors if name not in own]:
        start = next((start for start in OPTIONAL if name.removeprefix('timm_model.').startswith(start)), None)
        if start is not None:
            dropped[name] = OPTIONAL[start]
            del tensors[name]
    has_tables = any(name.endswith(TABLE) for name in tensors)  # then absolute positions are an addition
    fresh = tuple(name for name in own if name not in tensors and (
        FRESH.search(name) or (name == 'pos_embed' and has_tables)))
    return Fitted({**{name: own[name] for name in fresh}, **tensors}, dropped, fresh)


def names_of(own: StateDict, encoder: StateDict) -> StateDict:
    """The tensors under the names that the backbone uses: mmpretrain's, mmseg's BEiT's, or timm's."""
    if encoder.keys() & own.keys() == own.keys():
        return dict(encoder)
    if any(name.startswith('timm_model.') for name in own):
        return {f'timm_model.{name}': tensor for name, tensor in names_of_timm(own, encoder).items()}
    if any(name.startswith('blocks.') for name in own):
        return names_of_timm(own, encoder)
    if any(MMSEG_TABLE.match(name) for name in own):
        return {name.replace(f'.attn.rel_pos_bias.{TABLE}', f'.attn.{TABLE}'): tensor
                for name, tensor in encoder.items()}
    return dict(encoder)


def names_of_timm(own: StateDict, encoder: StateDict) -> StateDict:
    """Timm's names; the mask token, for which timm has no place, under its own."""
    masks = {name: tensor for name, tensor in encoder.items() if name == 'mask_token'}
    return mmpretrain_to_timm({name: tensor for name, tensor in encoder.items() if name not in masks}) | masks


def spread_table(tensors: StateDict, own: StateDict) -> StateDict:
    """The shared table copied into every block, if the backbone has tables there."""
    shared = next((name for name in (SHARED, f'timm_model.{SHARED}') if name in tensors and name not in own), None)
    blocks = [name for name in own if BLOCK_TABLE.match(name.removeprefix('timm_model.'))]
    if shared is None or not blocks:
        return tensors
    tensors = dict(tensors)
    table = tensors.pop(shared)
    return {**tensors, **dict.fromkeys(blocks, table)}


def on_grid(tensors: StateDict, own: StateDict, source: SourceGrid, target: Grid | None, resize: bool,
            tables: Mapping[str, Grid]) -> StateDict:
    """The tensors with positions for the backbone's grid, and tables of relative positions for their own."""
    names = [name for name in tensors if is_positional(name) and name in own]
    if target is None and all(own[name].shape == tensors[name].shape for name in names):
        target = source.grid
    targets = {name: tables.get(name, target) for name in names
               if name not in tables or not fits(name, tensors[name], tables[name])}
    other = next((grid for grid in targets.values() if grid != source.grid), source.grid)
    if other == source.grid or None in targets.values():
        return tensors
    if not all(fits(name, own[name], grid) for name, grid in targets.items()):
        return tensors  # the shapes differ, which is refused
    if not resize:
        how = '' if source.how in ('given', 'stated') else f', which is {source.how}'
        raise ValueError(f'its positions are of {source.grid[0]} × {source.grid[1]} patches{how}, the backbone has '
                         f'{other[0]} × {other[1]}; load with resize=True to interpolate them (--resize; in a '
                         'training --cfg-options default_hooks.init.resize=True), use the same image size, or say the '
                         'grid of the file by grid=(rows, columns)')
    return {**tensors, **{name: to_grid({name: tensors[name]}, source.grid, grid)[name]
                          for name, grid in targets.items()}}


def adapt_stem(tensors: StateDict, own: StateDict) -> StateDict:
    """The tensors with the patch projection for as many input channels as the backbone has, by timm's rule.

    For one channel the weights are summed over the input channels, so that a gray image gives what it gave as RGB. For
    N they are repeated in a cycle and scaled by I / N for I of the file, so that a patch whose channels are alike gives
    what it gave (``timm.models._manipulate.adapt_input_conv``, timm 1.0).
    """
    for name in STEMS:
        if name not in own or name not in tensors or tensors[name].shape[1] == own[name].shape[1]:
            continue
        weight, wanted = tensors[name].float(), own[name].shape[1]
        given = weight.shape[1]
        if wanted == 1:
            adapted = weight.sum(1, keepdim=True)
        else:
            adapted = weight[:, [channel % given for channel in range(wanted)]] * (given / wanted)
        tensors = {**tensors, name: adapted.to(tensors[name].dtype)}
    return tensors
