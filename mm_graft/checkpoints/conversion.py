"""Conversion of checkpoints between any two layouts, through models of mmpretrain."""

import re
from collections.abc import Iterable
from dataclasses import replace

from mm_graft.checkpoints.adapters import merge_adapters
from mm_graft.checkpoints.detection import (
    BLOCK_TENSOR,
    FOREIGN_PARTS,
    HOST_NAMES,
    LAYOUT_NAMES,
    LAYOUTS,
    MMPRETRAIN,
    below,
    lacking,
    locate,
)
from mm_graft.checkpoints.layouts import BASE, MOMENTUM, OTHER, Converted, StateDict, encoder_only
from mm_graft.checkpoints.localmim import plain_encoder

BRANCHES = ('base', 'momentum')
AVERAGE = 'momentum_encoder.module.'
AVERAGED = re.compile(r'^((?:.+\.)?module\.(?:0\.)?)(.+)$')


def read_model(state_dict: StateDict, layout: str | None = None, branch: str = 'base',
               prefix: str | None = None) -> Converted:
    """A state dict of any known layout as a model of mmpretrain (``backbone.*``, ``neck.*`` …).

    Args:
        state_dict: the content of the file.
        layout: its layout; detected if None.
        branch: which encoder becomes ``backbone.*``: ``'base'``, or ``'momentum'`` for the momentum encoder.
        prefix: what stands before the names of the model; found if None.
    """
    if branch not in BRANCHES:
        raise ValueError(f'unknown branch {branch!r}; choose base or momentum')
    state_dict = merge_adapters(state_dict)
    place = locate(state_dict, branch, layout, prefix)
    if place.layout != MMPRETRAIN:
        model = LAYOUTS[place.layout].read(state_dict, place.root)
    else:
        model = read_host_model(state_dict, place.root)
    if not any(name.startswith((BASE, MOMENTUM)) for name in model.backbone):
        raise ValueError(f'no encoder in it, though read as {place.layout!r}; name the right layout')
    return choose_branch(model, 'base' if place.is_average else branch)


def read_host_model(state_dict: StateDict, root: str) -> Converted:
    """A model or a bare backbone of mmpretrain's, whose names all begin with ``root``."""
    inside = {name[len(root):]: name for name in state_dict if name.startswith(root)}
    bare = not any(name.startswith((BASE, AVERAGE)) for name in inside)
    if bare and not any(map(HOST_NAMES.fullmatch, inside)):
        raise ValueError(f'names such as {list(state_dict)[:3]} are no model of mmpretrain (`backbone.*`) and no '
                         'backbone of its that is known here (`layers.*`)')
    sources = {(BASE if bare else '') + plain: name for plain, name in inside.items()}
    return Converted({plain: state_dict[name] for plain, name in sources.items()},
                     {name: f'not below {root}' for name in state_dict if not name.startswith(root)}, sources)


def name_average(model: Converted) -> Converted:
    """A model of mmpretrain's, with an average of its encoder under the host's name.

    Models may call their average as they like, and average the backbone alone (``teacher.module.cls_token``) or with a
    projector (``momentum_encoder.module.0.cls_token``).
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
    """The model with its momentum encoder (and projector) in the place of the other, if ``branch`` says so."""
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


def convert_backbone(state_dict: StateDict, layout: str | None = None, branch: str = 'base',
                     prefix: str | None = None) -> Converted:
    """The backbone of a checkpoint in mmpretrain's names; arguments as for :func:`read_model`."""
    return encoder_only(read_model(state_dict, layout, branch, prefix))


def convert_model(state_dict: StateDict, source: str | None, target: str, branch: str = 'base',
                  prefix: str | None = None) -> Converted:
    """A checkpoint of one layout in another, with all parts of the model that the other can hold.

    Arguments are as for :func:`read_model`.
    """
    return write_model(read_model(state_dict, source, branch, prefix), target)


