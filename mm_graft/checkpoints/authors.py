"""The vision encoders of DINOv2, DINOv3, OpenCLIP and torchvision, by the names in their authors' files."""

import re

import torch

from mm_graft.checkpoints.forms import (
    check_stem,
    flatten_mask,
    flatten_tokens,
    fold_class_position,
    shape_tokens,
    unfold_class_position,
)
from mm_graft.checkpoints.layouts import Layout, StateDict, encoder_names, pattern
from mm_graft.checkpoints.names import BLOCK, VIT, NameMap, below


def _split_bias(model: StateDict) -> None:
    """Biases of q and v; the mask of the authors' linear layer leaves none to k."""
    for name in [name for name in model if name.endswith('attn.qkv.bias')]:
        start = name.removesuffix('qkv.bias')
        query, _, value = model.pop(name).chunk(3)
        mask = model.pop(f'{start}qkv.bias_mask', None)
        if mask is None or torch.nan_to_num(mask).chunk(3)[1].any():
            raise ValueError(f'{name} has a bias of the keys, which no DINOv3 has; its bias_mask is missing or no mask')
        model[f'{start}q_bias'], model[f'{start}v_bias'] = query, value


def _refuse_dinov3(model: StateDict) -> None:
    raise ValueError("DINOv3 is written in timm's and Hugging Face's names; choose timm or hf-dinov3")


DINOV2 = Layout(
    'DINOv2',
    NameMap(encoder_names(pairs=(
        *VIT,
        ('mask_token', 'mask_token'),
        ('register_tokens', 'reg_token'),
        *below('blocks.{i}.', 'layers.{i}.', (
            ('ls1.gamma', 'attn.gamma1.weight'),
            ('ls2.gamma', 'ffn.gamma2.weight'),
            ('mlp.w12.{t}', 'ffn.w12.{t}'),
            ('mlp.w3.{t}', 'ffn.w3.{t}')))))),
    container=None,
    shown_by=(r'mask_token', r'blocks\.\d+\.ls1\.gamma'),
    read_steps=(shape_tokens, fold_class_position),
    write_steps=(unfold_class_position, flatten_mask))
DINOV3 = Layout(
    'DINOv3',
    NameMap(encoder_names(pairs=(
        ('cls_token', 'cls_token'),
        ('mask_token', 'mask_token'),
        ('storage_tokens', 'reg_token'),
        ('patch_embed.proj.{t}', 'patch_embed.projection.{t}'),
        ('norm.{t}', 'ln1.{t}'),
        *below('blocks.{i}.', 'layers.{i}.', (
            *BLOCK,
            ('ls1.gamma', 'gamma_1'),
            ('ls2.gamma', 'gamma_2'),
            ('mlp.w1.{t}', 'ffn.fc1_g.{t}'),
            ('mlp.w2.{t}', 'ffn.fc1_x.{t}'),
            ('mlp.w3.{t}', 'ffn.layers.1.{t}')))))),
    (pattern('rope_embed.periods', 'follows from the width'), pattern('local_cls_norm.', 'norm of small crops')),
    container=None,
    shown_by=(r'storage_tokens', r'blocks\.\d+\.ls1\.gamma'),
    read_steps=(shape_tokens, _split_bias),
    write_steps=(_refuse_dinov3, ))
OPEN_CLIP = Layout(
    'OpenCLIP',
    NameMap(encoder_names(pairs=(
        ('class_embedding', 'cls_token'),
        ('positional_embedding', 'pos_embed'),
        ('conv1.{t}', 'patch_embed.projection.{t}'),
        ('ln_pre.{t}', 'pre_norm.{t}'),
        ('ln_post.{t}', 'ln1.{t}'),
        *below('transformer.resblocks.{i}.', 'layers.{i}.', (
            ('ln_1.{t}', 'ln1.{t}'),
            ('ln_2.{t}', 'ln2.{t}'),
            ('attn.in_proj_{t}', 'attn.qkv.{t}'),
            ('attn.out_proj.{t}', 'attn.proj.{t}'),
            ('ls_1.gamma', 'attn.gamma1.weight'),
            ('ls_2.gamma', 'ffn.gamma2.weight'),
            ('mlp.c_fc.{t}', 'ffn.layers.0.0.{t}'),
            ('mlp.c_proj.{t}', 'ffn.layers.1.{t}')))))),
    ((re.compile(r'proj$'), 'projection into the space of texts'), ),
    container=None,
    prefix='visual.',
    shown_by=(r'class_embedding', r'ln_pre\.'),
    read_steps=(check_stem, shape_tokens),
    write_steps=(flatten_tokens, ))
TORCHVISION = Layout(
    'torchvision',
    NameMap(encoder_names(pairs=(
        ('class_token', 'cls_token'),
        ('encoder.pos_embedding', 'pos_embed'),
        ('conv_proj.{t}', 'patch_embed.projection.{t}'),
        ('encoder.ln.{t}', 'ln1.{t}'),
        *below('encoder.layers.encoder_layer_{i}.', 'layers.{i}.', (
            ('ln_1.{t}', 'ln1.{t}'),
            ('ln_2.{t}', 'ln2.{t}'),
            ('self_attention.in_proj_{t}', 'attn.qkv.{t}'),
            ('self_attention.out_proj.{t}', 'attn.proj.{t}'),
            ('mlp.0.{t}', 'ffn.layers.0.0.{t}'),
            ('mlp.3.{t}', 'ffn.layers.1.{t}'),
            ('mlp.linear_1.{t}', 'ffn.layers.0.0.{t}'),  # of files before 0.13
            ('mlp.linear_2.{t}', 'ffn.layers.1.{t}')))))),
    (pattern('heads.', 'classifier'), ),
    container=None,
    shown_by=(r'encoder\.layers\.encoder_layer_', ))
