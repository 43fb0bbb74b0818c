import torch
from mmengine.model import is_model_wrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from mm_graft.engine.speed.cpu_data_parallel import CPUDataParallel
from tests.own_process import one_of_one


@one_of_one
def test_batch_norm_belongs_to_a_process():
    model = CPUDataParallel(nn.Sequential(nn.Linear(2, 3), nn.SyncBatchNorm(3)), device_ids=None)
    assert type(model.module[1]).__name__ != 'SyncBatchNorm'
    assert model(torch.randn(4, 2)).shape == (4, 3)
    assert is_model_wrapper(model)


def test_it_is_ours_and_not_the_host_s():
    assert MODEL_WRAPPERS.get('mm_graft.CPUDataParallel') is CPUDataParallel
    assert 'CPUDataParallel' not in MODEL_WRAPPERS.module_dict
