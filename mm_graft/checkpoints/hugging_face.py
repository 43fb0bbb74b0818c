"""The vision encoders of Hugging Face's transformers, by the names in their files.

The files of all versions have these names; inside a model, version 5 renames some. A prefix (``vit.``, ``dinov2.``,
``vision_model.`` …) and what stands beside the encoder are found by :mod:`mm_graft.checkpoints.detection`.
"""

from collections.abc import Callable

from mm_graft.checkpoints.forms import (
    check_stem,
    flatten_mask,
    flatten_tokens,
    fold_class_position,
    fuse_pool,
    fuse_qkv,
    name_values,
    shape_tokens,
    split_pool,
    split_qkv,
    unfold_class_position,
    unname_values,
)
from mm_graft.checkpoints.layouts import Layout, StateDict, encoder_names, pattern
from mm_graft.checkpoints.names import TABLE, NameMap, Pairs, below

ATTENTION: Pairs = (
    ('attention.attention.query.{t}', 'attn.q.{t}'),
    ('attention.attention.key.{t}', 'attn.k.{t}'),
    ('attention.attention.value.{t}', 'attn.v.{t}'),
    ('attention.output.dense.{t}', 'attn.proj.{t}'),
)
STEM: Pairs = (
    ('embeddings.cls_token', 'cls_token'),
    ('embeddings.mask_token', 'mask_token'),
    ('embeddings.position_embeddings', 'pos_embed'),
    ('embeddings.patch_embeddings.projection.{t}', 'patch_embed.projection.{t}'),
)
VIT: Pairs = (
    *STEM,
    *below('encoder.layer.{i}.', 'layers.{i}.', (
        ('layernorm_before.{t}', 'ln1.{t}'),
        ('layernorm_after.{t}', 'ln2.{t}'),
        *ATTENTION,
        ('intermediate.dense.{t}', 'ffn.layers.0.0.{t}'),
        ('output.dense.{t}', 'ffn.layers.1.{t}'))),
)
NORM: Pairs = (('layernorm.{t}', 'ln1.{t}'),)
BEIT: Pairs = (
    *VIT,
    (f'encoder.relative_position_bias.{TABLE}', f'rel_pos_bias.{TABLE}'),
    *below('encoder.layer.{i}.', 'layers.{i}.', (
        (f'attention.attention.relative_position_bias.{TABLE}', f'attn.rel_pos_bias.{TABLE}'),
        ('lambda_1', 'gamma_1'),
        ('lambda_2', 'gamma_2'))),
)
INDEX = (pattern('encoder.relative_position_bias.relative_position_index', 'follows from the grid'),)
POOLER = (pattern('pooler.dense.', 'pooler of a classifier'), )
CLIP_TOWER: Pairs = (
    ('embeddings.patch_embedding.{t}', 'patch_embed.projection.{t}'),
    ('embeddings.position_embedding.weight', 'pos_embed'),
    ('post_layernorm.{t}', 'ln1.{t}'),
    *below('encoder.layers.{i}.', 'layers.{i}.', (
        ('layer_norm1.{t}', 'ln1.{t}'),
        ('layer_norm2.{t}', 'ln2.{t}'),
        ('self_attn.q_proj.{t}', 'attn.q.{t}'),
        ('self_attn.k_proj.{t}', 'attn.k.{t}'),
        ('self_attn.v_proj.{t}', 'attn.v.{t}'),
        ('self_attn.out_proj.{t}', 'attn.proj.{t}'),
        ('mlp.fc1.{t}', 'ffn.layers.0.0.{t}'),
        ('mlp.fc2.{t}', 'ffn.layers.1.{t}'))),
)
READ_STEPS = (check_stem, fuse_qkv, shape_tokens, fold_class_position, split_pool, name_values)
WRITE_STEPS = (unfold_class_position, fuse_pool, split_qkv, unname_values)


def layout(title: str, pairs: Pairs, dropped: tuple = (), shown_by: tuple = (),
           more_steps: tuple[Callable[[StateDict], None], ...] = (), **options: object) -> Layout:
    """A layout of bare state dicts whose q, k and v are apart; ``more_steps`` on writing."""
    return Layout(f"Hugging Face's {title}", NameMap(encoder_names(pairs=pairs)), dropped, container=None,
                  shown_by=shown_by, read_steps=READ_STEPS, write_steps=(*WRITE_STEPS, *more_steps), **options)


