"""Known layouts of ViT checkpoints, as pure functions from state dict to state dict.

The common form is a model of mmpretrain: ``backbone.*`` (``cls_token``, ``patch_embed.projection``, ``layers.i.ln1`` …)
with ``neck.*``, ``head.*`` and ``momentum_encoder.module.*`` beside it. A :class:`Layout` reads a foreign state dict
into that form and writes it back. Every key is read, or dropped for a stated reason, or an error: no tensor is
overlooked.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from torch import Tensor

from mm_graft.checkpoints.forms import name_gated
from mm_graft.checkpoints.names import BASE, BEIT, BLOCK, PARTS, VIT, NameMap, Pairs, StateDict, below, mlp
from mm_graft.checkpoints.unsupported import OWN

MOMENTUM = 'momentum_encoder.module.0.'
OTHER = 'the other encoder'
NAME_INDEX = (re.compile(r'.*relative_position_index$'), 'follows from the grid')


@dataclass
class Converted:
    """Result of a conversion."""

    backbone: StateDict = field(default_factory=dict)  #: name → tensor; of the encoder alone, or of the whole model
    dropped: dict[str, str] = field(default_factory=dict)  #: name in the source → why it is not part of the result
    #: name in the result → name in the source, where that is another
    sources: dict[str, str] = field(default_factory=dict)
    neck: str = 'not part of this backbone'  #: what ``neck.*`` of the model is, for the reasons in ``dropped``


@dataclass(frozen=True)
class Layout:
    """A foreign layout."""

    title: str  #: of the authors or library, for messages
    names: NameMap  #: map between foreign names and mmpretrain's
    #: patterns of foreign names that no other layout can hold, with the reason
    dropped: tuple[tuple[re.Pattern, str], ...] = ()
    neck: str = 'projector'  #: what its tensors outside the encoder are
    container: str | None = 'model'  #: key of the state dict in the authors' files; None for a bare one
    prefix: str = ''  #: of every name in their files
    shown_by: tuple[str, ...] = ()  #: patterns that a file of this layout must all have
    #: patterns of which it must have none, or of several together not all
    hidden_by: tuple[str | tuple[str, ...], ...] = ()
    #: conversions beyond renaming, of mmpretrain's form in place: behind it on reading, before it on writing
    read_steps: tuple[Callable[[StateDict], None], ...] = ()
    write_steps: tuple[Callable[[StateDict], None], ...] = ()
    #: others, called with input and output
    after_read: Callable[[StateDict, StateDict], None] | None = None
    after_write: Callable[[StateDict, StateDict], None] | None = None

    def shows(self, names: Iterable[str], only_shown: bool = False) -> bool:
        """Whether names that fit this layout belong to it rather than to another that they fit too."""
        names = list(names)

        def has(part: str) -> bool:
            return any(re.match(part, name) for name in names)

        hidden = ((parts, ) if isinstance(parts, str) else parts for parts in self.hidden_by)
        return all(map(has, self.shown_by)) and (only_shown or not any(all(map(has, parts)) for parts in hidden))

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Names that fit no rule of this layout."""
        return [name for name in names if self.names.to_host(name) is None and self._reason(name) is None]

    def _reason(self, name: str) -> str | None:
        return next((reason for pattern, reason in self.dropped if pattern.match(name)), None)

    def read(self, state_dict: StateDict, root: str = '') -> Converted:
        """Mmpretrain's form of a foreign state dict; names that do not begin with ``root`` are dropped."""
        result, unknown = Converted(neck=self.neck), []
        for name, tensor in state_dict.items():
            if not name.startswith(root):
                result.dropped[name] = f'not below {root}'
                continue
            plain = name[len(root):]
            new, reason = self.names.to_host(plain), self._reason(plain)
            if new is not None and new not in result.backbone:
                result.backbone[new] = tensor
                result.sources[new] = name
            elif reason is not None:
                result.dropped[name] = reason
            elif is_number(plain, tensor):
                result.dropped[name] = 'a single number'
            else:
                unknown.append(name)
        if unknown:
            raise ValueError(f'{len(unknown)} tensors fit no rule of {self.title}\'s layout, among them {unknown[:5]}; '
                             'name another layout')
        for step in self.read_steps:
            step(result.backbone)
        if self.after_read is not None:
            self.after_read({name[len(root):]: tensor for name, tensor in state_dict.items() if name.startswith(root)},
                            result.backbone)
        return result

    def write(self, model: StateDict) -> Converted:
        """The foreign form of a model of mmpretrain."""
        result, refused = Converted(), []
        model = dict(model)
        for step in self.write_steps:
            step(model)
        for name, tensor in model.items():
            new = self.names.to_foreign(name)
            if new is not None:
                result.backbone[self.prefix + new] = tensor
            elif name.startswith(BASE) and not NAME_INDEX[0].match(name):
                refused.append(name)
            else:
                result.dropped[name] = f'{self.title}\'s layout has no place for it'
        if refused:
            raise ValueError(f'{self.title}\'s layout has no place for {len(refused)} tensors of this encoder, among '
                             f'them {refused[:3]}; choose a layout of the same architecture')
        if self.after_write is not None:
            self.after_write(model, result.backbone)
        return result


