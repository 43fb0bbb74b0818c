"""These fail if MMEngine wraps or compiles a model in another way, or PyTorch does not let a model be wrapped again."""

import pytest
import torch
from mmengine.runner import Runner
from torch import distributed, nn

from mm_graft.host.rewrapping import rewrap
from tests.tiny import classifier, settings


@pytest.fixture
def group(tmp_path):
    distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def build(folder):
    (folder / 'run').mkdir()
    return Runner(**settings(classifier(), folder / 'run'))


def test_a_bare_model_is_left_alone(tmp_path):
    runner = build(tmp_path)
    model = runner.model
    rewrap(runner)
    assert runner.model is model


def test_a_wrapped_model_no_longer_waits_for_what_was_frozen(tmp_path, group, monkeypatch):
    runner, compiled = build(tmp_path), []
    inner = runner.model
    runner.model = nn.parallel.DistributedDataParallel(inner)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(runner, '_distributed', True)
    monkeypatch.setattr(torch, 'compile', lambda function, **kwargs: compiled.append(kwargs) or function)
    runner.cfg.compile = dict(mode='default')
    runner.cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
    inner.backbone.requires_grad_(False)
    rewrap(runner)
    assert isinstance(runner.model, nn.parallel.DistributedDataParallel)
    assert runner.model.module is inner
    assert compiled == [dict(mode='default')]
    for _ in range(2):  # a second forward raises an error where the first backward left a gradient out
        runner.model(torch.zeros(1, 3, 32, 32), mode='tensor')[-1].sum().backward()
