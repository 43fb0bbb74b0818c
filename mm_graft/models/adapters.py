r"""Low-rank adapters (LoRA) in chosen layers of a ViT: all else stays as it is.

.. math:: y = W x + b + \frac{\alpha}{r} B A x, \qquad A \in \mathbb{R}^{r \times I},\; B \in \mathbb{R}^{O \times r}

Hu et al., ICLR 2022 (arXiv 2106.09685); equation, first values (A Kaiming-uniform, B zero) and scale are those of the
host's ``LoRALinear``. The host's ``LoRAModel`` around a backbone keeps nothing but adapters in checkpoints and gives
every layer another name, so that no momentum encoder could copy it, no run resume exactly, and no depth be told; here
the layers keep their names and whole checkpoints are written.
"""

from collections.abc import Sequence

import torch
from mmpretrain.models.peft.lora import LoRALinear
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.checkpoints.adapters import merged_weight
from mm_graft.depth import blocks_of

# What a layer is called in the blocks of the host's ViTs and of timm's
PROJECTIONS = {
    'qkv': ('attn.qkv', 'attn.q_proj', 'attn.k_proj', 'attn.v_proj'),
    'proj': ('attn.proj', ),
    'fc1': ('ffn.layers.0.0', 'ffn.w12', 'mlp.fc1', 'mlp.fc1_g', 'mlp.fc1_x', 'mlp.w12'),
    'fc2': ('ffn.layers.1', 'ffn.w3', 'mlp.fc2', 'mlp.w3'),
}


class AdaptedLinear(nn.Linear):
    """A linear layer with an adapter; its own parameters keep their names and do not train.

    Args:
        rank: r.
        alpha: α.
        drop_rate: dropout of what the adapter sees.
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, drop_rate: float = 0.0) -> None:
        super().__init__(1, 1, layer.bias is not None, device='meta')
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        adapter = LoRALinear(layer, alpha, rank, drop_rate)
        self.lora_dropout = adapter.lora_dropout
        self.lora_down, self.lora_up = adapter.lora_down.weight, adapter.lora_up.weight
        self.register_buffer('lora_scale', torch.tensor(float(adapter.scaling)))
        self.scale = adapter.scaling

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, O)."""
        low = F.linear(self.lora_dropout(x), self.lora_down)  # (…, r)
        return super().forward(x) + self.scale * F.linear(low, self.lora_up)

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """A plain layer that computes the same."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, self.weight.device,
                          self.weight.dtype)
        layer.weight.copy_(merged_weight(self.weight, self.lora_down, self.lora_up, self.scale))
        if self.bias is not None:
            layer.bias.copy_(self.bias)
        return layer

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        stored = state_dict.get(f'{prefix}lora_scale')
        if stored is not None and float(stored) != float(self.lora_scale):
            raise ValueError(f'{prefix[:-1]}: the checkpoint has adapters of scale alpha / rank = {float(stored):g}, '
                             f'the config of {self.scale:g}; give the same alpha and rank')
        super()._load_from_state_dict(state_dict, prefix, *args)


def add_adapters(backbone: nn.Module, rank: int, alpha: float | None = None,
                 projections: Sequence[str] = ('qkv', 'proj'), depths: Sequence[int] | None = None,
                 drop_rate: float = 0.0) -> list[str]:
    """Freeze a ViT and put adapters into chosen layers; the names of these.

    Blocks below the lowest adapter leave autograd altogether. A token for hidden patches goes on learning.

    Args:
        backbone: of the host, of this package or of timm.
        rank: r of every adapter.
        alpha: α; r if None, which is scale 1.
        projections: which layers of a block, of ``PROJECTIONS``.
        depths: of which blocks, counted from 1 as in :mod:`mm_graft.depth`; all if None.
        drop_rate: dropout of what the adapters see.
    """
    blocks = blocks_of(backbone)
    depths = range(1, len(blocks) + 1) if depths is None else depths
    if rank < 1 or unknown_in(projections, PROJECTIONS) or unknown_in(depths, range(1, len(blocks) + 1)):
        raise ValueError(f'adapters=dict(rank={rank}, projections={list(projections)}, depths={list(depths)}): rank is '
                         f'at least 1, projections are of {list(PROJECTIONS)}, depths of 1 to {len(blocks)}')
    backbone.requires_grad_(False)
    for name, parameter in backbone.named_parameters():
        if name.endswith('mask_token'):
            parameter.requires_grad_(True)
    chosen = {id(module) for depth in depths for projection in projections
              for module in layers_of(blocks[depth - 1], projection)}
    names = [name for name, module in backbone.named_modules() if id(module) in chosen]
    for name in names:
        parent, _, last = name.rpartition('.')
        setattr(backbone.get_submodule(parent), last,
                AdaptedLinear(backbone.get_submodule(name), rank, rank if alpha is None else alpha, drop_rate))
    return names


def unknown_in(given: Sequence, known: Sequence) -> list:
    """What of ``given`` is not known; all of nothing, since nothing would be adapted."""
    return [one for one in given if one not in known] if len(given) else ['nothing']


def layers_of(block: nn.Module, projection: str) -> list[nn.Linear]:
    """The linear layers of a block that are such a projection."""
    found = [block.get_submodule(name) for name in PROJECTIONS[projection] if has_linear(block, name)]
    if not found:
        raise ValueError(f'{type(block).__name__} has no linear layer that is its {projection!r}; choose other '
                         'projections for the adapters')
    if projection == 'qkv' and getattr(block.attn, 'q_bias', None) is not None:
        raise ValueError(f"{type(block.attn).__name__} adds biases of its own and reads the weight of 'qkv' past the "
                         "layer, so an adapter there would do nothing; choose of 'proj', 'fc1', 'fc2'")
    return found


def has_linear(module: nn.Module, name: str) -> bool:
    """Whether a module has a linear layer of this name."""
    try:
        return isinstance(module.get_submodule(name), nn.Linear)
    except AttributeError:
        return False


def merge_adapters_(model: nn.Module) -> nn.Module:
    """Put plain layers in the place of adapted ones, in place; the model computes the same."""
    for name, module in list(model.named_modules()):
        if isinstance(module, AdaptedLinear):
            parent, _, last = name.rpartition('.')
            setattr(model.get_submodule(parent), last, module.merge())
    return model
