import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS

from mm_graft.models.backbones.pretrained_init import is_pretrained
from tests.tiny import VIT

TINY = {'GraftViT': {}, 'MAEViT': {}, 'VisiblePatchViT': {'taps': [2, 4]}, 'ConMIMViT': {}}


@pytest.mark.parametrize(('init_cfg', 'expected'), [
    (None, False), ({}, False), ([], False), ({'type': 'TruncNormal', 'layer': 'Linear'}, False),
    ({'type': 'Pretrained', 'checkpoint': 'a.pth'}, True)])
def test_only_a_checkpoint_counts(init_cfg, expected):
    assert is_pretrained(BaseModule(init_cfg)) == expected


@pytest.mark.parametrize('kind', TINY)
def test_an_empty_init_cfg_is_none(kind):
    weights = []
    for init_cfg in ({}, None):
        torch.manual_seed(0)
        backbone = MODELS.build(dict(type=f'mm_graft.{kind}', **{**VIT, **TINY[kind]}, init_cfg=init_cfg))
        backbone.init_weights()
        weights.append(backbone.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
