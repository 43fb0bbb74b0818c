from copy import deepcopy

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mm_graft.checkpoints import CheckpointError
from mm_graft.engine.reliability.strict_load_hook import choose_weights
from tests.tiny import classifier, grafted_mocov3, mae, mae_file, settings


def build(config):
    model = MODELS.build(config)
    model.init_weights()
    return model


def saved(model, path, **extra):
    torch.save({'state_dict': model.state_dict(), 'meta': {}, **extra}, path)
    return str(path)


def test_a_file_of_the_same_model_is_taken_whole(tmp_path):
    model, other = build(classifier()), build(classifier())
    chosen, line = choose_weights(model, other.state_dict(), 'a.pth', complete=True)
    assert chosen.keys() == model.state_dict().keys()
    assert 'newly initialized' not in line


def test_a_head_of_other_classes_starts_new_in_a_run_and_is_an_error_in_a_test(tmp_path):
    model, other = build(classifier()), build(classifier() | dict(head=classifier()['head'] | dict(num_classes=5)))
    chosen, line = choose_weights(model, other.state_dict(), 'a.pth', complete=False)
    assert not any(name.startswith('head') for name in chosen)
    assert 'newly initialized: head.layers.head.weight' in line
    with pytest.raises(CheckpointError, match=r'lacks head\.layers\.head\.weight.* give a checkpoint of this config'):
        choose_weights(model, other.state_dict(), 'a.pth', complete=True)


def test_a_foreign_layout_fills_the_backbone(tmp_path):
    model, path = build(classifier()), mae_file(tmp_path / 'mae.pth')
    chosen, line = choose_weights(model, {'model': {}}, path, complete=False)
    assert chosen.keys() == {name for name in model.state_dict() if name.startswith('backbone.')}
    torch.testing.assert_close(chosen['backbone.cls_token'], torch.load(path)['model']['cls_token'])
    assert 'newly initialized: head' in line


def test_a_file_of_which_nothing_fits_is_refused(tmp_path):
    torch.save({'fc.weight': torch.ones(2, 2)}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=r'other\.pth'):
        choose_weights(build(classifier()), {'fc.weight': torch.ones(2, 2)}, str(tmp_path / 'other.pth'), False)


def test_half_a_backbone_is_refused(tmp_path):
    model = build(classifier())
    state = {name: tensor for name, tensor in model.state_dict().items() if 'layers.3' not in name}
    torch.save({'state_dict': state}, tmp_path / 'half.pth')
    with pytest.raises(CheckpointError, match=r'half\.pth'):
        choose_weights(model, state, str(tmp_path / 'half.pth'), complete=False)


def test_weights_that_are_not_finite_are_refused():
    model = build(classifier())
    state = deepcopy(model.state_dict())
    state['backbone.ln1.weight'][0] = float('nan')
    with pytest.raises(CheckpointError, match=r'NaN or infinite, first backbone\.ln1\.weight'):
        choose_weights(model, state, 'a.pth', complete=False)


@pytest.mark.parametrize('kind', ['own', 'foreign'])
def test_load_from_of_a_run_begins_with_the_file_and_averages_follow(kind, tmp_path):
    (tmp_path / 'run').mkdir()
    path = mae_file(tmp_path / 'mae.pth')
    if kind == 'own':
        source = build(mae())
        path = saved(source, tmp_path / 'own.pth')
    runner = Runner(**settings(grafted_mocov3(), tmp_path / 'run', custom_hooks=[dict(type='mm_graft.StrictLoadHook')]),
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
