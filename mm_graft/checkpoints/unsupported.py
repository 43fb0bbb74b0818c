"""Common encoders that are not supported: how to recognize them, and what to use instead."""

import re
from collections.abc import Sequence
from typing import NamedTuple

OWN = "build it as mm_graft.TimmViT by timm's name, into which timm's own file loads, and give that config"


class Unsupported(NamedTuple):
    """A kind of encoder."""

    names: tuple[str, ...]  #: of which its files have each
    what: str
    way_out: str  #: what to do instead


KINDS = tuple(Unsupported(tuple(names), what, way_out) for names, what, way_out in (
    ((r'\blora_[AB]\.', ), 'an adapter, or a model with one', 'merge it into the model (PEFT: '
     'merge_and_unload()) and save that'),
    ((r'\bpatch_embed(dings)?\.backbone\.', ), 'a hybrid, whose patches come from a convolutional network',
     'choose a plain ViT'),
    ((r'\blayers?\.\d+\.blocks\.\d+\.', r'relative_position_bias_table'), 'a Swin, whose windows are no sequence of '
     'patches', "use mmpretrain's SwinTransformer and a checkpoint in its layout"),
    ((r'(\bconv_dw|\bdwconv|\bdepthwise_conv)\.', ), 'a convolutional network', 'use the backbone of mmpretrain that '
     'it is of'),
    ((r'\blayer1\.0\.conv1\.', ), 'a ResNet', "use mmpretrain's ResNet"),
    ((r'(pos_embed_(window|spatial)|\bblocks\.\d+\.proj\.)', ), 'a hierarchical ViT (Hiera), whose tokens '
     'are merged on the way', 'choose a plain ViT'),
    ((r'\bblocks\.\d+\.(attn\.q_proj|mlp\.fc1_g|mlp\.w1)\.', ), "an EVA-02 or a relative of it, whose rotary positions "
     'are not stored in any tensor', OWN),
    ((r'\bnorm_pre\.', r'\b(attn_pool\.|blocks\.\d+\.gamma_1)'), 'a Perception Encoder, whose rotary positions are '
     'not stored in any tensor', OWN),
    ((r'\bblocks\.\d+\.attn\.q_bias', ), 'an EVA or EVA-02, or a BEiT without its tables of relative positions; '
     'which one is not stored in any tensor', OWN),
    ((r'\bblocks_token_only\.', ), 'a CaiT, whose class token has blocks of its own', 'choose a plain ViT'),
    ((r'\bblocks\.\d+\.gamma_1', ), 'a ViT with rotary positions, which are not stored in any tensor', OWN),
    ((r'\.(weight_(orig|mask)|parametrizations\.)', ), 'a model whose weights are computed from others (pruned, or '
     'parametrized)', 'make them permanent (torch.nn.utils.prune.remove, '
     'torch.nn.utils.parametrize.remove_parametrizations) and save its state dict again'),
    ((r'patchifier\.', ), 'an AIMv2', OWN),
    ((r'\b(embed_tokens|lm_head|wte|token_embd)\.', r'\b(model\.layers|h|blk)\.\d+\.'), 'a language model, whose '
     'attention is causal', 'choose an encoder of images'),
))


def known_as(names: Sequence[str]) -> str:
    """The kind of encoder that names belong to, and a remedy; empty if unknown."""
    for kind in KINDS:
        if all(any(re.search(part, name) for name in names) for part in kind.names):
            return f'it is {kind.what}: {kind.way_out}'
    return ''
