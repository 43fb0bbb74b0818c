"""Plain ViTs for large images: attention within windows, except in a few blocks (Li et al., 2021, arXiv 2111.11429).

Tokens travel as maps (B, rows, columns, D) through the host's own blocks, whose norms and MLPs do not mind; only
attention cuts the map into windows, each an image of its own in the batch. So keys, kernels, checkpointing, compiled
blocks and freezing are those of the encoder that was pre-trained.
"""

from collections.abc import Callable, Sequence

from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import MultiheadAttention, resize_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.models.backbones.conmim_vit import BiasedAttention, ConMIMViT
from mm_graft.models.backbones.graft_vit import FrozenInEval
from mm_graft.models.backbones.relative_position import RelativePositionBias
from mm_graft.registry import MODELS


def attend_in_windows(attend: Callable[[Tensor], Tensor], x: Tensor, size: int | None) -> Tensor:
    """Apply ``attend``, (B, N, D) → (B, N, D), to each window of size × size tokens of a map (B, rows, columns, D).

    The map is padded with zeros below and to the right to whole windows; what was padded is cut off. None: one window.
    """
    batch, rows, columns, dims = x.shape
    if size is None:
        return attend(x.flatten(1, 2)).reshape(x.shape)
    x = F.pad(x, (0, 0, 0, -columns % size, 0, -rows % size))
    down, across = x.shape[1] // size, x.shape[2] // size
    windows = x.reshape(batch, down, size, across, size, dims).transpose(2, 3)  # (B, down, across, size, size, D)
    windows = attend(windows.reshape(-1, size * size, dims))
    windows = windows.reshape(batch, down, across, size, size, dims).transpose(2, 3)
    return windows.reshape(batch, down * size, across * size, dims)[:, :rows, :columns]


class WindowedAttention(MultiheadAttention):
    """The host's attention within windows of a map (B, rows, columns, D); drop path drops whole images.

    Args:
        window: side of a window in tokens; None attends to the whole map.
    """

    def __init__(self, window: int | None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.window = window
        self.drop_path, self.out_drop = self.out_drop, nn.Identity()  # the host's would leave out single windows

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows, columns, D) → the same shape."""
        return self.drop_path(attend_in_windows(super().forward, x, self.window))


class WindowedBiasedAttention(BiasedAttention):
    """ConMIM's attention within windows of a map, with the block's own relative positions between their tokens.

    Args:
        window: side of a window in tokens; None attends to the whole map.
    """

    def __init__(self, window: int | None, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.window = window

    def forward(self, x: Tensor, rel_pos_bias: Tensor | None = None) -> Tensor:
        """(B, rows, columns, D) → the same shape; there is no class token, so its rows of the table are left out."""
        grid = x.shape[1:3] if self.window is None else (self.window, self.window)
        bias = None if self.rel_pos_bias is None else self.rel_pos_bias(tuple(grid))[:, 1:, 1:]
        attend = super().forward
        return attend_in_windows(lambda windows: attend(windows, bias), x, self.window)


def choose_windows(count: int, window_size: int, global_blocks: Sequence[int] | None,
                   out_indices: Sequence[int]) -> list[int | None]:
    """Side of the windows of each block; None for blocks with global attention."""
    if window_size < 1:
        raise ValueError(f'window_size={window_size} holds no token; choose at least 1')
    chosen = list(out_indices if global_blocks is None else global_blocks)
    if any(not -count <= index < count for index in chosen):
        raise ValueError(f'global_blocks={chosen}, but there are {count} blocks, from 0 to {count - 1}')
    everywhere = {index % count for index in chosen}
    return [None if index in everywhere else window_size for index in range(count)]


class FeatureMaps:
    """What both backbones share: from images to the maps of chosen blocks. The class token has no place in a map."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (B, C, H, W) → maps (B, D, rows, columns) after the blocks ``out_indices``."""
        tokens, grid = self.patch_embed(x)
        if self.pos_embed is not None:
            position = resize_pos_embed(self.pos_embed, self.patch_resolution, grid, self.interpolate_mode,
                                        self.num_extra_tokens)
            tokens = tokens + position[:, self.num_extra_tokens:]
        tokens = self.before_blocks(tokens).unflatten(1, grid)  # (B, N, D) → (B, rows, columns, D)
        maps = []
        for index, block in enumerate(self.layers):
            tokens = self.run_block(block, tokens)
            if index in self.out_indices:
                last = index == len(self.layers) - 1 and self.final_norm
                maps.append((self.ln1(tokens) if last else tokens).permute(0, 3, 1, 2).contiguous())
        return tuple(maps)

    def before_blocks(self, tokens: Tensor) -> Tensor:
        """What happens between the position embedding and the first block."""
        return self.drop_after_pos(tokens)

    def run_block(self, block: nn.Module, tokens: Tensor) -> Tensor:
        """One block."""
        return block(tokens)


