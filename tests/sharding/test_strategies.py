from types import SimpleNamespace

import pytest
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from mm_graft.engine.freezing.freezeout_hook import check_supported
from mm_graft.engine.hooks.gradient_conflict_hook import GradientConflictHook
from mm_graft.engine.hooks.online_knn_hook import OnlineKNNHook
from mm_graft.engine.hooks.weight_anchor import WeightAnchor
from mm_graft.engine.optimizers.graft_constructor import GraftOptimWrapperConstructor
from mm_graft.engine.speed.channels_last_hook import ChannelsLastHook
from mm_graft.sharding.strategies import FULLY_SHARD, ShardingCheckHook, refuse_sharding, sharding_of, sharding_wrapper


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


class DDPStrategy:
    """Has the name of the host's."""


class DeepSpeedStrategy:
    """Has the name of the host's."""


@pytest.fixture(autouse=True)
def _registered():
    MODEL_WRAPPERS.register_module(module=Sharded, force=True)
    yield
    MODEL_WRAPPERS._module_dict.pop('Sharded')


@pytest.fixture
def run():
    return SimpleNamespace(model=Sharded(Averaged()))


def test_wrappers_and_strategies_that_cut_are_told_from_those_that_do_not(run):
    whole = Averaged()
    assert sharding_wrapper(whole) is None
    assert sharding_wrapper(run.model) == sharding_of(run) == 'Sharded'
    assert sharding_of(SimpleNamespace(model=whole)) is None
    assert sharding_of(SimpleNamespace(model=whole, strategy=DDPStrategy())) is None
    assert sharding_of(SimpleNamespace(model=whole, strategy=DeepSpeedStrategy())) == 'DeepSpeedStrategy'


def test_tensors_of_fsdp2_are_seen(monkeypatch):
    monkeypatch.setattr('mm_graft.sharding.strategies.DTensor', nn.Parameter)
    run = SimpleNamespace(model=Averaged())
    assert sharding_of(run) == FULLY_SHARD
    with pytest.raises(ValueError, match='FreezeOut rebuilds the model wrapper'):
        check_supported(run)


def test_the_message_names_component_strategy_and_remedy():
    refuse_sharding('This', None)
    with pytest.raises(ValueError, match=r'This needs whole parameters, and Sharded.*MMDistributedDataParallel'):
        refuse_sharding('This', 'Sharded')


def test_an_averaged_copy_is_refused_before_training(run):
    with pytest.raises(ValueError, match=r'ExponentialMovingAverage \(`slow`\) needs whole.*Sharded'):
        ShardingCheckHook().before_train(run)
    run.model.module.slow.as_kept = None  # somebody sees to it that shards are moved
    ShardingCheckHook().before_train(run)
    ShardingCheckHook().before_train(SimpleNamespace(model=Averaged()))
    ShardingCheckHook().before_train(SimpleNamespace(model=Sharded(nn.Linear(2, 2))))


@pytest.mark.parametrize(
    'hook', [WeightAnchor('file.pth'), GradientConflictHook(), OnlineKNNHook(), ChannelsLastHook()])
def test_a_hook_that_needs_whole_parameters_refuses_before_training(run, hook):
    with pytest.raises(ValueError, match=f'{type(hook).__name__}.* needs whole parameters, and Sharded'):
        hook.before_train(run)


def test_the_constructor_refuses_flattened_parameters(run):
    constructor = GraftOptimWrapperConstructor(dict(optimizer=dict(type='SGD', lr=0.1)), dict(by_depth=True))
    with pytest.raises(ValueError, match=r'GraftOptimWrapperConstructor.*needs whole parameters, and Sharded'):
        constructor(run.model)
