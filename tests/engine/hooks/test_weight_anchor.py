import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import distributed

from mm_graft.checkpoints import CheckpointError
from mm_graft.engine.hooks.load_backbone_hook import LoadBackboneHook
from mm_graft.engine.hooks.weight_anchor import WeightAnchor, weight_distance
from mm_graft.engine.speed.fully_sharded_runner import shard_model
from mm_graft.process_group import leave_group
from tests.defaults import defaults
from tests.engine.freezing.freezeout_runs import mae as mae_with_freezeout
from tests.engine.freezing.freezeout_runs import run_config
from tests.own_process import in_processes
from tests.tiny import grafted_mocov3, mae_file, settings


@pytest.fixture
def path(tmp_path):
    return mae_file(tmp_path / 'mae.pth')


class Terms(Hook):
    """Notes the term of every iteration."""

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append(outputs['loss_anchor'].item())


def train(folder, path, epochs=1, resume=False, model=None, paramwise_cfg=None, start=None, **anchor):
    hook = WeightAnchor(path, **anchor)
    runner = Runner(**settings(model or grafted_mocov3(), folder, paramwise_cfg, epochs, resume=resume,
                               visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])))
    runner.register_hook(LoadBackboneHook(start or path))
    runner.register_hook(hook)
    runner.train()
    lines = sorted(folder.glob('*/vis_data/scalars.json'))[-1].read_text().splitlines()
    return runner, [json.loads(line) for line in lines][-4:]


@pytest.mark.parametrize(('p', 'value', 'gradient'), [(1, 7.0, [1.0, -1.0, 0.0]), (2, 21.0, [2.0, -4.0, 0.0])])
def test_distance_and_gradient_by_hand(p, value, gradient):
    parameters = [torch.tensor([2.0, -1.0, 5.0], requires_grad=True), torch.tensor([[4.0]], requires_grad=True)]
    distance = weight_distance(parameters, [torch.tensor([1.0, 1.0, 5.0]), torch.tensor([[0.0]])], p)
    assert distance.item() == value
    distance.backward()
    assert parameters[0].grad.tolist() == gradient
    assert parameters[1].grad.item() == (1.0 if p == 1 else 8.0)


@pytest.mark.parametrize('p', [1, 2])
def test_at_the_anchor_distance_and_gradient_are_zero(p):
    parameter = torch.randn(3, requires_grad=True)
    distance = weight_distance([parameter], [parameter.detach().clone()], p)
    distance.backward()
    assert distance.item() == 0
    assert parameter.grad.tolist() == [0, 0, 0]


def test_distances_add_up_over_tensors():
    tensors, anchors = [torch.randn(3), torch.randn(2, 2)], [torch.randn(3), torch.randn(2, 2)]
    for p in (1, 2):
        by_hand = sum(((a - b).abs()**p).sum() for a, b in zip(tensors, anchors))
        torch.testing.assert_close(weight_distance(tensors, anchors, p), by_hand)


def test_the_value_is_zero_at_first_then_the_distance_and_it_is_logged(tmp_path, path):
    runner, logged = train(tmp_path / 'run', path, weight=0.5, max_depth=5, p=2)
    assert logged[0]['loss_anchor'] == 0
    assert all(line['loss_anchor'] > 0 for line in logged[1:])
    hook = WeightAnchor(path, weight=0.5, max_depth=5, p=2)
    hook.before_train(runner)
    anchors = torch.load(path, weights_only=True)['model']
    moved = runner.model.backbone.layers[2].ln1.weight - anchors['blocks.2.norm1.weight']
    assert hook.loss() > 0.5 * moved.square().sum()
    for line in logged:
        assert line['loss'] == pytest.approx(line['loss_task'] + line['loss_anchor'], rel=1e-4)


def test_each_setting_changes_the_term(path):
    model = MODELS.build(grafted_mocov3())
    model.init_weights()
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(0.1)
    terms = set()
    for anchor in ({}, {'weight': 2e-5}, {'max_depth': 2}, {'p': 2}):
        hook = WeightAnchor(path, **{'max_depth': 5} | anchor)
        hook.before_train(type('Runner', (), {'model': model, 'iter': 0}))
        terms.add(hook.loss().item())
        hook.after_train(type('Runner', (), {'model': model, 'iter': 0}))
    assert len(terms) == 4


