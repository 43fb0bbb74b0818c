"""Which kinds of an encoder's parameters train: attention alone, norms alone, biases alone …

A parameter θ of the encoder trains if its kinds K(θ) and the chosen ones C have one in common: its learning rate is
``lr · m(depth(θ)) · [K(θ) ∩ C ≠ ∅]``. C = {attention} is the fine-tuning of Touvron et al., *Three things everyone
should know about vision transformers* (ECCV 2022, arXiv 2203.09795), C = {bias} is BitFit (Ben Zaken et al., ACL 2022,
arXiv 2106.10199). The authors of both train a classifier beside it; here everything outside the encoder trains too.
"""

import re
from collections.abc import Sequence

from mmengine.utils.dl_utils.misc import is_norm
from torch import nn

from mm_graft.depth import DepthMap
from mm_graft.spelling import did_you_mean

KINDS = ('attention', 'mlp', 'norm', 'bias', 'scale', 'stem')
SCALE = re.compile(r'(^|\.)(gamma_?[12]|ls[12]\.gamma)(\.weight)?$')
NORM = re.compile(r'(^|\.)(\w*norm\w*|ln\d)\.(weight|bias)$')
PLACES = {
    'attention': re.compile(r'(^|\.)(attn|w_msa|attn_pool|rel_pos_bias)\.'),
    'mlp': re.compile(r'(^|\.)(mlp|ffn)\.'),
    'stem': re.compile(r'(^|\.)(patch_embed|downsample)\.|(^|\.)\w*(_token|pos_embed)$'),
}


def kinds_of(name: str, owner: nn.Module) -> set[str]:
    """The kinds of a parameter of an encoder, by its name and the module whose own it is.

    The name includes the bias of q or v (``attn.q_bias``). A bias is of its place and ``'bias'``; norms and layer
    scales are of no place, wherever they stand.
    """
    bias = {'bias'} if name.endswith('bias') else set()
    if SCALE.search(name):
        return {'scale'}
    if is_norm(owner) or NORM.search(name):
        return {'norm', *bias}
    return {kind for kind, place in PLACES.items() if place.search(name)} | bias


def check_kinds(chosen: object) -> None:
    """Refuse an unknown choice of kinds."""
    if isinstance(chosen, str) or not isinstance(chosen, Sequence) or not chosen:
        raise ValueError(f'train_only={chosen!r} must be a list of kinds of {list(KINDS)}')
    if unknown := [kind for kind in chosen if kind not in KINDS]:
        raise ValueError(f'train_only has unknown kinds {unknown}; known are {list(KINDS)}'
                         f'{did_you_mean(unknown, KINDS)}')


def freeze_other_kinds(model: nn.Module, depths: DepthMap, owners: dict[str, nn.Module], chosen: Sequence[str]) -> None:
    """Take the parameters of the encoder that are of none of the chosen kinds out of autograd."""
    found = set()
    for name, parameter in model.named_parameters():
        if not name.startswith(depths.prefix) or not parameter.requires_grad:
            continue
        kinds = kinds_of(name.removeprefix(depths.prefix), owners[name])
        found |= kinds
        parameter.requires_grad_(not kinds.isdisjoint(chosen))
    if idle := [kind for kind in chosen if kind not in found]:
        raise ValueError(f'train_only={list(chosen)}: the encoder has no parameters of the kinds {idle} that would '
                         f'train; it has {sorted(found)}')
