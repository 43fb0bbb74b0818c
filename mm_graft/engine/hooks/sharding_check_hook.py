"""Refusing averages that would silently not move where parameters are sharded."""

from mmengine.hooks import Hook
from mmengine.model import BaseAveragedModel
from mmengine.runner import Runner

from mm_graft.depth import unwrap
from mm_graft.registry import HOOKS
from mm_graft.sharding import FULLY_SHARD, refuse_sharding, sharding_of


@HOOKS.register_module()
class ShardingCheckHook(Hook):
    """Refuses averaged copies (the momentum encoder of MoCo v3) of sharded models: they would stay as initialized.

    ``mm_graft.FullyShardedRunner`` moves those of this package, and refuses others by itself.
    ``tools/train.py`` adds it to every run; hooks that need full parameters check for themselves.
    """

    def before_train(self, runner: Runner) -> None:
        """Look for copies."""
        for name, module in unwrap(runner.model).named_modules():
            if not isinstance(module, BaseAveragedModel):
                continue
            sharding = sharding_of(runner)
            if sharding != FULLY_SHARD or not getattr(module, 'supports_shards', False):
                refuse_sharding(f'{type(module).__name__} (`{name}`)', sharding)
