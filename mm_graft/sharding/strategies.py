"""What cannot work where parameters are cut into shards says so before the first iteration."""

from mmengine.hooks import Hook
from mmengine.model import BaseAveragedModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from mm_graft.depth import unwrap

FULLY_SHARD = 'DTensor (fully_shard)'
WHOLE = ('SingleDeviceStrategy', 'DDPStrategy')  # the host's that leave parameters whole


def sharding_wrapper(model: nn.Module) -> str | None:
    """Name of a wrapper around the model that may keep parts of parameters only, or None."""
    cuts = is_model_wrapper(model) and not isinstance(model, DistributedDataParallel)
    return type(model).__name__ if cuts else None


def sharding_of(runner: Runner) -> str | None:
    """Name of what may cut the parameters of a run: a wrapper, the host's strategy, FSDP2's tensors; or None."""
    strategy = type(runner.strategy).__name__ if hasattr(runner, 'strategy') else None
    if strategy is not None and strategy not in WHOLE:
        return strategy
    cut = any(isinstance(parameter, DTensor) for parameter in unwrap(runner.model).parameters())
    return sharding_wrapper(runner.model) or (FULLY_SHARD if cut else None)


def refuse_sharding(component: str, sharding: str | None) -> None:
    """Stop, if there is any.

    Raises:
        ValueError: names the component, the strategy and the remedy.
    """
    if sharding is not None:
        raise ValueError(f'{component} needs whole parameters, and {sharding} may hold parts of them (FSDP, DeepSpeed, '
                         '…); use the plain Runner, alone or with MMDistributedDataParallel, or leave it out')


class ShardingCheckHook(Hook):
    """Refuses averaged copies (the slow encoder of MoCo v3) of sharded models: they would silently stay as they were.

    ``mm_graft.FullyShardedRunner`` moves those of this package, and refuses others by itself.
    ``tools/train.py`` adds it to every run; hooks that need whole parameters check for themselves.
    """

    def before_train(self, runner: Runner) -> None:
        """Look for copies.

        Raises:
            ValueError: see :func:`refuse_sharding`.
        """
        for name, module in unwrap(runner.model).named_modules():
            if isinstance(module, BaseAveragedModel) and 'as_kept' not in vars(module):
                refuse_sharding(f'{type(module).__name__} (`{name}`)', sharding_of(runner))
