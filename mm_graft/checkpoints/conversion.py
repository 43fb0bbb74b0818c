"""Which layouts are known, how to tell them apart, and conversion between any two of them."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from mm_graft.checkpoints.conmim import CONMIM
from mm_graft.checkpoints.layouts import (
    BASE,
    MAE,
    MOCOV3,
    MOMENTUM,
    OTHER,
    TIMM,
    Converted,
    Layout,
    StateDict,
    encoder_only,
)
from mm_graft.checkpoints.localmim import LOCALMIM, plain_encoder
from mm_graft.checkpoints.refiner import DATA2VEC2, REFINER

MMPRETRAIN = 'mmpretrain'
LAYOUTS: dict[str, Layout] = {
    'mae': MAE, 'timm': TIMM, 'mocov3': MOCOV3, 'graft': MOCOV3, 'conmim': CONMIM, 'localmim': LOCALMIM,
    'refiner': REFINER, 'data2vec2': DATA2VEC2}
LAYOUT_NAMES = (*LAYOUTS, MMPRETRAIN)
BRANCHES = ('base', 'momentum')
AVERAGE = 'momentum_encoder.module.'
AVERAGED = re.compile(r'^((?:.+\.)?module\.(?:0\.)?)(.+)$')
BARE = re.compile(r'^(layers|stages)\.')
BLOCK_TENSOR = re.compile(r'^layers\.(\d+)\.(.+)$')


def detect_layout(state_dict: Mapping[str, Tensor]) -> str:
    """Kind of a layout by its names; MAE's encoder and timm's ViT without a head are the same.

    Raises:
        ValueError: the names belong to no known layout.
    """
    names = [name.removeprefix('module.') for name in state_dict]

    def has(start: str) -> bool:
        return any(name.startswith(start) for name in names)

    if has('base_encoder.') or has('momentum_encoder.blocks.'):
        return 'mocov3'
    if has('backbone.') or has('layers.') or has('stages.'):
        return MMPRETRAIN
    if has('blocks.') and any(name.endswith('.attn.q_bias') for name in names):
        return 'conmim'
    if has('blocks.') and has('norm.0.'):
        return 'localmim'
    if has('blocks.') and has('cls_tokens.tokens'):
        return 'refiner'
    if has('modality_encoders.IMAGE.'):
        return 'data2vec2'
    if has('blocks.'):
        return 'timm' if has('head.') and not has('decoder_') else 'mae'
    raise ValueError(f'names such as {names[:3]} belong to no known layout; known are {sorted(LAYOUT_NAMES)}')


def read_model(state_dict: StateDict, layout: str | None = None) -> Converted:
    """A state dict of any known layout as a model of mmpretrain (``backbone.*`` and what stands beside it).

    Raises:
        ValueError: unknown or wrong layout, or a tensor that fits no rule.
    """
    layout = layout or detect_layout(state_dict)
    if layout not in LAYOUT_NAMES:
        raise ValueError(f'unknown layout {layout!r}; choose one of {sorted(LAYOUT_NAMES)}')
    if layout != MMPRETRAIN:
        model = LAYOUTS[layout].read(state_dict)
    elif any(name.startswith(BASE) for name in state_dict):
        model = Converted(dict(state_dict))
    elif any(BARE.match(name) for name in state_dict):
        model = Converted({BASE + name: tensor for name, tensor in state_dict.items()})
    else:
        raise ValueError(f'names such as {list(state_dict)[:3]} are no model of mmpretrain (`backbone.*`) and no '
                         f'backbone of its (`layers.*`); they look like layout {detect_layout(state_dict)!r}')
    if not any(name.startswith((BASE, MOMENTUM)) for name in model.backbone):
        raise ValueError(f'no encoder in it, though read as {layout!r}; name the right layout')
    return model


def name_average(model: Converted) -> Converted:
    """A model of mmpretrain's, with an average of its encoder under the host's name.

    Models may call their average as they like, and average the backbone alone (``teacher.module.cls_token``) or with a
    projector (``momentum_encoder.module.0.cls_token``).

    Raises:
        ValueError: several averages of the encoder, and none has the host's name.
    """
    encoder = {name[len(BASE):] for name in model.backbone if name.startswith(BASE)}
    found = (AVERAGED.match(name) for name in model.backbone)
    starts = {match.group(1) for match in found if match and match.group(2) in encoder}
    start = next((start for start in starts if start.startswith(AVERAGE)), min(starts, default=MOMENTUM))
    if len(starts) > 1 and not start.startswith(AVERAGE):
        raise ValueError(f'the encoder has several averages, {sorted(starts)}; leave one of them in the file')
    if start == MOMENTUM:
        return model
    root = start.removesuffix('0.')
    renamed = {name: MOMENTUM + name[len(start):] if name.startswith(start) else AVERAGE + name[len(root):]
               for name in model.backbone if name.startswith(root)}
    return replace(model, backbone={renamed.get(name, name): tensor for name, tensor in model.backbone.items()},
                   sources={**model.sources, **{new: name for name, new in renamed.items()}})


def choose_branch(model: Converted, branch: str = 'base') -> Converted:
    """The model with its slowly moving encoder (and projector) in the place of the other, if ``branch`` says so.

    Raises:
        ValueError: unknown branch, or the model has no second encoder.
    """
    if branch not in BRANCHES:
        raise ValueError(f'unknown branch {branch!r}; choose base or momentum')
    if branch == 'base':
        return model
    model = name_average(model)
    if not any(name.startswith(MOMENTUM) for name in model.backbone):
        raise ValueError('the checkpoint has no momentum encoder (`momentum_encoder.*`), only one encoder; use '
                         "branch=base (ConMIM's authors keep the teacher in a file of its own, checkpoint_copy-N.pth)")
    result = replace(model, backbone={}, dropped=dict(model.dropped), sources={})
    promoted = {MOMENTUM: BASE, 'momentum_encoder.module.1.': 'neck.'}
    for name, tensor in model.backbone.items():
        source = model.sources.get(name, name)
        start = next((start for start in promoted if name.startswith(start)), None)
        if start is None and name.startswith((BASE, 'neck.', 'momentum_encoder.')):
            result.dropped[source] = OTHER
            continue
        new = name if start is None else promoted[start] + name[len(start):]
        result.backbone[new], result.sources[new] = tensor, source
    return result


def convert_backbone(state_dict: StateDict, layout: str | None = None, branch: str = 'base') -> Converted:
    """The backbone of a checkpoint in mmpretrain's names.

    Raises:
        ValueError: unknown layout or branch, a tensor that fits no rule, or no such encoder.
    """
    converted = encoder_only(choose_branch(read_model(state_dict, layout), branch))
    if not converted.backbone:
        raise ValueError(f'the checkpoint has no encoder for branch={branch}; use the other')
    return converted


def convert_model(state_dict: StateDict, source: str | None, target: str, branch: str = 'base') -> Converted:
    """A checkpoint of one layout in another, with all parts of the model that the other can hold.

    Args:
        state_dict: what stands in the file.
        source: its layout; detected if None.
        target: layout of the result.
        branch: which encoder of a contrastive checkpoint becomes the encoder of the result.

    Raises:
        ValueError: unknown or wrong layout, a tensor that fits no rule, an encoder that the target cannot hold or that
            is not whole.
    """
    if target not in LAYOUT_NAMES:
        raise ValueError(f'unknown layout {target!r}; choose one of {sorted(LAYOUT_NAMES)}')
    model = choose_branch(read_model(state_dict, source), branch)
    check_encoder(encoder_only(model).backbone)
    if target == MMPRETRAIN:
        return model
    if target != 'localmim':
        model = plain_encoder(model, BASE)
    if target == 'timm':
        model = _without_mask_token(model)
    written = LAYOUTS[target].write(model.backbone)
    if target in ('conmim', 'localmim') and detect_layout(written.backbone) != target:
        raise ValueError(f'this is no encoder of {LAYOUTS[target].title}; choose timm, mae or mmpretrain instead')
    left_out = {model.sources.get(name, name): reason for name, reason in written.dropped.items()}
    return Converted(written.backbone, {**model.dropped, **left_out})


def _without_mask_token(model: Converted) -> Converted:
    """A mask token belongs to pre-training; timm's models have none."""
    kept = {name: tensor for name, tensor in model.backbone.items() if name != f'{BASE}mask_token'}
    gone = {model.sources.get(name, name): 'timm has no mask token' for name in model.backbone if name not in kept}
    return replace(model, backbone=kept, dropped={**model.dropped, **gone})


