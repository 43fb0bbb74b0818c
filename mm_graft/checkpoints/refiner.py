"""The released weights of MIM-Refiner, and of data2vec 2.0, which it refines, in mmpretrain's names.

``ml-jku/MIM-Refiner@cc574235995e`` publishes encoders alone (``maerefined_l16.th``, ``d2v2refined_l16.th``, …), of its
own ViT: the position table is a grid (1, rows, columns, D), and the class token, which has no position, stands apart.
data2vec 2.0 and what was refined from it have their norms behind: they need ``mm_graft.PostNormViT``.
"""

import math

from mm_graft.checkpoints.forms import POSITIONS, behind_zeros, fold_position
from mm_graft.checkpoints.layouts import Layout, StateDict, encoder_names, pattern
from mm_graft.checkpoints.names import BLOCK, NameMap, below

IMAGE = 'modality_encoders.IMAGE.'


def _from_grid(model: StateDict) -> None:
    """The grid as rows, behind a row of zeros for the class token."""
    if POSITIONS in model:
        model[POSITIONS] = behind_zeros(model[POSITIONS].flatten(1, -2))  # (1, h, w, D) or (1, N, D) → (1, 1 + N, D)


def _to_grid(model: StateDict) -> None:
    rows = model[POSITIONS]
    side = math.isqrt(rows.shape[1])
    if side**2 != rows.shape[1]:
        raise ValueError(f"{rows.shape[1]} patches form no square, and MIM-Refiner's layout keeps them as a grid; "
                         'choose timm or mmpretrain instead')
    model[POSITIONS] = rows.unflatten(1, (side, side))  # (1, N, D) → (1, h, w, D)


REFINER = Layout(
    'MIM-Refiner',
    NameMap(encoder_names(pairs=(
        ('cls_tokens.tokens', 'cls_token'),
        ('pos_embed.embed', 'pos_embed'),
        ('patch_embed.proj.{t}', 'patch_embed.projection.{t}'),
        *below('blocks.{i}.', 'layers.{i}.', BLOCK),
        ('norm.{t}', 'ln1.{t}'),
        ('embed_norm.{t}', 'pre_norm.{t}')))),
    container='state_dict',
    shown_by=(r'cls_tokens\.tokens', ),
    read_steps=(_from_grid, ),
    write_steps=(fold_position, _to_grid))
DATA2VEC2 = Layout(
    'data2vec 2.0',
    NameMap(encoder_names(pairs=(
        (f'{IMAGE}extra_tokens', 'cls_token'),
        (f'{IMAGE}fixed_positional_encoder.positions', 'pos_embed'),
        (f'{IMAGE}local_encoder.proj.{{t}}', 'patch_embed.projection.{t}'),
        (f'{IMAGE}context_encoder.norm.{{t}}', 'pre_norm.{t}'),
        *below('blocks.{i}.', 'layers.{i}.', BLOCK)))),
    (pattern(f'{IMAGE}decoder.', 'decoder'), pattern(f'{IMAGE}alibi_scale', 'not used for images'),
     pattern('_ema', "fairseq's copy of the teacher")),
    read_steps=(_from_grid, ),
    write_steps=(fold_position, ))
