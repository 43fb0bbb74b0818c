from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mm_graft.checkpoints import CheckpointError
from mm_graft.engine.reliability.strict_load_hook import initialize_strictly, take_pretrained
from tests.checkpoints.test_model_weights import build, saved
from tests.tiny import VIT, grafted_mocov3, mae, mae_file, settings

STRICT = [dict(type='mm_graft.StrictLoadHook')]


@pytest.mark.parametrize('kind', ['own', 'foreign'])
def test_load_from_of_a_run_begins_with_the_file_and_averages_follow(kind, tmp_path):
    (tmp_path / 'run').mkdir()
    path = mae_file(tmp_path / 'mae.pth')
    if kind == 'own':
        source = build(mae())
        path = saved(source, tmp_path / 'own.pth')
    runner = Runner(**settings(grafted_mocov3(), tmp_path / 'run', custom_hooks=STRICT),
                    load_from=path)
    seen = {}

    original = runner.train_loop.run_iter

    def run_iter(index, batch):
        seen.setdefault('token', runner.model.backbone.cls_token.detach().clone())
        seen.setdefault('average', dict(runner.model.momentum_encoder.named_parameters())['module.0.cls_token'].clone())
        original(index, batch)

    runner.train_loop.run_iter = run_iter
    runner.train()
    expected = torch.load(path)['state_dict']['backbone.cls_token'] if kind == 'own' else \
        torch.load(path)['model']['cls_token']
    torch.testing.assert_close(seen['token'], expected)
    torch.testing.assert_close(seen['average'], expected)


def pretrained(path, **more):
    return dict(type='Pretrained', checkpoint=str(path), **more)


def initialized(folder, model, **kwargs):
    """A run as far as its weights are initialized."""
    folder.mkdir()
    runner = Runner(**settings(model, folder, custom_hooks=STRICT, **kwargs))
    initialize_strictly(runner)
    runner.call_hook('before_run')
    runner._init_model_weights()
    return runner.model


@pytest.mark.parametrize('place', ['model', 'backbone'])
def test_weights_of_init_cfg_are_the_files_in_any_layout_and_averages_follow(place, tmp_path):
    path = mae_file(tmp_path / 'mae.pth')
    model = grafted_mocov3()
    (model if place == 'model' else model['backbone'])['init_cfg'] = pretrained(path)
    model = initialized(tmp_path / 'run', model)
    token = torch.load(path)['model']['cls_token']
    assert torch.equal(model.backbone.cls_token, token)
    assert torch.equal(dict(model.momentum_encoder.named_parameters())['module.0.cls_token'], token)
    assert 'init_weights' not in vars(model)


def test_the_file_of_the_model_counts_before_those_of_its_parts(tmp_path):
    whole, part = mae_file(tmp_path / 'whole.pth', seed=1), mae_file(tmp_path / 'part.pth', seed=2)
    model = mae(init_cfg=pretrained(part)) | dict(init_cfg=pretrained(whole))
    assert torch.equal(initialized(tmp_path / 'run', model).backbone.cls_token, torch.load(whole)['model']['cls_token'])


@pytest.mark.parametrize('type_', ['mmpretrain.VisionTransformer', 'mmseg.BEiT', 'mm_graft.GraftViT'])
def test_half_a_backbone_is_refused_by_every_backbone(type_, tmp_path):
    """Also by mmseg's, which open the file themselves."""
    sizes = VIT if 'BEiT' not in type_ else dict(img_size=32, patch_size=8, embed_dims=16, num_layers=2, num_heads=2)
    backbone = MODELS.build(dict(type=type_, **sizes))
    state = {name: tensor for name, tensor in backbone.state_dict().items() if 'layers.1' not in name}
    torch.save(state, tmp_path / 'half.pth')
    model = dict(type='mmpretrain.ImageClassifier',
                 backbone=dict(type=type_, **sizes, init_cfg=pretrained(tmp_path / 'half.pth')))
    with pytest.raises(CheckpointError, match=r'half\.pth'):
        initialized(tmp_path / 'run', model)


def test_a_run_that_goes_on_opens_none_of_them(tmp_path):
    model = mae(init_cfg=pretrained(tmp_path / 'gone.pth'))
    initialized(tmp_path / 'on', model, resume=True, load_from=saved(build(mae()), tmp_path / 'own.pth'))
    with pytest.raises(CheckpointError, match=r'gone\.pth does not exist'):
        initialized(tmp_path / 'new', model)


def test_other_initializations_stay(tmp_path):
    xavier = dict(type='Xavier', layer='Linear')
    model = MODELS.build(mae(init_cfg=[xavier, pretrained('a.pth')]) | dict(init_cfg=xavier))
    (module, taken), = take_pretrained(model)
    assert module is model.backbone
    assert taken == pretrained('a.pth')
    assert (model.init_cfg, model.backbone.init_cfg) == (xavier, [xavier])


def test_a_model_that_is_built_later_is_refused():
    runner = SimpleNamespace(model={}, cfg={'model': {'backbone': {'init_cfg': pretrained('a.pth')}}})
    with pytest.raises(ValueError, match=r'model\.backbone\.init_cfg: SimpleNamespace would load.*--init FILE'):
        initialize_strictly(runner)
    runner.cfg['model']['backbone'].clear()
    initialize_strictly(runner)
