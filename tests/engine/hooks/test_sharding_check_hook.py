from types import SimpleNamespace

import pytest
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from mm_graft.engine.hooks.sharding_check_hook import ShardingCheckHook


class Sharded(nn.Module):
    """Stands in for FSDP."""

    def __init__(self, module):
        super().__init__()
        self.module = module


class Averaged(nn.Module):

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.slow = ExponentialMovingAverage(self.linear)


@pytest.fixture(autouse=True)
def _registered():
    MODEL_WRAPPERS.register_module(module=Sharded, force=True)
    yield
    MODEL_WRAPPERS._module_dict.pop('Sharded')


@pytest.fixture
def run():
    return SimpleNamespace(model=Sharded(Averaged()))


def test_an_averaged_copy_is_refused_before_training_unless_it_moves_shards(run, monkeypatch):
    with pytest.raises(ValueError, match=r'ExponentialMovingAverage \(`slow`\) needs full.*Sharded'):
        ShardingCheckHook().before_train(run)
    run.model.module.slow.supports_shards = True  # FSDP2's, not those of any wrapper
    with pytest.raises(ValueError, match='Sharded'):
        ShardingCheckHook().before_train(run)
    sharded = SimpleNamespace(model=run.model.module)
    with monkeypatch.context() as patch:
        patch.setattr('mm_graft.sharding.DTensor', nn.Parameter)
        ShardingCheckHook().before_train(sharded)
        sharded.model.slow.supports_shards = False
        with pytest.raises(ValueError, match='fully_shard'):
            ShardingCheckHook().before_train(sharded)
    ShardingCheckHook().before_train(SimpleNamespace(model=Averaged()))
    ShardingCheckHook().before_train(SimpleNamespace(model=Sharded(nn.Linear(2, 2))))
