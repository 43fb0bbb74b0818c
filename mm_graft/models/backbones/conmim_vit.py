"""ConMIM's encoder: BEiT's ViT, with attention biases that keep to the fused kernel."""

import math

import torch
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.backbones import BEiTViT
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.host.shared_bias import cut_shared_bias
from mm_graft.models.backbones.pretrained_init import names_checkpoint
from mm_graft.models.backbones.relative_position import RelativePositionBias
from mm_graft.models.grids import check_divides
from mm_graft.models.masking import replace_hidden
from mm_graft.registry import MODELS

ARCHITECTURES = {
    'small': {'embed_dims': 384, 'num_layers': 12, 'num_heads': 6, 'feedforward_channels': 1536},
    'base': {'embed_dims': 768, 'num_layers': 12, 'num_heads': 12, 'feedforward_channels': 3072},
    'large': {'embed_dims': 1024, 'num_layers': 24, 'num_heads': 16, 'feedforward_channels': 4096},
}
ARCHITECTURES.update({name[0]: sizes for name, sizes in list(ARCHITECTURES.items())})


class BiasedAttention(nn.Module):
    """Self-attention with a learned bias for queries and values and an additive bias of the logits.

    The host's ``BEiTAttention`` spells out the softmax; here the bias goes into scaled dot-product attention as its
    mask. Parameters have the host's names.

    Args:
        embed_dims: width D.
        num_heads: heads.
        rel_pos_bias: a table of this block's own, which the encoder turns into the bias of its logits.
    """

    def __init__(self, embed_dims: int, num_heads: int, rel_pos_bias: RelativePositionBias | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(embed_dims))
        self.v_bias = nn.Parameter(torch.zeros(embed_dims))
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.rel_pos_bias = rel_pos_bias

    def project_qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, heads, N, D / heads)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.num_heads, -1))
        return qkv.permute(2, 0, 3, 1, 4).unbind()  # (B, N, 3, heads, d) → 3 × (B, heads, N, d)

    def forward(self, x: Tensor, rel_pos_bias: Tensor | None = None) -> Tensor:
        """Attend within each image: (B, N, D) and a bias (heads, N, N) → (B, N, D)."""
        q, k, v = self.project_qkv(x)
        bias = None if rel_pos_bias is None else rel_pos_bias.to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(x.transpose(1, 2).flatten(2))  # (B, heads, N, d) → (B, N, D)