def is_number(name: str, value: object) -> bool:
    """Whether a top-level entry of a state dict is a counter or the like and not a weight."""
    return '.' not in name and isinstance(value, Tensor) and value.numel() == 1


def encoder_only(model: Converted) -> Converted:
    """The encoder of a model, without ``backbone.``; the rest is dropped by its name in the source."""
    result = replace(model, backbone={}, dropped=dict(model.dropped), sources={})
    for name, tensor in model.backbone.items():
        source = model.sources.get(name, name)
        if name.startswith(BASE):
            result.backbone[name[len(BASE):]], result.sources[name[len(BASE):]] = tensor, source
        elif name.startswith('momentum_encoder.'):
            result.dropped[source] = OTHER
        else:
            result.dropped[source] = 'predictor' if name.startswith('head.predictor.') else model.neck
    return result


def pattern(start: str, reason: str) -> tuple[re.Pattern, str]:
    """Drop what begins with ``start``."""
    return re.compile(re.escape(start)), reason


def encoder_names(theirs: str = '', host: str = BASE, pairs: Pairs = VIT) -> Pairs:
    """The encoder of a layout under its prefixes."""
    return below(theirs, host, pairs)


def check_norms(model: StateDict) -> None:
    """Check that the norm before the blocks, if there is one, is CLIP's, which has one behind them too."""
    if f'{BASE}pre_norm.weight' in model and not any(name.startswith((f'{BASE}ln1.', f'{BASE}ln2.')) for name in model):
        raise ValueError('it has a norm before its blocks and none behind them, as Perception Encoders have, whose '
                         f'rotary positions are not stored in any tensor: {OWN}')


TIMM = Layout(
    'timm', NameMap(encoder_names(pairs=(*BEIT, *PARTS))),
    (pattern('head.', 'classifier'), pattern('head_dist.', 'classifier'), NAME_INDEX), container=None,
    shown_by=(r'pos_embed$|rel_pos_bias\.|blocks\.\d+\.attn\.relative_position', ),  # else they are RoPE's
    hidden_by=(
        r'blocks\.\d+\.attn\.q_bias',  # BEiT's, which ConMIM's layout is; EVA's, which none is
        (r'norm_pre\.', r'attn_pool\.'), (r'norm_pre\.', r'blocks\.\d+\.gamma_1'),  # Perception Encoders
        (r'blocks\.\d+\.gamma_1', r'blocks\.\d+\.attn\.qkv\.bias')),  # rotary beside a table of positions
    read_steps=(check_norms, name_gated))
# No table of positions: it is RoPE that tells the patches apart, which is not stored in any tensor
TIMM_DINOV3 = replace(TIMM, title='DINOv3 in timm', shown_by=(r'reg_token$', r'blocks\.\d+\.gamma_1$'),
                      hidden_by=(r'pos_embed$', r'rel_pos_bias\.', r'blocks\.\d+\.attn\.relative_position'))
MAE = Layout(
    'MAE',
    NameMap((
        *encoder_names(),
        ('mask_token', 'neck.mask_token'),
        ('decoder_pos_embed', 'neck.decoder_pos_embed'),
        ('decoder_embed.{t}', 'neck.decoder_embed.{t}'),
        *below('decoder_blocks.{i}.', 'neck.decoder_blocks.{i}.', BLOCK),
        ('decoder_norm.{t}', 'neck.ln1.{t}'),
        ('decoder_pred.{t}', 'neck.decoder_pred.{t}'))),
    (pattern('head.', 'classifier'), pattern('fc_norm.', 'classifier')),
    neck='MAE decoder',
    hidden_by=(r'head\.', ))
MOCOV3 = Layout(
    'MoCo v3',
    NameMap((
        *mlp('base_encoder.head.', 'neck.'),
        *encoder_names('base_encoder.'),
        *mlp('momentum_encoder.head.', 'momentum_encoder.module.1.'),
        *encoder_names('momentum_encoder.', MOMENTUM),
        *mlp('predictor.', 'head.predictor.'))),
    container='state_dict',
    prefix='module.',
    shown_by=(r'base_encoder\.', ))


def mmpretrain_to_timm(backbone: StateDict) -> StateDict:
    """An mmpretrain ViT or BEiT backbone in timm's names."""
    return TIMM.write({BASE + name: tensor for name, tensor in backbone.items()}).backbone
