"""Detecting the layout of a checkpoint and its prefix: required names must be there, and no name may be left over."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mm_graft.checkpoints.adapters import without_adapters
from mm_graft.checkpoints.authors import DINOV2, DINOV3, OPEN_CLIP, TORCHVISION
from mm_graft.checkpoints.conmim import CONMIM
from mm_graft.checkpoints.forms import fused_name
from mm_graft.checkpoints.hugging_face import HF_BEIT, HF_BEIT_MIM, HF_CLIP, HF_DINOV2, HF_DINOV3, HF_SIGLIP, HF_VIT
from mm_graft.checkpoints.layouts import BASE, MAE, MOCOV3, TIMM, TIMM_DINOV3, Layout, is_number
from mm_graft.checkpoints.localmim import LOCALMIM
from mm_graft.checkpoints.refiner import DATA2VEC2, REFINER
from mm_graft.checkpoints.unsupported import known_as
from mm_graft.checkpoints.wrappers import unwrapped

MMPRETRAIN = 'mmpretrain'
LAYOUTS: dict[str, Layout] = {  # the more particular first, as they are tried
    'mocov3': MOCOV3, 'graft': MOCOV3, 'data2vec2': DATA2VEC2, 'refiner': REFINER, 'localmim': LOCALMIM,
    'conmim': CONMIM, 'mae': MAE, 'dinov2': DINOV2, 'dinov3': DINOV3, 'timm-dinov3': TIMM_DINOV3, 'timm': TIMM,
    'open-clip': OPEN_CLIP, 'torchvision': TORCHVISION, 'hf-beit-mim': HF_BEIT_MIM, 'hf-beit': HF_BEIT,
    'hf-dinov2': HF_DINOV2, 'hf-dinov3': HF_DINOV3, 'hf-clip': HF_CLIP, 'hf-siglip': HF_SIGLIP, 'hf-vit': HF_VIT}
LAYOUT_NAMES = (*LAYOUTS, MMPRETRAIN)
TRIED = tuple(name for name in LAYOUT_NAMES if name != 'graft')  # another name of one
# What the encoders of timm and Hugging Face have beyond mmpretrain's, in the common form
FOREIGN_PARTS = re.compile(r'reg_token|attn_pool\.[\w.]+|layers\.\d+\.(attn\.[qk]_norm|ffn\.fc1_[gx])\.(weight|bias)')
# What an encoder of mmpretrain's consists of: its ViTs (also BEiT's, SAM's and this package's), and its Swin
WB = r'(weight|bias)'
HOST_NAMES = re.compile(
    rf'(cls_token|dist_token|mask_token|pos_embed|patch_embed\.(projection|norm)\.{WB}|pre_norm\.{WB}|ln[12]\.{WB}|'
    rf'tap_norms\.\d+\.{WB}|rel_pos_bias\.relative_position_\w+|layers\.\d+\.(ln[12]\.{WB}|gamma_[12]|'
    rf'attn\.((qkv|proj)\.{WB}|[qkv]_bias|(rel_pos_bias\.)?relative_position_\w+|rel_pos_[hw]|gamma1\.weight)|'
    rf'ffn\.(layers\.(0\.0|1)\.{WB}|w12\.{WB}|w3\.{WB}|gamma2\.weight))|channel_reduction\.\d\.{WB}|'
    rf'absolute_pos_embed|norm\d\.{WB}|stages\.\d+\.(downsample\.(norm|reduction)\.{WB}|blocks\.\d+\.('
    rf'norm[12]\.{WB}|ffn\.layers\.(0\.0|1)\.{WB}|attn\.w_msa\.((qkv|proj)\.{WB}|relative_position_\w+))))')
STEM = 'patch_embed.projection.weight'
BLOCK_TENSOR = re.compile(r'layers\.(\d+)\.(.+)')
BLOCK_PARTS = ('ln1.weight', 'ln2.weight', 'attn.qkv.weight', 'attn.proj.weight')
FINAL_NORM = re.compile(r'(ln[12]|pre_norm|tap_norms\.\d+|norm\d)\.weight|channel_reduction\.\d\.weight')
MOMENTUM_WORD = re.compile(r'(^|[._])(momentum|teacher|target|ema|averaged?|slow|key)')


class Place(NamedTuple):
    """Layout and prefix of an encoder in a checkpoint."""

    layout: str
    root: str

    @property
    def is_average(self) -> bool:
        """Whether its prefix is that of a momentum encoder."""
        return MOMENTUM_WORD.search(self.root) is not None


def detect_layout(tensors: Mapping[str, object]) -> str:
    """The layout of a checkpoint's tensors; MAE's encoder and timm's ViT without a classifier are the same."""
    return locate(tensors).layout


