"""The first projector layer of a contrastive checkpoint."""

from torch import Tensor

from mm_graft.checkpoints.loader import CheckpointError

# The authors' layout, as saved and unwrapped, then mmpretrain's.
FIRST_LAYERS = {
    'base': ('module.base_encoder.head.0.weight', 'base_encoder.head.0.weight', 'neck.fc0.weight'),
    'momentum': ('module.momentum_encoder.head.0.weight', 'momentum_encoder.head.0.weight',
                 'momentum_encoder.module.1.fc0.weight')}


def first_projection(tensors: dict[str, Tensor], branch: str = 'base') -> Tensor:
    """Weight (hidden, D) of the first projector layer of a contrastive checkpoint."""
    for name in FIRST_LAYERS[branch]:
        if name in tensors:
            return tensors[name]
    raise CheckpointError(
        f'the checkpoint has no first projector layer ({", ".join(FIRST_LAYERS[branch])}); fine-tuning from it needs a '
        'contrastive checkpoint, others take a plain head')
