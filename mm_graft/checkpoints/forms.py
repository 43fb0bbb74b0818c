"""Tensors that layouts keep in another form than the host: q, k and v apart, tokens flat, registers' positions."""

import re

import torch
from torch import Tensor

from mm_graft.checkpoints.names import BASE, StateDict

APART = re.compile(r'(.*\battn\.)([qkv])\.(weight|bias)$')
POSITIONS, CLASS_TOKEN = f'{BASE}pos_embed', f'{BASE}cls_token'
TOKENS = ('cls_token', 'dist_token', 'reg_token', 'mask_token', 'pos_embed')


def fused_name(name: str) -> str:
    """The name of the matrix of which q, k or v is a third."""
    return APART.sub(r'\1qkv.\3', name)


def fuse_qkv(model: StateDict) -> None:
    """One matrix of q, k and v in the place of three; a bias of q and v alone stays apart, as BEiT keeps it."""
    for name in [name for name in model if (match := APART.match(name)) and match[2] == 'q']:
        start, _, part = APART.match(name).groups()
        thirds = {letter: model.pop(f'{start}{letter}.{part}', None) for letter in 'qkv'}
        found = [third for third in thirds.values() if third is not None]
        if len(found) == 3:
            model[f'{start}qkv.{part}'] = torch.cat(found)
        elif part == 'bias' and thirds['k'] is None and len(found) == 2:
            model[f'{start}q_bias'], model[f'{start}v_bias'] = found
        else:
            raise ValueError(f'{start}{part} has {len(found)} of its three parts; the file is incomplete')


def split_qkv(model: StateDict) -> None:
    """The inverse of :func:`fuse_qkv`."""
    for name in [name for name in model if name.endswith(('attn.qkv.weight', 'attn.qkv.bias'))]:
        start, part = name.rsplit('qkv.', 1)
        model |= dict(zip((f'{start}{letter}.{part}' for letter in 'qkv'), model.pop(name).chunk(3)))
    for name in [name for name in model if name.endswith(('attn.q_bias', 'attn.v_bias'))]:
        model[f'{name[:-len("q_bias")]}{name[-len("q_bias")]}.bias'] = model.pop(name)


def shape_tokens(model: StateDict) -> None:
    """Tokens and tables of positions as (1, count, D)."""
    for name in TOKENS:
        if BASE + name in model:
            table = model[BASE + name]
            model[BASE + name] = table.reshape(1, -1, table.shape[-1])


def flatten_tokens(model: StateDict) -> None:
    """A class token as (D,) and a table of positions as (count, D), as CLIP keeps them."""
    for name, axes in (('cls_token', (0, 0)), ('pos_embed', (0, ))):
        for axis in axes:
            if BASE + name in model:
                model[BASE + name] = model[BASE + name].squeeze(axis)


def flatten_mask(model: StateDict) -> None:
    """A mask token as (1, D), as DINOv2 keeps it."""
    if f'{BASE}mask_token' in model:
        model[f'{BASE}mask_token'] = model[f'{BASE}mask_token'].squeeze(0)


def fold_class_position(model: StateDict) -> None:
    """The class token with its position, where there are registers, which have none; positions of patches alone.

    It is the form of timm and exact: the sum is what the first block sees in both.
    """
    if f'{BASE}reg_token' in model and CLASS_TOKEN in model and POSITIONS in model:
        fold_position(model)


def fold_position(model: StateDict) -> None:
    """The class token with its position, and the positions of the patches alone.

    Raises:
        ValueError: there is no class token, or no table of positions.
    """
    for name in (CLASS_TOKEN, POSITIONS):
        if name not in model:
            raise ValueError(f'this encoder has no {name.removeprefix(BASE)}, and the layout keeps a class token with '
                             'its position in it; choose timm or mmpretrain instead')
    model[CLASS_TOKEN] = model[CLASS_TOKEN] + model[POSITIONS][:, :1]
    model[POSITIONS] = model[POSITIONS][:, 1:]


def unfold_class_position(model: StateDict) -> None:
    """A class token whose position is zero, where there are registers."""
    if f'{BASE}reg_token' in model and POSITIONS in model:
        model[POSITIONS] = behind_zeros(model[POSITIONS])


def behind_zeros(rows: Tensor) -> Tensor:
    """Positions of patches (1, N, D) behind a row of zeros for the class token, (1, 1 + N, D)."""
    return torch.cat([torch.zeros_like(rows[:, :1]), rows], dim=1)


def name_gated(model: StateDict) -> None:
    """The host's names for gated feed-forward parts whose gate and value are one matrix, which timm's names hide."""
    for name in [name for name in model if name.endswith('.ffn.layers.1.weight')]:
        start = name.removesuffix('layers.1.weight')
        hidden = model.get(f'{start}layers.0.0.weight')
        if hidden is not None and len(hidden) == 2 * model[name].shape[1]:
            for old, new in (('layers.0.0', 'w12'), ('layers.1', 'w3')):
                for part in ('weight', 'bias'):
                    if f'{start}{old}.{part}' in model:
                        model[f'{start}{new}.{part}'] = model.pop(f'{start}{old}.{part}')


def name_values(model: StateDict) -> None:
    """Timm's name for the values of a gated feed-forward part, where the gate has a matrix of its own."""
    _rename_beside(model, '.ffn.fc1_g.', '.ffn.layers.0.0.', '.ffn.fc1_x.')


def unname_values(model: StateDict) -> None:
    """The inverse of :func:`name_values`."""
    _rename_beside(model, '.ffn.fc1_g.', '.ffn.fc1_x.', '.ffn.layers.0.0.')


def _rename_beside(model: StateDict, sign: str, old: str, new: str) -> None:
    for name in [name for name in model if old in name and name.replace(old, sign) in model]:
        model[name.replace(old, new)] = model.pop(name)


def split_pool(model: StateDict) -> None:
    """The query of pooling by attention apart from keys and values, as timm keeps it."""
    for part in ('weight', 'bias'):
        if (name := f'{BASE}attn_pool.qkv_{part}') in model:
            table = model.pop(name)
            third = len(table) // 3
            model[f'{BASE}attn_pool.q.{part}'], model[f'{BASE}attn_pool.kv.{part}'] = table[:third], table[third:]


def fuse_pool(model: StateDict) -> None:
    """The inverse of :func:`split_pool`."""
    for part in ('weight', 'bias'):
        if f'{BASE}attn_pool.q.{part}' in model:
            parts = [model.pop(f'{BASE}attn_pool.{name}.{part}') for name in ('q', 'kv')]
            model[f'{BASE}attn_pool.qkv_{part}'] = torch.cat(parts)


def check_stem(model: StateDict) -> None:
    """Check that patches are embedded by a convolution."""
    stem = model.get(f'{BASE}patch_embed.projection.weight')
    if stem is not None and stem.ndim != 4:
        raise ValueError('its patches are embedded by a matrix, as those of images of any aspect (NaFlex) are; use the '
                         'fixed-resolution file of the same model')