@MODELS.register_module()
class ConMIMViT(BEiTViT):
    r"""ViT of ConMIM (and BEiT): relative position bias, layer scale, mask token.

    ``TencentARC/ConMIM@4263955``, ``modeling_pretrain.py``: no absolute positions; one table of relative position
    biases that all blocks share in pre-training, copied into every block for fine-tuning (``use_rel_pos_bias=True,
    use_shared_rel_pos_bias=False``); learned biases for queries and values only; all patches are encoded, hidden ones
    as the mask token. Initialized as there: normal with σ = 0.02 cut at ±σ, the last linear of attention and MLP
    divided by :math:`\sqrt{2\,\text{layer}}`, tables 0.

    How we differ from the host's ``BEiTPretrainViT``: fused attention; ``forward`` always sees everything and
    :meth:`encode_masked` hides; tables of other grids are resized without SciPy, in the forward too; 'small' is the
    paper's ViT-S (384 wide, 12 blocks, 6 heads); the shared bias does not keep frozen blocks in the backward pass.
    Without the authors' unused token classifier.

    Args:
        arch: 'small', 'base', 'large', their first letters, or a dict of sizes as in the host.
        use_rel_pos_bias: a table in each block.
        use_shared_rel_pos_bias: one table for all blocks.
        rel_pos_interpolation: how tables are resized to other grids, 'bilinear' or 'bicubic'.
        with_mask_token: False for fine-tuning, where the token would be a parameter without gradient.
        final_norm: whether the last block is followed by a norm, as in pre-training.
        out_type: what is returned, as in the host.
        out_indices: after which blocks, from 0; negative from the end.
        stop_grad_conv1: keep the patch projection as it is, as MoCo v3 and grafting do.
        frozen_stages: blocks that do not train, from the first, with all that comes before them; -1: none.
        kwargs: of the host's ``BEiTViT``: img_size, patch_size, drop_path_rate, layer_scale_init_value,
            use_abs_pos_emb, init_cfg …
    """

    def __init__(self, arch: str | dict = 'base', img_size: int | tuple[int, int] = 224, patch_size: int = 16,
                 use_rel_pos_bias: bool = False, use_shared_rel_pos_bias: bool = True,
                 rel_pos_interpolation: str = 'bilinear', with_mask_token: bool = True, final_norm: bool = True,
                 out_type: str = 'raw', out_indices: int | list[int] = -1, frozen_stages: int = -1,
                 stop_grad_conv1: bool = False, **kwargs) -> None:
        check_divides((img_size, img_size) if isinstance(img_size, int) else img_size, patch_size)
        if use_rel_pos_bias and use_shared_rel_pos_bias:
            raise ValueError('use_rel_pos_bias and use_shared_rel_pos_bias are both set; a block has one bias')
        out_indices = out_indices if isinstance(out_indices, int) else list(out_indices)  # the host edits it in place
        super().__init__(sizes_of(arch), img_size, patch_size, use_rel_pos_bias=False, use_shared_rel_pos_bias=False,
                         final_norm=final_norm, out_type=out_type, out_indices=out_indices, **kwargs)

        def table() -> RelativePositionBias:
            return RelativePositionBias(self.patch_resolution, num_heads, rel_pos_interpolation)

        num_heads = self.arch_settings['num_heads']
        if self.embed_dims % num_heads:
            raise ValueError(f'num_heads={num_heads} does not divide embed_dims={self.embed_dims}; take another')
        if self.cls_token is None:
            raise ValueError('with_cls_token=False: the tables of ConMIM have a place for the class token; keep it')
        self.use_rel_pos_bias = use_rel_pos_bias
        self.rel_pos_bias = table() if use_shared_rel_pos_bias else None
        for layer in self.layers:
            layer.attn = BiasedAttention(self.embed_dims, num_heads, table() if use_rel_pos_bias else None)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if with_mask_token else None
        self.frozen_stages = frozen_stages
        self.patch_embed.requires_grad_(not stop_grad_conv1)
        cut_shared_bias(self)
        self.train()

    def train(self, mode: bool = True) -> 'ConMIMViT':
        """Set the mode; frozen blocks stay in eval mode, without gradient."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def init_weights(self) -> None:
        """BEiT's initialization, unless ``init_cfg`` names a checkpoint, which the host then loads."""
        pretrained = names_checkpoint(self)
        super().init_weights()
        if pretrained:
            return
        self.apply(_init_beit)
        for token in (self.cls_token, self.mask_token, self.pos_embed):
            if token is not None:
                trunc_normal_(token, std=0.02, a=-0.02, b=0.02)
        for number, layer in enumerate(self.layers, start=1):
            for linear in (layer.attn.proj, layer.ffn.layers[1]):
                linear.weight.data.div_(math.sqrt(2 * number))

    def _prepare_relative_position_bias_table(self, *args) -> None:
        """The host's resizing at load time needs a function that SciPy has dropped; the tables resize themselves."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the blocks ``out_indices`` in the form of ``out_type``, every patch visible."""
        tokens, grid = self.patch_embed(x)
        return self._encode(tokens, grid)

    def encode_masked(self, x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`forward`, with the patches that ``mask`` (B, N) hides replaced by the mask token."""
        tokens, grid = self.patch_embed(x)
        return self._encode(replace_hidden(tokens, mask, self.mask_token), grid)

    def _encode(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, ...]:
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)  # (B, N, D) → (B, 1 + N, D)
        if self.pos_embed is not None:
            tokens = tokens + self.resize_pos_embed(
                self.pos_embed, self.patch_resolution, grid, self.interpolate_mode, self.num_extra_tokens)
        tokens = self.drop_after_pos(tokens)
        shared = None if self.rel_pos_bias is None else self.rel_pos_bias(grid)
        outputs = []
        for index, layer in enumerate(self.layers):
            own = layer.attn.rel_pos_bias
            tokens = layer(tokens, shared if own is None else own(grid))
            if index == self.num_layers - 1 and self.final_norm:
                tokens = self.ln1(tokens)
            if index in self.out_indices:
                outputs.append(self._format_output(tokens, grid))
        return tuple(outputs)


def sizes_of(arch: str | dict) -> dict:
    """Sizes of an architecture by its name, or the sizes themselves."""
    if not isinstance(arch, str):
        return arch
    if arch.lower() not in ARCHITECTURES:
        raise ValueError(f'unknown architecture {arch!r}; choose one of {sorted(ARCHITECTURES)} or give a dict')
    return ARCHITECTURES[arch.lower()]


def _init_beit(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        trunc_normal_(module.weight, std=0.02, a=-0.02, b=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