def write_model(model: Converted, target: str) -> Converted:
    """A model of mmpretrain in another layout, with all parts that it can hold."""
    if target not in LAYOUT_NAMES:
        raise ValueError(f'unknown layout {target!r}; choose one of {sorted(LAYOUT_NAMES)}')
    check_encoder(encoder_only(model).backbone)
    if target == MMPRETRAIN:
        return model
    if target not in ('refiner', 'data2vec2') and norms_behind(model.backbone):
        raise ValueError(f"{target}'s layout has no place for an encoder with post-norm blocks; "
                         'choose mmpretrain, data2vec2 or refiner')
    if target != 'localmim':
        model = plain_encoder(model, BASE)
    if target in ('timm', 'timm-dinov3'):
        model = _without_mask_token(model)
    written = LAYOUTS[target].write(model.backbone)
    names = below(written.backbone, LAYOUTS[target].prefix)
    forms = (target, 'timm-dinov3') if target == 'timm' else (target, )
    if not any(LAYOUTS[form].shows(names, only_shown=True) for form in forms):
        raise ValueError(f'this is not an encoder of {LAYOUTS[target].title}; choose timm, mae or mmpretrain instead')
    left_out = {model.sources.get(name, name): reason for name, reason in written.dropped.items()}
    return Converted(written.backbone, {**model.dropped, **left_out})


def norms_behind(names: Iterable[str], start: str = BASE) -> bool:
    """Whether an encoder is data2vec 2.0's: it has a norm before its first block and none behind the last."""
    names = {name.split('.')[1 if start else 0] for name in names if name.startswith(start)}
    return 'pre_norm' in names and 'ln1' not in names


def _without_mask_token(model: Converted) -> Converted:
    """A mask token belongs to pre-training; timm's models have none."""
    kept = {name: tensor for name, tensor in model.backbone.items() if name != f'{BASE}mask_token'}
    gone = {model.sources.get(name, name): 'timm has no mask token' for name in model.backbone if name not in kept}
    return replace(model, backbone=kept, dropped={**model.dropped, **gone})


def check_encoder(backbone: StateDict) -> None:
    """Check that an encoder in mmpretrain's names is complete, with equal blocks of one width."""
    strange = [name for name in backbone if not HOST_NAMES.fullmatch(name) and not FOREIGN_PARTS.fullmatch(name)]
    if strange:
        raise ValueError(f'{len(strange)} tensors belong to no known ViT or Swin, first {strange[:3]}')
    blocks: dict[int, dict[str, tuple]] = {}
    for name, tensor in backbone.items():
        if match := BLOCK_TENSOR.match(name):
            blocks.setdefault(int(match.group(1)), {})[match.group(2)] = tuple(tensor.shape)
    missing = sorted(set(range(max(blocks, default=0) + 1)) - set(blocks)) if blocks else []
    if missing:
        raise ValueError(f'block {missing[0]} of the encoder is missing though there is a block {max(blocks)}; '
                         'the file is incomplete')
    for index, shapes in sorted(blocks.items()):
        different = {name for name in {**shapes, **blocks[0]} if shapes.get(name) != blocks[0].get(name)}
        if different:
            name = min(different)
            raise ValueError(f'layers.{index}.{name} has shape {shapes.get(name)}, in block 0 it has '
                             f'{blocks[0].get(name)}; the file is incomplete')
    if parts := lacking(backbone):
        raise ValueError(f'the encoder lacks {", ".join(parts[:3])}; the file is incomplete')
    if not blocks:
        return
    hidden, taken = (blocks[0].get(f'ffn.layers.{part}.weight') for part in ('0.0', '1'))
    if hidden and taken and hidden[0] != taken[-1]:
        raise ValueError(f'the feed-forward part makes {hidden[0]} numbers and takes {taken[-1]}: it is gated '
                         '(SwiGLU), which no known ViT is')
    width = blocks[0].get('ln1.weight', (None,))[-1]
    for name in ('cls_token', 'pos_embed', 'patch_embed.projection.bias', 'ln1.weight'):
        if name in backbone and backbone[name].shape[-1] != width:
            raise ValueError(f'{name} has width {backbone[name].shape[-1]}, the blocks have {width}; '
                             'the file holds tensors of two models')