def locate(tensors: Mapping[str, object], branch: str = 'base', layout: str | None = None,
           prefix: str | None = None) -> Place:
    """The layout of a checkpoint's tensors, and the prefix of their names (``module.``, ``model.``, …).

    ``'momentum'`` prefers prefixes such as ``teacher.``, ``'base'`` others. A given layout or prefix is the only one
    that is tried.
    """
    names = [name for name, value in without_adapters(tensors).items() if not is_number(name, value)]
    if layout not in (None, *LAYOUT_NAMES):
        raise ValueError(f'unknown layout {layout!r}; choose one of {sorted(LAYOUT_NAMES)}')
    if prefix and not below(names, prefix):
        prefix = unwrapped([prefix])[prefix]  # files are read without wrappers
    if prefix and not below(names, prefix):
        raise ValueError(f'no name begins with the prefix {prefix!r}; the names are such as {names[:3]}')
    found: dict[str, Place] = {}
    for candidate in (layout, ) if layout else TRIED:
        for root in roots(names, candidate) if prefix is None else (prefix, ):
            if layout or not shortcomings(below(names, root), candidate):
                found.setdefault(root, Place(candidate, root))
    places = [place for place in found.values() if not any(is_part(place, other) for other in found.values())]
    wanted = [place for place in places if place.is_average == (branch == 'momentum')] or places
    if len(wanted) > 1:
        raise ValueError(f'it holds several encoders, below {sorted(place.root for place in wanted)}; name one by '
                         'prefix')
    if not wanted and not layout:
        raise ValueError(explain(names))
    is_wrapped = all(name.startswith('module.') for name in names)
    place = wanted[0] if wanted else Place(layout, 'module.' if is_wrapped else '')
    if layout and layout != MMPRETRAIN and not LAYOUTS[layout].shows(below(names, place.root), only_shown=True):
        raise ValueError(f'names such as {names[:3]} are not those of {LAYOUTS[layout].title}; name '
                         'another layout, or none, and it is detected')
    return place


def below(names: Iterable[str], root: str) -> list[str]:
    """Names that begin with ``root``, without it."""
    return [name[len(root):] for name in names if name.startswith(root)]


def roots(names: list[str], layout: str) -> Iterator[str]:
    """Prefixes of the patch embedding's name, the shortest first."""
    probes = (BASE + STEM, STEM) if layout == MMPRETRAIN else (LAYOUTS[layout].names.to_foreign(BASE + STEM), )
    seen = set()
    for probe in probes:
        for root in sorted((name[:-len(probe)] for name in names if name.endswith(probe)), key=len):
            if root not in seen and root[-1:] in ('', '.'):
                seen.add(root)
                yield root


def is_part(place: Place, other: Place) -> bool:
    """Whether an encoder is part of the model, possibly with two encoders, at the other place."""
    parts = ('base_encoder.', 'momentum_encoder.') if other.layout in ('mocov3', 'graft') else ('', )
    inside = other.layout in ('mocov3', 'graft', MMPRETRAIN) and place.root != other.root
    return inside and place.root.startswith(tuple(other.root + part for part in parts))


def shortcomings(names: list[str], layout: str) -> list[str]:
    """Why names do not fit a layout: ``no place for NAME`` and ``lacks NAME``."""
    if layout == MMPRETRAIN:
        inside = below(names, BASE) if any(name.startswith(BASE) for name in names) else names
        strange = [name for name in inside if not HOST_NAMES.fullmatch(name)]
    else:
        known = LAYOUTS[layout]
        inside = below(map(fused_name, filter(None, map(known.names.to_host, names))), BASE)
        strange = known.unknown(names)
        if not known.shows(names):
            strange.append(f'what tells it from others ({known.title})')
    return [f'no place for {name}' for name in strange] + [f'lacks {name}' for name in lacking(inside)]


def lacking(encoder: Iterable[str]) -> list[str]:
    """Required names of mmpretrain's that an encoder lacks: stem, parts of blocks, a norm."""
    encoder = set(encoder)
    missing = [] if STEM in encoder else [STEM]
    if any(name.startswith('stages.') for name in encoder):
        return missing
    blocks: dict[int, set[str]] = {}
    for name in encoder:
        if match := BLOCK_TENSOR.match(name):
            blocks.setdefault(int(match[1]), set()).add(match[2])
    for index in range(max(blocks, default=0) + 1):
        parts = blocks.get(index, set())
        missing += [f'layers.{index}.{part}' for part in BLOCK_PARTS if part not in parts]
        if not parts & {'ffn.layers.1.weight', 'ffn.w3.weight'}:
            missing.append(f'layers.{index}.ffn.layers.1.weight')
    return missing if any(map(FINAL_NORM.fullmatch, encoder)) else [*missing, 'ln1.weight']


def explain(names: list[str]) -> str:
    """The error message for names of no layout: the nearest one, and what does not fit."""
    attempts = [(shortcomings(below(names, root), layout), layout, root)
                for layout in TRIED for root in [*roots(names, layout)] or ['']]
    problems, layout, root = min(attempts, key=lambda attempt: len(attempt[0]))
    where = f'{layout!r} below {root!r}' if root else repr(layout)
    if reason := known_as(names):
        return f'names such as {names[:3]} belong to no known layout; {reason}'
    return (f'names such as {names[:3]} belong to no known layout; nearest is {where}, where {len(problems)} do not '
            f'fit ({"; ".join(problems[:3])}); known are {sorted(LAYOUT_NAMES)}. If it is one of them below another '
            "name, give its prefix or container; else build the backbone with the file's own names")
