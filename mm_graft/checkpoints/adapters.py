r"""Low-rank adapters in a state dict, and a state dict without them.

An adapted linear layer has beside ``weight`` W (O, I) the tensors ``lora_down`` A (r, I), ``lora_up`` B (O, r) and
``lora_scale`` s, and computes with :math:`W + s B A` (Hu et al., LoRA, ICLR 2022, arXiv 2106.09685).
"""

import re
from collections.abc import Mapping

from torch import Tensor

from mm_graft.checkpoints.layouts import StateDict

ADAPTER = re.compile(r'^(.+\.)lora_(down|up|scale)$')


def merged_weight(weight: Tensor, down: Tensor, up: Tensor, scale: Tensor | float) -> Tensor:
    """The weight that computes alone what layer and adapter compute together; the product is in fp64."""
    return weight + (scale * (up.double() @ down.double())).to(weight.dtype)


def without_adapters(tensors: Mapping[str, object]) -> dict[str, object]:
    """The tensors that belong to no adapter."""
    return {name: tensor for name, tensor in tensors.items() if not ADAPTER.match(name)}


def merge_adapters(tensors: StateDict) -> StateDict:
    """The same encoder without adapters; a state dict that has none is returned as it is."""
    layers = dict.fromkeys(match.group(1) for name in tensors if (match := ADAPTER.match(name)))
    if not layers:
        return tensors
    result = without_adapters(tensors)
    for layer in layers:
        parts = [tensors.get(f'{layer}{part}') for part in ('weight', 'lora_down', 'lora_up', 'lora_scale')]
        if any(part is None for part in parts):
            raise ValueError(f'the adapter {layer}lora_… is incomplete; it needs {layer}weight, lora_down, lora_up and '
                             'lora_scale, as a checkpoint of a run has them')
        result[f'{layer}weight'] = merged_weight(*parts)
    return result
