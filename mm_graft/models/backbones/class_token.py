"""The last block, for the class token alone.

What contrastive learning reads of a ViT is the class token after the last block. Of that block the other tokens need
keys and values only: no queries, no projection, no MLP. That leaves about a sixth of its work (2 of 12 products of
width × width a token), exactly: the class token and every gradient are those of the whole block.
"""

from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor
from torch.nn import functional as F


def attend_from_first(attention, x: Tensor) -> Tensor:
    """The host's ``MultiheadAttention`` of (B, N, D) at the first token: (B, 1, D)."""
    dims, heads, bias = attention.embed_dims, attention.num_heads, attention.qkv.bias
    query_bias, other_bias = (None, None) if bias is None else (bias[:dims], bias[dims:])
    query = F.linear(x[:, :1], attention.qkv.weight[:dims], query_bias).unflatten(2, (heads, -1)).transpose(1, 2)
    others = F.linear(x, attention.qkv.weight[dims:], other_bias).unflatten(2, (2, heads, -1))
    key, value = others.permute(2, 0, 3, 1, 4).unbind()  # (B, N, 2, heads, d) → 2 × (B, heads, N, d)
    drop = attention.attn_drop if attention.training else 0.
    out = F.scaled_dot_product_attention(query, key, value, dropout_p=drop)  # (B, heads, 1, d)
    out = attention.proj(out.transpose(1, 2).flatten(2))
    return attention.out_drop(attention.gamma1(attention.proj_drop(out)))


def class_token_through(block: TransformerEncoderLayer, tokens: Tensor) -> Tensor:
    """The first token of a host block's output for tokens (B, N, D): (B, 1, D)."""
    first = tokens[:, :1] + attend_from_first(block.attn, block.ln1(tokens))
    return block.ffn(block.ln2(first), identity=first)
