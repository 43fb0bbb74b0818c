"""The config of ``mm_graft.TimmViT`` for the ViT in a checkpoint, from its tensors and metadata."""

import math
from typing import NamedTuple

from mm_graft.checkpoints.containers import CheckpointFile
from mm_graft.checkpoints.conversion import check_encoder, convert_backbone, norms_behind
from mm_graft.checkpoints.detection import STEM, locate
from mm_graft.checkpoints.facts import Facts, read_facts
from mm_graft.checkpoints.grids import find_grid
from mm_graft.checkpoints.layouts import StateDict
from mm_graft.checkpoints.names import TABLE
from mm_graft.checkpoints.resize import Grid
from mm_graft.checkpoints.settings import (
    FAMILIES,
    HALF,
    IMAGENET,
    Family,
    Settings,
    named_model,
    settings_beside,
    side_or_sides,
)

FIRST = 'layers.0.'
HEAD = 64  # width of an attention head in most public ViTs, and by width those of which it is not
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16, 2560: 32, 4096: 32}  # SoViT-400m, ViT-H, g, G, 2B, 6.5B and 7B
MOCOV3, DINOV3 = {384: 12}, {1280: 20}  # their ViT-S, and ViT-H+
HEADS_OF_LAYOUT = {'mocov3': MOCOV3, 'graft': MOCOV3, 'dinov3': DINOV3, 'hf-dinov3': DINOV3, 'timm-dinov3': DINOV3}
DEFAULT = Family(IMAGENET)
ACTIVATIONS = ('gelu', 'gelu_tanh', 'quick_gelu', 'silu', 'relu')  # of which timm builds a ViT by these names
# parts that only one family has, for layouts that several share: CLIP's norm before the blocks, SigLIP's pooling
TOWERS = {'pre_norm.weight': FAMILIES['hf-clip'], 'attn_pool.latent': Family(HALF)}


class Architecture(NamedTuple):
    """An encoder and how its images are normalized."""

    backbone: dict  #: config of the registered backbone
    pixels: tuple[tuple[float, ...], tuple[float, ...]]  #: mean and standard deviation of each channel, in 0…1
    assumed: tuple[str, ...]  #: what is stated nowhere


def architecture_of(file: CheckpointFile, branch: str = 'base') -> Architecture:
    """The architecture of the encoder in a file; facts that it does not state are assumed and reported."""
    branch = 'base' if file.is_average else branch
    beside = settings_beside(file.path)
    if beside.model:
        return named(file, beside)
    layout = locate(file.tensors, branch).layout
    encoder = convert_backbone(file.tensors, layout, branch).backbone
    check_encoder(encoder)
    if STEM not in encoder or f'{FIRST}ln1.weight' not in encoder:
        raise ValueError('it is not a plain ViT; give the config of its encoder')
    if norms_behind(encoder, ''):
        raise ValueError('it has post-norm blocks, which no ViT of timm has; give a config with mm_graft.PostNormViT')
    facts = read_facts(file, layout, len(encoder[STEM]))
    family = family_of(facts, layout, encoder)
    assumed = []

    def known(stated: object, otherwise: object, what: str) -> object:
        if stated is not None:
            return stated
        if otherwise is None:
            raise ValueError(f'it does not state its {what}, and files of this layout differ in it; put its '
                             'config.json beside it, or give the config of its encoder')
        assumed.append(f'{what} {otherwise}')
        return otherwise

    width, _, patch, _ = encoder[STEM].shape
    heads = known(facts.heads, usual_heads(width, layout), 'heads')
    activation = known(facts.activation, usual_activation(encoder, family), 'activation')
    eps = known(facts.eps, family.eps, 'norm eps')
    grid = find_grid(encoder, None, facts.grid)
    side = known(grid.grid if grid else facts.grid, None, 'image size')
    if grid and grid.how == 'assumed':
        assumed.append(f'grid {side[0]} × {side[1]}')
    backbone = {'type': 'mm_graft.TimmViT', **timm_model(encoder, facts, activation, side),
                'img_size': side_or_sides(patch * count for count in side), 'num_heads': heads, 'norm_eps': eps}
    return Architecture(backbone, known(facts.pixels, family.pixels, 'mean and std'), tuple(assumed))


