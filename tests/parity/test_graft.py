"""Five grafted optimizer steps against the authors' numbers, through our constructor, schedule and EMA."""

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mm_graft.engine.schedulers.warmup_cosine import WarmupCosineLR
from tests.parity.builders import graft_model, graft_name, to_input
from tests.tiny import start_from

NORM_BIAS = 'base_encoder.norm.bias'


@pytest.fixture(scope='module')
def data(golden):
    with np.load(golden / 'graft_step.npz', allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture(scope='module')
def run(data, golden):
    """The five steps: the model, and what was seen at each."""
    torch.manual_seed(0)
    from mmengine.registry import init_default_scope
    init_default_scope('mmpretrain')
    model = start(data, golden)
    optim_wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper',
        constructor='mm_graft.GraftOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=float(data['lr_global_peak']), weight_decay=float(data['weight_decay']),
                       betas=tuple(data['adam_betas']), eps=float(data['adam_eps'])),
        paramwise_cfg=dict(stage_lr_mult=data['lr_layer_wise'].tolist())))
    per_epoch = int(data['sched_iters_per_epoch'])
    scheduler = WarmupCosineLR.build_iter_from_epoch(
        optim_wrapper, warmup=int(data['sched_warmup_epochs']), end=int(data['sched_epochs']), epoch_length=per_epoch)
    names = {parameter: name for name, parameter in model.named_parameters()}
    seen = {'loss': [], 'lr': [], 'decay': {}, 'grad': [], 'sum': [], 'l2': [], 'momentum': []}
    remember_parameters(model, seen)
    for step in range(len(data['loss'])):
        batch = step % per_epoch
        seen['momentum'].append(model.momentum_encoder.current_momentum(step))
        loss = model.loss([to_input(data['view1'][batch]), to_input(data['view2'][batch])])['loss']
        seen['keys'] = {name: tensor.clone() for name, tensor in model.state_dict().items()
                        if name.startswith('momentum_encoder.')}
        seen['lr'].append({names[p]: group['lr'] for group in optim_wrapper.optimizer.param_groups
                           for p in group['params']})
        optim_wrapper.update_params(loss)
        scheduler.step()
        seen['loss'].append(loss.item())
        remember_parameters(model, seen, seen['keys'])
    seen['decay'] = {names[p]: group['weight_decay'] for group in optim_wrapper.optimizer.param_groups
                     for p in group['params']}
    return model, seen


def start(data, golden):
    model = graft_model(data)
    model.momentum_encoder.momentum = float(data['moco_m'])
    model.momentum_encoder.max_iters = int(data['sched_epochs']) * int(data['sched_iters_per_epoch'])
    model.init_weights()
    start_from(model, str(golden / 'mae_tiny.pth'))
    state_dict = model.state_dict()
    for key in (key for key in data if key.startswith('init.')):
        name = key.removeprefix('init.')
        targets = [name] if name.startswith('predictor') else [f'{e}_encoder.{name}' for e in ('base', 'momentum')]
        for target in targets:
            state_dict[graft_name(target)].copy_(torch.from_numpy(data[key]))
    return model.double().train()


def remember_parameters(model, seen, keys=None):
    """Theirs moves the momentum encoder at the start of a step, ours at the end: theirs after a step made its keys."""
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    parameters |= {name: tensor for name, tensor in (keys or {}).items() if name in parameters}
    seen['sum'].append({name: parameter.sum().item() for name, parameter in parameters.items()})
    seen['l2'].append({name: parameter.norm().item() for name, parameter in parameters.items()})


def test_losses_equal_the_authors(run, data):
    np.testing.assert_allclose(run[1]['loss'], data['loss'], rtol=1e-8)


def test_momentum_equals_the_authors(run, data):
    np.testing.assert_allclose(run[1]['momentum'], data['momentum'], rtol=1e-12)


def test_learning_rates_and_decay_equal_the_authors(run, data):
    _, seen = run
    assert set(seen['decay']) == {graft_name(name) for name in data['trained_names']}
    for step, rates in enumerate(seen['lr']):
        for index, name in enumerate(data['trained_names']):
            assert rates[graft_name(name)] == pytest.approx(data['trained_lr'][step, index], rel=1e-12, abs=1e-18)
    for name, decay in zip(data['trained_names'], data['trained_weight_decay']):
        assert seen['decay'][graft_name(name)] == pytest.approx(decay, rel=1e-12)


def test_parameters_after_every_step_equal_the_authors(run, data):
    _, seen = run
    for step in range(len(data['param_l2'])):
        for index, name in enumerate(data['param_names']):
            if name == NORM_BIAS:
                continue
            norm = data['param_l2'][step, index]
            assert seen['l2'][step][graft_name(name)] == pytest.approx(norm, rel=1e-7), (step, name)
            scale = 1e-7 * max(norm, 1e-3) * 10
            assert seen['sum'][step][graft_name(name)] == pytest.approx(data['param_sum'][step, index], rel=1e-7,
                                                                        abs=scale), (step, name)


def test_tensors_after_the_last_step_equal_the_authors(run, data):
    state_dict = run[0].state_dict() | run[1]['keys']
    for key in (key for key in data if key.startswith('final.')):
        ours = state_dict[graft_name(key.removeprefix('final.'))].numpy()
        assert np.linalg.norm(ours - data[key]) <= 1e-7 * np.linalg.norm(data[key]), key


def test_class_feature_after_the_last_step_equals_the_authors(run, data):
    model = run[0].eval()
    with torch.no_grad():
        feature = model.extract_feat(to_input(data['view1'][0][:2]))[0]
    np.testing.assert_allclose(feature.numpy(), data['cls_feature_after'], atol=1e-6)
