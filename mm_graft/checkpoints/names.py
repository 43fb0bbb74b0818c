"""Pairs of tensor names, read in either direction.

A pair such as ``('blocks.{i}.norm1.{t}', 'layers.{i}.ln1.{t}')`` renames from left to right and from right to left, so
that a conversion and its inverse cannot drift apart. ``{i}`` and ``{j}`` are numbers, ``{t}`` is the rest of the name.
"""

import re
from collections.abc import Sequence

from torch import Tensor

StateDict = dict[str, Tensor]
Pairs = tuple[tuple[str, str], ...]
BASE = 'backbone.'
FIELDS = {'i': r'(?P<i>\d+)', 'j': r'(?P<j>\d+)', 't': r'(?P<t>[\w.]+)'}


def _compile(template: str) -> re.Pattern:
    parts = re.split(r'\{(\w)\}', template)
    return re.compile(''.join(FIELDS[part] if k % 2 else re.escape(part) for k, part in enumerate(parts)) + '$')


def _rename(name: str, rules: Sequence[tuple[re.Pattern, str]]) -> str | None:
    for pattern, template in rules:
        if match := pattern.match(name):
            return template.format(**match.groupdict())
    return None


class NameMap:
    """Names of a foreign layout and mmpretrain's, one to one; the first pair that fits wins."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self._to_host = [(_compile(theirs), host) for theirs, host in pairs]
        self._to_foreign = [(_compile(host), theirs) for theirs, host in pairs]

    def to_host(self, name: str) -> str | None:
        """Mmpretrain's name, or None."""
        return _rename(name, self._to_host)

    def to_foreign(self, name: str) -> str | None:
        """The foreign name, or None."""
        return _rename(name, self._to_foreign)


def below(theirs: str, host: str, pairs: Pairs) -> Pairs:
    """The pairs under a prefix on each side."""
    return tuple((theirs + left, host + right) for left, right in pairs)


def mlp(theirs: str, host: str, num_layers: int = 8) -> Pairs:
    """A ``Sequential`` of linear, batch norm and ReLU, and the host's ``NonLinearNeck``."""
    return tuple(pair for k in range(num_layers) for pair in (
        (f'{theirs}{3 * k}.{{t}}', f'{host}fc{k}.{{t}}'), (f'{theirs}{3 * k + 1}.{{t}}', f'{host}bn{k}.{{t}}')))


# A transformer block of timm (also MAE's, MoCo v3's, LocalMIM's), and of mmpretrain
BLOCK: Pairs = (
    ('norm1.{t}', 'ln1.{t}'),
    ('norm2.{t}', 'ln2.{t}'),
    ('attn.qkv.{t}', 'attn.qkv.{t}'),
    ('attn.proj.{t}', 'attn.proj.{t}'),
    ('mlp.fc1.{t}', 'ffn.layers.0.0.{t}'),
    ('mlp.fc2.{t}', 'ffn.layers.1.{t}'),
)
STEM: Pairs = (
    ('cls_token', 'cls_token'),
    ('pos_embed', 'pos_embed'),
    ('patch_embed.proj.{t}', 'patch_embed.projection.{t}'),
    *below('blocks.{i}.', 'layers.{i}.', BLOCK),
)
VIT: Pairs = (*STEM, ('norm.{t}', 'ln1.{t}'))
TABLE = 'relative_position_bias_table'
# BEiT's ViT in the layout of its authors, of ConMIM and of timm, and mmpretrain's
BEIT: Pairs = (
    *VIT,
    ('fc_norm.{t}', 'ln2.{t}'),
    (f'rel_pos_bias.{TABLE}', f'rel_pos_bias.{TABLE}'),
    (f'blocks.{{i}}.attn.{TABLE}', f'layers.{{i}}.attn.rel_pos_bias.{TABLE}'),
    ('blocks.{i}.attn.q_bias', 'layers.{i}.attn.q_bias'),
    ('blocks.{i}.attn.v_bias', 'layers.{i}.attn.v_bias'),
    ('blocks.{i}.gamma_1', 'layers.{i}.gamma_1'),
    ('blocks.{i}.gamma_2', 'layers.{i}.gamma_2'),
)
# What timm's ViTs have beyond these: registers, distillation, layer scale, norms of q and k, gated feed-forward parts,
# pooling by attention. A name that the host does not have is timm's.
PARTS: Pairs = (
    ('reg_token', 'reg_token'),
    ('dist_token', 'dist_token'),
    ('norm_pre.{t}', 'pre_norm.{t}'),
    ('attn_pool.{t}', 'attn_pool.{t}'),
    *below('blocks.{i}.', 'layers.{i}.', (
        ('ls1.gamma', 'attn.gamma1.weight'),
        ('ls2.gamma', 'ffn.gamma2.weight'),
        ('attn.q_norm.{t}', 'attn.q_norm.{t}'),
        ('attn.k_norm.{t}', 'attn.k_norm.{t}'),
        ('mlp.fc1_g.{t}', 'ffn.fc1_g.{t}'),
        ('mlp.fc1_x.{t}', 'ffn.fc1_x.{t}'),
        ('mlp.fc1.{t}', 'ffn.w12.{t}'),  # gate and value in one matrix, which the numbers of rows tell
        ('mlp.fc2.{t}', 'ffn.w3.{t}'))),
)