HF_VIT = layout('ViT', (*VIT, *NORM, ('embeddings.distillation_token', 'dist_token')), POOLER,
                hidden_by=(r'encoder\.layer\.\d+\.lambda_1', ))
HF_BEIT = layout('BEiT', (*BEIT, *NORM, ('pooler.layernorm.{t}', 'ln2.{t}')), INDEX,
                 (r'encoder\.layer\.\d+\.lambda_1', ))
HF_BEIT_MIM = layout('BEiT for masked image modeling', (*below('beit.', '', BEIT), *NORM),
                     (*INDEX, pattern('lm_head.', 'token classifier'), pattern('beit.pooler.', 'unused pooler')),
                     (r'beit\.encoder\.layer\.\d+\.lambda_1', r'layernorm\.weight'))
HF_DINOV2 = layout('DINOv2', (
    *STEM, *NORM,
    ('embeddings.register_tokens', 'reg_token'),
    *below('encoder.layer.{i}.', 'layers.{i}.', (
        ('norm1.{t}', 'ln1.{t}'),
        ('norm2.{t}', 'ln2.{t}'),
        *ATTENTION,
        ('layer_scale1.lambda1', 'attn.gamma1.weight'),
        ('layer_scale2.lambda1', 'ffn.gamma2.weight'),
        ('mlp.fc1.{t}', 'ffn.layers.0.0.{t}'),
        ('mlp.fc2.{t}', 'ffn.layers.1.{t}'),
        ('mlp.weights_in.{t}', 'ffn.w12.{t}'),
        ('mlp.weights_out.{t}', 'ffn.w3.{t}')))),
    shown_by=(r'encoder\.layer\.\d+\.layer_scale1', ), more_steps=(flatten_mask, ))
HF_DINOV3 = layout('DINOv3', (
    ('embeddings.cls_token', 'cls_token'),
    ('embeddings.mask_token', 'mask_token'),
    ('embeddings.register_tokens', 'reg_token'),
    ('embeddings.patch_embeddings.{t}', 'patch_embed.projection.{t}'),
    ('norm.{t}', 'ln1.{t}'),
    *below('layer.{i}.', 'layers.{i}.', (
        ('norm1.{t}', 'ln1.{t}'),
        ('norm2.{t}', 'ln2.{t}'),
        ('attention.q_proj.{t}', 'attn.q.{t}'),
        ('attention.k_proj.{t}', 'attn.k.{t}'),
        ('attention.v_proj.{t}', 'attn.v.{t}'),
        ('attention.o_proj.{t}', 'attn.proj.{t}'),
        ('layer_scale1.lambda1', 'gamma_1'),
        ('layer_scale2.lambda1', 'gamma_2'),
        ('mlp.up_proj.{t}', 'ffn.layers.0.0.{t}'),
        ('mlp.down_proj.{t}', 'ffn.layers.1.{t}'),
        ('mlp.gate_proj.{t}', 'ffn.fc1_g.{t}')))),
    shown_by=(r'layer\.\d+\.layer_scale1', r'embeddings\.register_tokens'))
TOWER = 'vision_model.'  # before the names of a tower alone too, in files for every version of transformers
HF_CLIP = layout("CLIP's vision tower", (
    *CLIP_TOWER, ('embeddings.class_embedding', 'cls_token'), ('pre_layrnorm.{t}', 'pre_norm.{t}')),
    (pattern('embeddings.position_ids', 'follows from the grid'), ),
    (r'embeddings\.class_embedding', r'pre_layrnorm\.'), more_steps=(flatten_tokens, ), prefix=TOWER)
HF_SIGLIP = layout("SigLIP's vision tower", (
    *CLIP_TOWER,
    ('head.probe', 'attn_pool.latent'),
    ('head.attention.in_proj_{t}', 'attn_pool.qkv_{t}'),
    ('head.attention.out_proj.{t}', 'attn_pool.proj.{t}'),
    ('head.layernorm.{t}', 'attn_pool.norm.{t}'),
    ('head.mlp.{t}', 'attn_pool.mlp.{t}')),
    (pattern('embeddings.position_ids', 'follows from the grid'), ),
    (r'embeddings\.patch_embedding\.bias', ), more_steps=(flatten_tokens, ), prefix=TOWER)
