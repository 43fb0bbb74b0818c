"""Any ViT of timm as a backbone: registers, layer scale, RoPE, SwiGLU, q/k norm, no class token, any pooling."""

import inspect
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mm_graft.models.adapters import add_adapters
from mm_graft.models.backbones.graft_vit import FrozenInEval
from mm_graft.models.masking import replace_hidden
from mm_graft.registry import MODELS


@MODELS.register_module()
class TimmViT(FrozenInEval, BaseModule):
    """A vision transformer of timm with the outputs of the host's ``VisionTransformer``.

    The module is timm's own, below ``timm_model``; its names, checkpoint filters and pooling are timm's. What works on
    the host's ViTs works on it: depths, stages, frozen prefixes, FreezeOut, anchors, checkpointed and compiled blocks,
    several outputs, masked input. The host's ``TIMMBackbone`` gives only what timm pools, of the last block.

    Args:
        model_name: of timm, e.g. ``'vit_small_patch14_dinov2'``.
        img_size: side, or height and width, that the position table is for; other sizes are resampled by timm.
        in_channels: of the images.
        out_type: ``'pooled'`` (what timm's model pools, in the last block only), ``'cls_token'`` (B, D),
            ``'avg_featmap'`` (mean over the patches, (B, D)), ``'featmap'`` (B, D, rows, columns), or ``'raw'`` (all
            tokens, prefix first, (B, P + N, D)).
        out_indices: blocks whose outputs are returned; negative ones count from the end.
        final_norm: whether the output of the last block passes the final norm.
        with_mask_token: learn a token that stands for hidden patches, for :meth:`forward` with a mask.
        norm_eps: of all layer norms; None: timm's of this model.
        adapters: arguments of :func:`mm_graft.models.adapters.add_adapters`; nothing else of the encoder then trains.
        kwargs: as for ``timm.create_model``.
    """

    OUT_TYPES = ('pooled', 'cls_token', 'avg_featmap', 'featmap', 'raw')

    def __init__(self, model_name: str, img_size: int | tuple[int, int] = 224, in_channels: int = 3,
                 out_type: str = 'pooled', out_indices: Sequence[int] | int = -1, final_norm: bool = True,
                 with_mask_token: bool = False, norm_eps: float | None = None, adapters: dict | None = None,
                 init_cfg: dict | None = None, **kwargs) -> None:
        super().__init__(init_cfg)
        self.timm_model = create_vit(model_name, img_size=img_size, in_chans=in_channels, **kwargs)
        for module in self.timm_model.modules():
            if norm_eps is not None and isinstance(module, nn.LayerNorm):
                module.eps = norm_eps
        self.num_layers = len(self.timm_model.blocks)
        self.embed_dims = self.timm_model.embed_dim
        self.num_extra_tokens = self.timm_model.num_prefix_tokens
        indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        self.out_type, self.out_indices = out_type, sorted(check_index(i, self.num_layers) for i in indices)
        self.final_norm = final_norm
        self._check_outputs(model_name)
        if with_mask_token:  # inside timm's model, so that it belongs to the stem
            self.timm_model.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
            nn.init.trunc_normal_(self.timm_model.mask_token, std=0.02)
        if adapters:
            add_adapters(self, **adapters)

    def _check_outputs(self, model_name: str) -> None:
        if self.out_type not in self.OUT_TYPES:
            raise ValueError(f'out_type={self.out_type!r} is unknown; choose one of {list(self.OUT_TYPES)}')
        if self.out_type == 'cls_token' and not self.num_extra_tokens:
            raise ValueError(f"{model_name} has no class token; choose out_type='pooled' or 'avg_featmap'")
        if self.out_type == 'pooled' and (self.out_indices != [self.num_layers - 1] or not self.final_norm):
            raise ValueError("out_type='pooled' is what timm makes of the last block after its norm; with out_indices="
                             f"{self.out_indices} and final_norm={self.final_norm} choose 'cls_token' or 'avg_featmap'")

    @property
    def patch_resolution(self) -> tuple[int, int]:
        """Rows and columns of patches at ``img_size``."""
        return tuple(self.timm_model.patch_embed.grid_size)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Outputs of the blocks ``out_indices`` in the form of ``out_type``, for images (B, C, H, W).

        Where ``mask`` (B, N) is True, the mask token takes the place of the patch.
        """
        with ExitStack() as stack:
            if mask is not None:
                stack.callback(self._hide(mask).remove)
            outputs = self.timm_model.forward_intermediates(
                x, indices=self.out_indices, return_prefix_tokens=self.num_extra_tokens > 0, output_fmt='NLC',
                intermediates_only=True)
        grid = self.timm_model.patch_embed.dynamic_feat_size(x.shape[-2:])
        return tuple(self._format(index, output, grid) for index, output in zip(self.out_indices, outputs))

    def encode_masked(self, x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`forward` with a mask; the name by which methods ask for it."""
        return self(x, mask)

    def _hide(self, mask: Tensor) -> torch.utils.hooks.RemovableHandle:
        token = getattr(self.timm_model, 'mask_token', None)
        if token is None:
            raise ValueError('patches are to be hidden, but there is no mask token; build with with_mask_token=True')
        return self.timm_model.patch_embed.register_forward_hook(
            lambda module, args, tokens: replace_hidden(tokens, mask, token))

    def _format(self, index: int, output: Tensor | tuple[Tensor, Tensor], grid: tuple[int, int]) -> Tensor:
        patches, prefix = output if self.num_extra_tokens else (output, output[:, :0])
        tokens = torch.cat([prefix, patches], 1)  # (B, P + N, D)
        if index == self.num_layers - 1 and self.final_norm:
            tokens = self.timm_model.norm(tokens)
        if self.out_type == 'raw':
            return tokens
        if self.out_type == 'pooled':
            return self.timm_model.forward_head(tokens, pre_logits=True)
        if self.out_type == 'cls_token':
            return tokens[:, 0]
        patches = tokens[:, self.num_extra_tokens:]
        if self.out_type == 'avg_featmap':
            return patches.mean(1)
        return patches.transpose(1, 2).unflatten(2, grid)  # (B, N, D) → (B, D, rows, columns)


def create_vit(model_name: str, **kwargs) -> nn.Module:
    """A ViT of timm without its classifier, for images of any size where timm can."""
    import timm  # with its hub as dear as a sixth of all other imports of a training that may not need it
    if not timm.is_model(model_name):
        near = timm.list_models(f'*{model_name.split(".")[0]}*')[:5]
        raise ValueError(f'timm {timm.__version__} has no model {model_name!r}'
                         + (f'; did you mean one of {near}?' if near else ''))
    settings = dict(pretrained=False, num_classes=0, **kwargs)
    try:
        model = timm.create_model(model_name, dynamic_img_size=True, **settings)
    except TypeError:  # BEiT has tables of relative positions and one size
        model = timm.create_model(model_name, **settings)
    if not all(hasattr(model, name) for name in ('blocks', 'num_prefix_tokens', 'patch_embed', 'norm')) \
            or 'return_prefix_tokens' not in inspect.signature(
                getattr(model, 'forward_intermediates', model.forward)).parameters:
        raise ValueError(f'{model_name} ({type(model).__name__}) is not a plain ViT; choose a model with patch '
                         'embedding, a list of blocks and a final norm')
    return model


def check_index(index: int, count: int) -> int:
    """The index of a block from 0."""
    if not -count <= index < count:
        raise ValueError(f'out_indices has {index}, but there are {count} blocks, from 0 to {count - 1}')
    return index % count