def usual_heads(width: int, layout: str) -> int:
    """The number of heads of the public ViTs of a width and layout."""
    return HEADS_OF_LAYOUT.get(layout, {}).get(width) or HEADS.get(width) or max(1, width // HEAD)


def named(file: CheckpointFile, beside: Settings) -> Architecture:
    """The timm model that a file beside the weights names."""
    stems = (tensor for name, tensor in file.tensors.items() if name.endswith('patch_embed.proj.weight'))
    backbone = {**named_model(beside), 'in_channels': next((stem.shape[1] for stem in stems), 3)}
    assumed = () if beside.pixels else (f'mean and std {IMAGENET}', )
    return Architecture(backbone, beside.pixels or IMAGENET, assumed)


def family_of(facts: Facts, layout: str, encoder: StateDict) -> Family:
    """The family that the file beside the weights names, else the layout's, else that of a part of the encoder."""
    by_part = next((family for part, family in TOWERS.items() if part in encoder), DEFAULT)
    return FAMILIES.get(facts.beside.family) or FAMILIES.get(layout, by_part)


def usual_activation(encoder: StateDict, family: Family) -> str | None:
    """The activation of a family; that of gated feed-forward parts is SiLU."""
    gated = any(name.startswith(f'{FIRST}ffn.{part}') for name in encoder for part in ('w12', 'fc1_g'))
    return 'silu' if gated else family.activation


def timm_model(encoder: StateDict, facts: Facts, activation: str, grid: Grid) -> dict:
    """Timm's name of the family, and the sizes and parts by which the encoder differs from it."""
    width, channels, patch, _ = encoder[STEM].shape
    common = {
        'in_channels': channels, 'patch_size': patch, 'embed_dim': width, 'depth': count_blocks(encoder),
        'mlp_ratio': ratio_of(hidden_width(encoder), width)}
    if 'reg_token' in encoder and f'{FIRST}gamma_1' in encoder:
        return {**common, **dinov3(encoder, facts, activation)}
    if f'{FIRST}gamma_1' in encoder or f'{FIRST}attn.q_bias' in encoder:
        return {**common, **beit(encoder, activation)}
    return {**common, **vit(encoder, activation, grid)}


def count_blocks(encoder: StateDict) -> int:
    """The number of its blocks."""
    return 1 + max(int(name.split('.')[1]) for name in encoder if name.startswith('layers.'))


def hidden_width(encoder: StateDict) -> int:
    """Rows of the first matrix of a feed-forward part; where it is gated by one matrix, of gate and value together."""
    return next(len(encoder[name]) for part in ('layers.0.0', 'w12', 'fc1_x')
                if (name := f'{FIRST}ffn.{part}.weight') in encoder)


def ratio_of(hidden: int, width: int) -> float:
    """The ratio of which timm makes the hidden width again, by rounding down."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def vit(encoder: StateDict, activation: str, grid: Grid) -> dict:
    """Timm's ``VisionTransformer``."""
    if 'pos_embed' not in encoder:
        raise ValueError('it has no table of positions, and how it tells patches apart is not stored in any '
                         'tensor; give the config of its encoder')
    if activation not in ACTIVATIONS:
        raise ValueError(f"its activation is {activation}, and a ViT of timm's is built with one of {ACTIVATIONS}; "
                         'give the config of its encoder')
    if f'{FIRST}attn.qkv.bias' not in encoder and 'cls_token' not in encoder:
        raise ValueError('it has neither a class token nor biases of q, k and v, as ViTs whose norms stand behind '
                         "their layers (timm's vit_*_rpn), which is not stored in any tensor; give the config of its "
                         'encoder')
    prefix = 'cls_token' in encoder
    pool = 'map' if 'attn_pool.latent' in encoder else 'token' if prefix and 'ln2.weight' not in encoder else 'avg'
    scaled = f'{FIRST}attn.gamma1.weight' in encoder
    normed = any(name.startswith(('ln1.', 'tap_norms.')) for name in encoder)
    parts = {
        'global_pool': pool, 'pre_norm': 'pre_norm.weight' in encoder, 'final_norm': normed,
        'fc_norm': 'ln2.weight' in encoder and not normed,
        'qkv_bias': f'{FIRST}attn.qkv.bias' in encoder, 'qk_norm': f'{FIRST}attn.q_norm.weight' in encoder,
        'init_values': 1e-5 if scaled else None}
    if 'dist_token' in encoder:
        return {'model_name': 'deit_base_distilled_patch16_224', 'act_layer': activation,
                **{name: parts[name] for name in ('qkv_bias', 'qk_norm', 'init_values')}}
    count = encoder['reg_token'].shape[1] if 'reg_token' in encoder else 0
    parts |= {'class_token': prefix, 'reg_tokens': count,
              'no_embed_class': encoder['pos_embed'].shape[1] == grid[0] * grid[1]}
    if f'{FIRST}ffn.w12.weight' in encoder:
        return {'model_name': 'vit_giant_patch14_dinov2', **parts}
    return {'model_name': 'vit_base_patch16_224', 'act_layer': activation, **parts}


def beit(encoder: StateDict, activation: str) -> dict:
    """Timm's ``Beit``."""
    if activation != 'gelu':
        raise ValueError(f"a BEiT with the activation {activation}; timm's have gelu")
    return {
        'model_name': 'beit_base_patch16_224', 'global_pool': 'avg' if 'ln2.weight' in encoder else 'token',
        'use_abs_pos_emb': 'pos_embed' in encoder, 'init_values': 0.1 if f'{FIRST}gamma_1' in encoder else None,
        'use_rel_pos_bias': f'{FIRST}attn.rel_pos_bias.{TABLE}' in encoder,
        'use_shared_rel_pos_bias': f'rel_pos_bias.{TABLE}' in encoder}


def dinov3(encoder: StateDict, facts: Facts, activation: str) -> dict:
    """Timm's ``Eva`` with the rotary positions of DINOv3."""
    gated = f'{FIRST}ffn.fc1_g.weight' in encoder
    if activation != ('silu' if gated else 'gelu'):
        raise ValueError(f"a DINOv3 with the activation {activation}; timm's have gelu, or silu where they are gated")
    if 'pos_embed' in encoder:
        raise ValueError('registers, layer scale and a table of positions together are no DINOv3; give the config of '
                         'its encoder')
    name = 'vit_huge_plus_patch16_dinov3' if gated else 'vit_base_patch16_dinov3'
    biased = f'{FIRST}attn.q_bias' in encoder
    return {
        'model_name': f'{name}_qkvb' if biased else name, 'qkv_bias': biased, 'global_pool': 'token',
        'num_reg_tokens': encoder['reg_token'].shape[1],
        'rope_temperature': float(facts.beside.vision.get('rope_theta') or 100.),
        **({'swiglu_align_to': 1} if gated else {})}