def test_only_trained_parameters_up_to_the_depth_are_pulled(path):
    model = MODELS.build(grafted_mocov3())
    parameters, _ = WeightAnchor(path, max_depth=2).pairs(model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    pulled = {names[parameter] for parameter in parameters}
    assert pulled == {name for name in names.values() if name.startswith(
        ('backbone.cls_token', 'backbone.layers.0.', 'backbone.layers.1.'))}
    assert {names[parameter] for parameter in WeightAnchor(path, max_depth=0).pairs(model)[0]} == {'backbone.cls_token'}


def test_the_pull_reaches_the_anchored_weights_and_nothing_else(path):
    model = MODELS.build(grafted_mocov3())
    hook = WeightAnchor(path, weight=1.0, max_depth=1, p=1)
    hook.before_train(type('Runner', (), {'model': model, 'iter': 0}))
    hook.loss().backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in model.named_parameters()
                       if name.startswith(('backbone.layers.0.', 'backbone.cls_token'))}
    anchor = torch.load(path, weights_only=True)['model']['blocks.0.mlp.fc1.weight']
    weight = model.backbone.layers[0].ffn.layers[0][0].weight
    assert torch.equal(weight.grad, (weight - anchor).sign())


def test_a_strong_anchor_keeps_the_weights_nearer(tmp_path, path):
    distances = []
    for weight in (0.0, 1.0):
        runner, _ = train(tmp_path / f'run{weight}', path, weight=weight, max_depth=5, p=2)
        parameters, anchors = WeightAnchor(path, max_depth=5).pairs(runner.model)
        distances.append(weight_distance(parameters, anchors, 2).item())
    assert distances[1] < 0.9 * distances[0]


def test_a_resumed_run_takes_the_anchor_from_the_file(tmp_path, path):
    _, first = train(tmp_path / 'run', path, weight=0.5, max_depth=5, p=2)
    runner, logged = train(tmp_path / 'run', path, epochs=2, resume=True, weight=0.5, max_depth=5, p=2)
    assert [line['epoch'] for line in logged] == [2, 2, 2, 2]
    assert logged[0]['loss_anchor'] > 0.5 * first[-1]['loss_anchor'] > 0
    saved = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)['state_dict']
    assert not any('anchor' in name for name in saved)
    assert runner.epoch == 2


def test_the_model_is_left_as_it_was(tmp_path, path):
    runner, _ = train(tmp_path / 'run', path, max_depth=5)
    assert not runner.model._forward_hooks


@pytest.fixture
def said(monkeypatch):
    """What the anchor has to say."""
    lines = []
    monkeypatch.setattr('mm_graft.engine.hooks.weight_anchor.print_log', lambda text, **kwargs: lines.append(text))
    return lines


def test_without_a_file_of_its_own_the_initial_weights_are_the_anchor(path, tmp_path):
    torch.save({'state_dict': MODELS.build(grafted_mocov3()).state_dict()}, tmp_path / 'graft.pth')
    state = torch.load(tmp_path / 'graft.pth', weights_only=True)['state_dict']
    model = MODELS.build(grafted_mocov3())
    for branch, prefix in (('base', 'backbone.'), ('momentum', 'momentum_encoder.module.0.')):
        state[f'{prefix}cls_token'].fill_(len(branch))
        torch.save({'state_dict': state}, tmp_path / 'graft.pth')
        init, hook = LoadBackboneHook(str(tmp_path / 'graft.pth'), branch), WeightAnchor(max_depth=0)
        hook.before_train(type('Runner', (), {'model': model, 'iter': 1, 'hooks': [init, hook]}))
        assert (hook.pairs(model)[1][0] == len(branch)).all()
        hook.after_train(type('Runner', (), {'model': model}))
    for hooks in ([], [LoadBackboneHook(None)]):
        with pytest.raises(ValueError, match=r'default_hooks\.init\.checkpoint'):
            WeightAnchor(max_depth=0).before_train(type('Runner', (), {'model': model, 'iter': 0, 'hooks': hooks}))


def test_a_new_run_that_starts_elsewhere_is_told_both_places_once(tmp_path, path, said):
    other = mae_file(tmp_path / 'other.pth', seed=2)
    train(tmp_path / 'same', path, max_depth=1)
    assert not said
    train(tmp_path / 'apart', other, max_depth=1, start=path)
    assert len(said) == 1
    assert f'pulls towards {other}, but GraftedMoCoV3 does not start there: 13 of 13 anchored tensors differ' in said[0]


