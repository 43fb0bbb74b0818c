"""Channels-last memory where a convolution cuts the image into patches."""

import torch
from mmengine.runner import Runner
from torch import nn

from mm_graft.depth import encoders_of
from mm_graft.engine.speed.model_hook import ModelHook
from mm_graft.registry import HOOKS
from mm_graft.sharding import refuse_sharding, sharding_of


@HOOKS.register_module()
class ChannelsLastHook(ModelHook):
    """Keeps the weights of the patch embedding, of all encoders, with the channels last in memory.

    ``custom_hooks=[dict(type='mm_graft.ChannelsLastHook')]``. The convolution then gives maps whose tokens lie
    together, as the blocks read them, and GPUs with tensor cores need no transposed copy. Shapes, names and values are
    the same; so are checkpoints.
    """

    title = 'channels-last patch embedding'

    def before_train(self, runner: Runner) -> None:
        """Refuse what keeps weights as flat pieces, and change the run's model."""
        refuse_sharding('ChannelsLastHook', sharding_of(runner))
        super().before_train(runner)

    def apply(self, model: nn.Module) -> int:
        """Change the convolutions of every patch embedding; how many there were."""
        found = [module for encoder in encoders_of(model) for module in encoder.patch_embed.modules()
                 if isinstance(module, nn.Conv2d)]
        for module in found:
            module.to(memory_format=torch.channels_last)
        return len(found)