@MODELS.register_module()
class WindowedViT(FrozenInEval, FeatureMaps, VisionTransformer):
    """The host's ViT for detection: windows in all but a few blocks, maps of several blocks, the same keys.

    A window of 14 patches is the whole grid of pre-training at 224 pixels. Against the host: drop path leaves out
    images, not windows; ``train()`` returns the module; the class token, which has no place in a map, does not train.

    Args:
        window_size: side of a window, in patches.
        global_blocks: blocks that attend to the whole map; those of ``out_indices`` if None.
        out_indices: blocks whose maps are returned.
        final_norm: whether the map of the last block passes the final norm.
    """

    def __init__(self, window_size: int = 14, global_blocks: Sequence[int] | None = None,
                 out_indices: Sequence[int] = (2, 5, 8, 11), final_norm: bool = False, qkv_bias: bool = True,
                 layer_scale_init_value: float = 0.0, **kwargs) -> None:
        super().__init__(out_type='featmap', out_indices=list(out_indices), final_norm=final_norm, qkv_bias=qkv_bias,
                         layer_scale_init_value=layer_scale_init_value, **kwargs)
        windows = choose_windows(self.num_layers, window_size, global_blocks, self.out_indices)
        for block, window in zip(self.layers, windows):
            old = block.attn
            block.attn = WindowedAttention(
                window, embed_dims=self.embed_dims, num_heads=old.num_heads, attn_drop=old.attn_drop,
                proj_drop=old.proj_drop.p, qkv_bias=qkv_bias, layer_scale_init_value=layer_scale_init_value,
                dropout_layer=dict(type='DropPath', drop_prob=getattr(old.out_drop, 'drop_prob', 0.0)))
        freeze_class_token(self)
        if self.frozen_stages > 0:
            self._freeze_stages()

    def before_blocks(self, tokens: Tensor) -> Tensor:
        """Dropout and, for CLIP's ViTs, a norm."""
        return self.pre_norm(self.drop_after_pos(tokens))


@MODELS.register_module()
class WindowedConMIMViT(FeatureMaps, ConMIMViT):
    """ConMIM's ViT for detection: windows in all but a few blocks, each with its table of relative positions.

    The table that all blocks share in pre-training is copied into every block when the checkpoint is loaded, as for
    fine-tuning. Into blocks with windows of the pre-training grid it goes as it is; for those that see the whole map it
    is resized to the grid of ``img_size``.

    Args:
        window_size: side of a window, in patches.
        global_blocks: blocks that attend to the whole map; those of ``out_indices`` if None.
        out_indices: blocks whose maps are returned.
        kwargs: as for :class:`ConMIMViT`; ``use_abs_pos_emb=True`` adds absolute positions.
    """

    def __init__(self, window_size: int = 14, global_blocks: Sequence[int] | None = None,
                 out_indices: Sequence[int] = (2, 5, 8, 11), final_norm: bool = False, **kwargs) -> None:
        super().__init__(out_type='featmap', out_indices=list(out_indices), final_norm=final_norm,
                         use_rel_pos_bias=True, use_shared_rel_pos_bias=False, with_mask_token=False, **kwargs)
        windows = choose_windows(self.num_layers, window_size, global_blocks, self.out_indices)
        for block, window in zip(self.layers, windows):
            whole, heads = block.attn.rel_pos_bias, block.attn.num_heads
            table = whole if window is None else RelativePositionBias((window, window), heads, whole.mode)
            block.attn = WindowedBiasedAttention(window, self.embed_dims, heads, table)
        freeze_class_token(self)
        self.train()

    def run_block(self, block: nn.Module, tokens: Tensor) -> Tensor:
        """One block; each attention knows its own bias."""
        return block(tokens, None)


def freeze_class_token(vit: nn.Module) -> None:
    """Take the class token out of training: without a gradient it would stall several processes."""
    if vit.cls_token is not None:
        vit.cls_token.requires_grad_(False)