def test_a_resumed_run_is_not_told_that_it_has_moved(tmp_path, path, said):
    other = mae_file(tmp_path / 'other.pth', seed=2)
    train(tmp_path / 'run', other, max_depth=1, start=path)
    said.clear()
    train(tmp_path / 'run', other, epochs=2, resume=True, max_depth=1, start=path)
    assert not said


@pytest.mark.parametrize('last', ['FreezeOutHook', 'WeightAnchor'])
def test_with_freezeout_the_term_goes_on_as_it_was_when_a_run_is_resumed(tmp_path, path, last):
    hooks = [dict(type='SeedByIteration'), dict(type='mm_graft.FreezeOutHook'),
             dict(type='mm_graft.WeightAnchor', checkpoint=path, weight=0.1, max_depth=1)]
    if last == 'FreezeOutHook':
        hooks[1:] = hooks[:0:-1]

    def run(folder, **kwargs):
        cfg = Config(run_config(mae_with_freezeout(), work_dir=str(tmp_path / folder), **kwargs))
        cfg.custom_hooks = hooks
        runner, spy = Runner.from_cfg(cfg), Terms()
        runner.register_hook(spy)
        runner.train()
        return spy.seen

    whole = run('whole', checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False))
    for stop in (7, 10):  # the stem is frozen, or all that is anchored
        assert run(f'from{stop}', resume=True, load_from=str(tmp_path / f'whole/iter_{stop}.pth')) == whole[stop:]


@pytest.mark.parametrize(('anchor', 'message'), [
    ({'p': 3}, r'p must be 1 .* or 2 .*, got 3'), ({'weight': -1.0}, r'weight=-1\.0 of the anchor must be finite'),
    ({'weight': float('inf')}, 'weight=inf of the anchor'), ({'weight': float('nan')}, 'weight=nan of the anchor')])
def test_impossible_settings_are_refused_at_once(anchor, message):
    with pytest.raises(ValueError, match=message):
        WeightAnchor('file.pth', **anchor)


def test_what_does_not_fit_the_model_is_refused_before_training(tmp_path, path):
    with pytest.raises(ValueError, match=r'max_depth=12 is outside this model; choose 0 to 5'):
        train(tmp_path / 'depth', path)
    with pytest.raises(ValueError, match=r'no trained parameter has a depth ≤ 2'):
        train(tmp_path / 'frozen', path, paramwise_cfg=dict(stage_lr_mult=[0.0, 1.0]), max_depth=2)
    with pytest.raises(CheckpointError, match='another shape'):
        train(tmp_path / 'wide', mae_file(tmp_path / 'wide.pth', width=32), model=grafted_mocov3(), max_depth=5)
    with pytest.raises(CheckpointError, match='does not exist'):
        train(tmp_path / 'none', 'nowhere.pth', model=grafted_mocov3(), max_depth=5)


def test_shards_that_it_cannot_read_are_refused(path):
    run = SimpleNamespace(model=MODELS.build(grafted_mocov3()), iter=0, hooks=[],
                          strategy=type('DeepSpeedStrategy', (), {})())
    with pytest.raises(ValueError, match='WeightAnchor needs full parameters, but DeepSpeedStrategy'):
        WeightAnchor(path).before_train(run)


def term_of(model, path):
    hook, run = WeightAnchor(path, max_depth=5), SimpleNamespace(model=model, iter=0)
    hook.before_train(run)
    term = hook.loss().item()
    hook.after_train(run)
    return term


def measure_in_shards(rank, path):
    distributed.init_process_group('gloo', init_method=f'file://{path}.meet', rank=rank, world_size=2)
    model = MODELS.build(grafted_mocov3())
    whole = term_of(model, path)
    assert term_of(shard_model(model), path) == pytest.approx(whole) != 0
    leave_group()


def test_in_shards_the_term_is_that_of_the_whole_weights(path):
    in_processes(measure_in_shards, path, processes=2)


def test_the_usual_anchor_is_that_of_the_authors_code():
    assert defaults(WeightAnchor) == {'checkpoint': None, 'weight': 1e-5, 'max_depth': 12, 'p': 1}
