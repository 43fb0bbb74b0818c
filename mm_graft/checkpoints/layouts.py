"""Known layouts of ViT checkpoints, as pure functions from state dict to state dict.

The common form is the backbone of mmpretrain's ViT (``cls_token``, ``patch_embed.projection``, ``layers.i.ln1`` …).
Every key is read, or dropped for a stated reason, or an error: a converter never overlooks a tensor.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

StateDict = dict[str, Tensor]

# timm's names (also MAE's, MoCo v3's) → mmpretrain's, within the encoder
TIMM_TO_MMPRETRAIN = (
    (re.compile(r'^(cls_token|pos_embed)$'), r'\1'),
    (re.compile(r'^patch_embed\.proj\.'), 'patch_embed.projection.'),
    (re.compile(r'^blocks\.(\d+)\.norm([12])\.'), r'layers.\1.ln\2.'),
    (re.compile(r'^blocks\.(\d+)\.attn\.(qkv|proj)\.'), r'layers.\1.attn.\2.'),
    (re.compile(r'^blocks\.(\d+)\.mlp\.fc1\.'), r'layers.\1.ffn.layers.0.0.'),
    (re.compile(r'^blocks\.(\d+)\.mlp\.fc2\.'), r'layers.\1.ffn.layers.1.'),
    (re.compile(r'^norm\.'), 'ln1.'),
)
MMPRETRAIN_TO_TIMM = (
    (re.compile(r'^(cls_token|pos_embed)$'), r'\1'),
    (re.compile(r'^patch_embed\.projection\.'), 'patch_embed.proj.'),
    (re.compile(r'^layers\.(\d+)\.ln([12])\.'), r'blocks.\1.norm\2.'),
    (re.compile(r'^layers\.(\d+)\.attn\.(qkv|proj)\.'), r'blocks.\1.attn.\2.'),
    (re.compile(r'^layers\.(\d+)\.ffn\.layers\.0\.0\.'), r'blocks.\1.mlp.fc1.'),
    (re.compile(r'^layers\.(\d+)\.ffn\.layers\.1\.'), r'blocks.\1.mlp.fc2.'),
    (re.compile(r'^ln1\.'), 'norm.'),
)


@dataclass
class Converted:
    """A backbone in mmpretrain's names, and what was left out.

    Attributes:
        backbone: name → tensor.
        dropped: name in the source → why it is not part of the backbone.
    """

    backbone: StateDict = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def rename(name: str, rules: tuple) -> str | None:
    """The name after the first rule that fits, or None."""
    for pattern, replacement in rules:
        if pattern.match(name):
            return pattern.sub(replacement, name)
    return None


def mmpretrain_to_timm(backbone: StateDict) -> StateDict:
    """An mmpretrain ViT backbone in timm's names.

    Raises:
        ValueError: a tensor has no counterpart in timm's ViT.
    """
    renamed = {name: rename(name, MMPRETRAIN_TO_TIMM) for name in backbone}
    unknown = [name for name, new in renamed.items() if new is None]
    if unknown:
        raise ValueError(f'timm\'s ViT has no place for {unknown[:5]}; only plain ViT backbones can be converted')
    return {renamed[name]: tensor for name, tensor in backbone.items()}


def _split(state_dict: StateDict, prefix: str, reasons: dict[str, str], rules: tuple) -> Converted:
    """Read what stands below ``prefix`` by ``rules``; drop what starts with a key of ``reasons``."""
    result, unknown = Converted(), []
    for name, tensor in state_dict.items():
        new = rename(name[len(prefix):], rules) if name.startswith(prefix) else None
        reason = next((why for start, why in reasons.items() if name.startswith(start)), None)
        if new is not None:
            result.backbone[new] = tensor
        elif reason is not None:
            result.dropped[name] = reason
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f'{len(unknown)} tensors fit no rule of this layout, among them {unknown[:5]}; '
                         'name the right kind, or remove them from the file')
    return result


def from_timm(state_dict: StateDict, branch: str) -> Converted:
    """The ViT of timm and the authors' MAE, with or without MAE's decoder. ``branch`` must be ``'base'``."""
    _refuse_momentum(branch, 'MAE and timm')
    reasons = {'decoder_': 'MAE decoder', 'mask_token': 'MAE decoder', 'head.': 'classifier', 'fc_norm.': 'classifier'}
    return _split(state_dict, '', reasons, TIMM_TO_MMPRETRAIN)


def from_mocov3(state_dict: StateDict, branch: str) -> Converted:
    """The authors' MoCo v3 and Layer Grafted checkpoints; ``branch``: which of the two encoders."""
    state_dict = {name.removeprefix('module.'): tensor for name, tensor in state_dict.items()}
    prefix, other = ('base_encoder.', 'momentum_encoder.') if branch == 'base' else ('momentum_encoder.',
                                                                                      'base_encoder.')
    reasons = {f'{prefix}head.': 'projector', other: 'the other encoder', 'predictor.': 'predictor'}
    return _split(state_dict, prefix, reasons, TIMM_TO_MMPRETRAIN)


def from_mmpretrain(state_dict: StateDict, branch: str) -> Converted:
    """A model of mmpretrain or of this package (``backbone.*`` beside necks and heads), or a bare backbone."""
    momentum = 'momentum_encoder.module.0.'
    if branch == 'momentum':
        if not any(name.startswith(momentum) for name in state_dict):
            raise ValueError('the checkpoint has no momentum encoder (`momentum_encoder.module.0.*`); use branch=base')
        prefix = momentum
    else:
        prefix = 'backbone.' if any(name.startswith('backbone.') for name in state_dict) else ''
    result = Converted()
    for name, tensor in state_dict.items():
        if name.startswith(prefix):
            result.backbone[name[len(prefix):]] = tensor
        else:
            result.dropped[name] = 'not part of this backbone'
    return result


def _refuse_momentum(branch: str, layout: str) -> None:
    if branch != 'base':
        raise ValueError(f'{layout} checkpoints hold one encoder; use branch=base')


KINDS: dict[str, Callable[[StateDict, str], Converted]] = {
    'mae': from_timm,
    'timm': from_timm,
    'mocov3': from_mocov3,
    'mmpretrain': from_mmpretrain,
}


def detect_kind(state_dict: StateDict) -> str:
    """Kind of a layout by its names.

    Raises:
        ValueError: the names belong to no known layout.
    """
    names = [name.removeprefix('module.') for name in state_dict]

    def has(start: str) -> bool:
        return any(name.startswith(start) for name in names)

    if has('base_encoder.'):
        return 'mocov3'
    if has('backbone.') or has('layers.') or has('stages.'):
        return 'mmpretrain'
    if has('blocks.') and any(name.endswith('.attn.q_bias') for name in names):
        return 'conmim'
    if has('blocks.') and has('norm.0.'):
        return 'localmim'
    if has('blocks.'):
        return 'timm' if has('head.') else 'mae'
    raise ValueError(f'names such as {names[:3]} belong to no known layout; known are {sorted(KINDS)}')


def convert(state_dict: StateDict, kind: str | None = None, branch: str = 'base') -> Converted:
    """The backbone of a checkpoint in mmpretrain's names.

    Raises:
        ValueError: unknown kind or branch, or a tensor that fits no rule.
    """
    kind = kind or detect_kind(state_dict)
    if kind not in KINDS:
        raise ValueError(f'unknown kind {kind!r}; choose one of {sorted(KINDS)}')
    if branch not in ('base', 'momentum'):
        raise ValueError(f'unknown branch {branch!r}; choose base or momentum')
    return KINDS[kind](state_dict, branch)