def check_encoder(backbone: StateDict) -> None:
    """See that a plain ViT is whole: its blocks complete, alike and of one width. Other encoders pass.

    Raises:
        ValueError: names the block or tensor.
    """
    blocks: dict[int, dict[str, tuple]] = {}
    for name, tensor in backbone.items():
        if match := BLOCK_TENSOR.match(name):
            blocks.setdefault(int(match.group(1)), {})[match.group(2)] = tuple(tensor.shape)
    if not blocks:
        return
    missing = sorted(set(range(max(blocks) + 1)) - set(blocks))
    if missing:
        raise ValueError(f'block {missing[0]} of the encoder is missing though there is a block {max(blocks)}; '
                         'the file is not whole')
    for index, shapes in sorted(blocks.items()):
        different = {name for name in {**shapes, **blocks[0]} if shapes.get(name) != blocks[0].get(name)}
        if different:
            name = min(different)
            raise ValueError(f'layers.{index}.{name} has shape {shapes.get(name)}, in block 0 it has '
                             f'{blocks[0].get(name)}; the file is not whole')
    width = blocks[0].get('ln1.weight', (None,))[-1]
    for name in ('cls_token', 'pos_embed', 'patch_embed.projection.bias', 'ln1.weight'):
        if name in backbone and backbone[name].shape[-1] != width:
            raise ValueError(f'{name} has width {backbone[name].shape[-1]}, the blocks have {width}; '
                             'the file holds tensors of two models')
