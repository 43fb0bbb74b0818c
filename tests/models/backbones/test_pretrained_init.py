import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS

from mm_graft.models.backbones.pretrained_init import names_checkpoint
from tests.tiny import VIT

TINY = {'GraftViT': {}, 'MAEViT': {}, 'VisiblePatchViT': {'taps': [2, 4]}, 'ConMIMViT': {}}


@pytest.mark.parametrize(('init_cfg', 'expected'), [
    (None, False), ({}, False), ([], False), ({'type': 'TruncNormal', 'layer': 'Linear'}, False),
    ([{'type': 'TruncNormal', 'layer': 'Linear'}], False), ({'type': 'Pretrained', 'checkpoint': 'a.pth'}, True),
    ([{'type': 'mmengine.Pretrained', 'checkpoint': 'a.pth'}], True)])
def test_only_a_checkpoint_counts(init_cfg, expected):
    assert names_checkpoint(BaseModule(init_cfg)) == expected


def test_a_checkpoint_stands_alone():
    with pytest.raises(ValueError, match='initializes over the weights of its checkpoint; give that alone'):
        names_checkpoint(BaseModule([dict(type='Xavier', layer='Linear'), dict(type='Pretrained', checkpoint='a.pth')]))


@pytest.mark.parametrize('kind', TINY)
def test_an_empty_init_cfg_is_none(kind):
    weights = []
    for init_cfg in ({}, None):
        torch.manual_seed(0)
        backbone = MODELS.build(dict(type=f'mm_graft.{kind}', **{**VIT, **TINY[kind]}, init_cfg=init_cfg))
        backbone.init_weights()
        weights.append(backbone.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.parametrize('kind', TINY)
@pytest.mark.parametrize('listed', [False, True])
def test_weights_of_a_file_stay_as_they_are(tmp_path, kind, listed):
    settings = dict(type=f'mm_graft.{kind}', **{**VIT, **TINY[kind]})
    expected = {name: torch.full_like(tensor, 0.5) if tensor.is_floating_point() else tensor
                for name, tensor in MODELS.build(dict(settings)).state_dict().items()}
    torch.save(expected, tmp_path / 'a.pth')
    init = dict(type='mmengine.Pretrained' if listed else 'Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    backbone = MODELS.build(dict(settings, init_cfg=[init] if listed else init))
    backbone.init_weights()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in backbone.state_dict().items())
