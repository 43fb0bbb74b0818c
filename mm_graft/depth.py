"""The one place that says how deep a parameter is.

``depth`` is an integer: the stem (patch, position, class and mask embeddings) is 0, block ``i`` is ``i + 1``, and
everything after the blocks (final norm, necks, heads) is ``num_blocks + 1``. ViT-B: 0, 1…12, 13. Swin counts the blocks
of its stages in one row; patch merging belongs to the block before it, as in mmpretrain. A relative position bias that
all blocks share belongs to the last depth, as in BEiT's layer decay.

Supported backbones: mmpretrain's and mmseg's ViT, BEiT, MAE and Swin, this package's, and timm's ViTs (bare or in
``TIMMBackbone``), on their own or as ``model.backbone`` of a classifier, self-supervised algorithm or segmentor. A
parameter that fits none of the rules is an error, never a guess.
"""

import re
from dataclasses import dataclass

from mmengine.model import is_model_wrapper
from torch import nn

STEM = re.compile(
    r'(cls_token|(absolute_)?pos_embed|mask_token|dist_token|reg_token|patch_embed|pre_norm|norm_pre)(\.|$)')
TAIL = re.compile(r'(ln\d|norm\d?|fc_norm|head|head_dist|attn_pool|rel_pos_bias|lm_head)(\.|$)')
BLOCK = re.compile(r'(?:layers|blocks)\.(\d+)\.')
STAGE_BLOCK = re.compile(r'stages\.(\d+)\.(?:blocks\.(\d+)|downsample)\.')


@dataclass(frozen=True)
class DepthMap:
    """Depth of every parameter of a model."""

    prefix: str  #: how the names of the backbone's parameters begin, ``'backbone.'`` or empty
    num_blocks: int  #: transformer blocks of the backbone
    #: name → depth, for every parameter of the model, in its order. Copies of the backbone (a momentum encoder) have
    #: the depths of what they copy.
    depths: dict[str, int]

    @property
    def last(self) -> int:
        """Depth of everything after the blocks."""
        return self.num_blocks + 1

    def stage(self, name: str, num_stages: int) -> int:
        """Stage (from 1) of the parameter ``name`` when the blocks are split into ``num_stages`` equal shares."""
        return stage_of_depth(self.depths[name], self.num_blocks, num_stages)


def stage_of_depth(depth: int, num_blocks: int, num_stages: int) -> int:
    """Stage (from 1) of a depth: the first stage also holds the stem, the last everything after the blocks."""
    if num_stages < 1 or num_blocks % num_stages:
        divisors = [n for n in range(1, num_blocks + 1) if num_blocks % n == 0]
        raise ValueError(f'{num_stages} stages do not divide {num_blocks} blocks evenly; choose one of {divisors}')
    blocks_per_stage = num_blocks // num_stages
    return min(max(depth - 1, 0) // blocks_per_stage, num_stages - 1) + 1


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a distributed wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model


def find_backbone(model: nn.Module) -> tuple[str, nn.Module]:
    """Prefix and module of the backbone: ``model.backbone``, inside ``TIMMBackbone`` too, or the model itself."""
    prefix, module = '', unwrap(model)
    for attribute in ('backbone', 'timm_model'):
        inner = getattr(module, attribute, None)
        if isinstance(inner, nn.Module):
            prefix, module = f'{prefix}{attribute}.', inner
    return prefix, module


def block_lists(backbone: nn.Module) -> list[nn.ModuleList | nn.Sequential]:
    """The transformer blocks of a backbone, one list a stage; a plain ViT has one stage."""
    stages = getattr(backbone, 'stages', None)
    if stages is not None and all(hasattr(stage, 'blocks') for stage in stages):
        return [stage.blocks for stage in stages]
    for attribute in ('layers', 'blocks'):
        blocks = getattr(backbone, attribute, None)
        if isinstance(blocks, nn.ModuleList | nn.Sequential) and len(blocks):
            return [blocks]
    raise ValueError(
        f'{type(backbone).__name__} has no known list of transformer blocks (`layers`, `blocks` or `stages`), so its '
        'parameters have no depth; use a ViT, BEiT or Swin backbone of mmpretrain, mmseg, mm_graft or timm')


def block_counts(backbone: nn.Module) -> list[int]:
    """Blocks of each stage of a backbone."""
    return [len(blocks) for blocks in block_lists(backbone)]


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a model's backbone, first block first."""
    return [block for blocks in block_lists(find_backbone(model)[1]) for block in blocks]


def encoders_of(model: nn.Module) -> list[nn.Module]:
    """The backbone of a model and its copies (momentum encoders)."""
    backbone = find_backbone(model)[1]
    return [module for module in unwrap(model).modules() if type(module) is type(backbone)]


def depth_in_backbone(name: str, counts: list[int]) -> int:
    """Depth of a backbone's parameter, by its name within the backbone."""
    if match := BLOCK.match(name):
        return int(match.group(1)) + 1
    if match := STAGE_BLOCK.match(name):
        stage, block = match.groups()
        before = sum(counts[:int(stage)])
        return before + (int(block) + 1 if block is not None else counts[int(stage)])
    if STEM.match(name):
        return 0
    if TAIL.match(name):
        return sum(counts) + 1
    raise ValueError(
        f'parameter {name!r} of the backbone has no known depth; give the model a method '
        '`depth_overrides()` that returns {name prefix: depth}')


def overrides_of(module: nn.Module) -> dict[str, int]:
    """What a module says about the depths of its parameters, {name prefix: depth}."""
    return module.depth_overrides() if hasattr(module, 'depth_overrides') else {}


def placed_by(overrides: dict[str, int], name: str) -> int | None:
    """Depth of the first prefix that ``name`` starts with."""
    return next((depth for prefix, depth in overrides.items() if name.startswith(prefix)), None)


def depth_map(model: nn.Module) -> DepthMap:
    """Depth of every parameter of ``model``.

    A model, and its backbone, may place parameters of its own by a method ``depth_overrides() -> dict[str, int]`` from
    prefixes of its parameters' names to depths (LocalMIM's decoders live as long as the block that they tap).
    """
    model = unwrap(model)
    prefix, backbone = find_backbone(model)
    counts = block_counts(backbone)
    last = sum(counts) + 1
    overrides, own_overrides = overrides_of(model), overrides_of(backbone)
    prefixes = [f'{name}.' if name else '' for name, module in model.named_modules(remove_duplicate=False)
                if type(module) is type(backbone)]

    def depth_of(name: str) -> int:
        placed = placed_by(overrides, name)
        if placed is not None:
            return placed
        for copy in prefixes:
            if name.startswith(copy):
                placed = placed_by(own_overrides, name[len(copy):])
                return depth_in_backbone(name[len(copy):], counts) if placed is None else placed
        return last

    return DepthMap(prefix, sum(counts), {name: depth_of(name) for name, _ in model.named_parameters()})
