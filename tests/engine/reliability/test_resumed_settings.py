from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook, Hook

from mm_graft.checkpoints.recorded_config import Change
from mm_graft.engine.reliability.resumed_settings import settle_hub, settle_place
from mm_graft.engine.schedulers.warmup_cosine import warmup_cosine
from tests.resumed_parts import LENGTH, groups, run, state
from tests.tiny import grafted_mocov3, mae

COSINE = [dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
          dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=4, convert_to_iter_based=True)]


@pytest.fixture(scope='module')
def begun(tmp_path_factory):
    """A run that was stopped in its third epoch."""
    folder = tmp_path_factory.mktemp('begun') / 'run'
    run(folder, stop=2 * LENGTH + 2)
    return folder


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole') / 'run'
    run(folder)
    return folder


def test_an_unchanged_run_goes_on_with_the_same_bits_and_says_nothing(begun, whole, tmp_path):
    _, said = run(tmp_path / 'on', resume=str(begun / 'stopped.pth'))
    assert [line for line in said if 'changed' in line] == []
    left, right = state(whole), state(tmp_path / 'on')
    assert all(torch.equal(left['state_dict'][name], right['state_dict'][name]) for name in left['state_dict'])
    assert groups(whole) == groups(tmp_path / 'on')
    assert left['param_schedulers'] == right['param_schedulers']


CHANGES = {
    'longer': {'train_cfg.max_epochs': 8},
    'shorter': {'train_cfg.max_epochs': 3},
    'rate': {'optim_wrapper.optimizer.lr': 0.5},
    'decay': {'optim_wrapper.optimizer.weight_decay': 0.3},
    'betas': {'optim_wrapper.optimizer.betas': (0.5, 0.9)},
    'stages': {'optim_wrapper.paramwise_cfg.stage_lr_mult': [0.5, 1.0]},
    'more stages': {'optim_wrapper.paramwise_cfg.stage_lr_mult': [0.1, 0.2, 0.4, 1.0]},
    'frozen stage': {'optim_wrapper.paramwise_cfg.stage_lr_mult': [0, 1.0]},
    'warm-up': {'param_scheduler.warmup': 2},
    'floor': {'param_scheduler.min_ratio': 0.5},
    'the host\'s': {'param_scheduler': COSINE},
    'no schedule': {'param_scheduler': None},
    'own keys': {'optim_wrapper.paramwise_cfg.custom_keys': dict(backbone=dict(lr_mult=2), neck=dict(decay_mult=0))},
    'host\'s groups': {'optim_wrapper.constructor': 'DefaultOptimWrapperConstructor',
                       'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0.0)},
}


@pytest.mark.parametrize('name', CHANGES)
def test_what_is_changed_holds_from_then_on_as_if_it_had_always_been_so(begun, tmp_path, name):
    """Groups and schedules are those that a new run with these settings has at the same place."""
    changes = CHANGES[name]
    _, said = run(tmp_path / 'on', changes, resume=str(begun / 'stopped.pth'))
    run(tmp_path / 'new', changes)
    for epoch in range(3, 1 + changes.get('train_cfg.max_epochs', 4)):
        file = f'epoch_{epoch}.pth'
        assert groups(tmp_path / 'on', file) == groups(tmp_path / 'new', file)
        left, right = (state(tmp_path / run, file).get('param_schedulers') for run in ('on', 'new'))
        assert left == right
    key = next(iter(changes))
    assert [line for line in said if line.startswith('resumed with changed ') and key in line]


def test_a_longer_run_has_the_rate_of_its_own_length(whole, tmp_path):
    run(tmp_path / 'on', {'train_cfg.max_epochs': 8}, resume=str(whole / 'epoch_4.pth'))
    rates = {group['lr_mult']: group['lr'] for group in groups(tmp_path / 'on', 'epoch_6.pth')}
    expected = warmup_cosine(6 * LENGTH, LENGTH, 8 * LENGTH)
    assert rates == pytest.approx({0.1: 1e-3 * expected, 1.0: 1e-2 * expected})
    assert 0.15 < expected < 0.2


def test_moments_stay_with_their_parameters(begun, tmp_path):
    before = state(begun, 'stopped.pth')

    class Look(Hook):

        def before_train(self, runner):
            names = {id(parameter): name for name, parameter in runner.model.named_parameters()}
            self.moments = {names[id(parameter)]: moment['exp_avg'].clone() for parameter, moment in
                            runner.optim_wrapper.optimizer.state.items()}

    look = Look()
    run(tmp_path / 'on', CHANGES['more stages'], resume=str(begun / 'stopped.pth'), hooks=(look,))
    saved = {name: before['optimizer']['state'][index]['exp_avg'] for group in before['optimizer']['param_groups']
             for name, index in zip(group['param_names'], group['params'])}
    assert look.moments.keys() == saved.keys()
    assert all(torch.equal(look.moments[name], saved[name]) for name in saved)


REFUSED = {
    'method': ({'model': grafted_mocov3()}, r"changed model\.type: 'MAE' → 'mm_graft\.GraftedMoCoV3'; resume with"),
    'optimizer': ({'optim_wrapper.optimizer': dict(type='SGD', lr=0.1)},
                  r"changed optim_wrapper\.optimizer\.type: 'AdamW' → 'SGD'"),
    'loop': ({'train_cfg': dict(type='IterBasedTrainLoop', max_iters=20), 'param_scheduler': None},
             r"changed train_cfg\.type: 'EpochBasedTrainLoop' → 'IterBasedTrainLoop'"),
    'width': ({'model': mae() | {'neck': mae()['neck'] | {'decoder_embed_dim': 16}}},
              r'of another model: neck\.\S+ has the shape \(.*\), here \(.*more; resume with the config'),
    'depth': ({'model': mae() | {'neck': mae()['neck'] | {'decoder_depth': 2}}},
              r'neck\.decoder_blocks\.1\.\S+ is not in it'),
    'seed': ({'randomness.seed': 1}, r'middle of an epoch.*randomness\.seed: 0 → 1.*from the end of an epoch'),
    'batch': ({'train_dataloader.batch_size': 2}, r'middle of an epoch.*iterations of an epoch: 4 → 8'),
    'order': ({'train_dataloader.sampler.shuffle': False}, r'middle of an epoch.*sampler\.shuffle: True → False'),
    'order\'s seed': ({'train_dataloader.sampler.seed': 5}, r'middle of an epoch.*sampler\.seed: not set → 5'),
    'images': ({'train_dataloader.dataset.count': 20}, r'middle of an epoch.*iterations of an epoch: 4 → 5'),
    'too short': ({'train_cfg.max_epochs': 2}, r'has finished 10 iterations, but the length of the run is now 8'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_go_on_is_refused_with_both_values_and_the_way_out(begun, tmp_path, name):
    changes, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        run(tmp_path / 'on', changes, resume=str(begun / 'stopped.pth'))


def test_a_run_of_iterations_that_cannot_go_on_is_not_sent_to_the_end_of_an_epoch():
    runner = SimpleNamespace(train_loop=None, _randomness_cfg={})
    checkpoint = {'meta': {'seed': 0, 'iter': 5}, 'message_hub': {'runtime_info': {}}}
    change = Change('train_dataloader.sampler.shuffle', True, False)
    with pytest.raises(ValueError, match=r'from a run of iterations and .*shuffle.*start a new run'):
        settle_place(runner, checkpoint, 'x.pth', [change])


def test_after_an_epoch_another_batch_counts_in_its_own_iterations(whole, tmp_path):
    changes = {'train_dataloader.batch_size': 2}
    runner, said = run(tmp_path / 'on', changes, resume=str(whole / 'epoch_2.pth'))
    run(tmp_path / 'new', changes)
    assert runner.iter == runner.max_iters == 4 * 2 * LENGTH
    assert groups(tmp_path / 'on') == groups(tmp_path / 'new')
    assert state(tmp_path / 'on', 'epoch_3.pth')['meta']['iter'] == 3 * 2 * LENGTH
    assert 'resumed with changed iterations of an epoch: 4 → 8' in said
    assert 'resumed with changed train_dataloader.batch_size: 4 → 2' in said


def test_after_an_epoch_another_seed_holds_and_is_named(whole, tmp_path):
    runner, said = run(tmp_path / 'on', {'randomness.seed': 1}, resume=str(whole / 'epoch_2.pth'))
    assert runner.seed == state(tmp_path / 'on')['meta']['seed'] == 1
    assert 'resumed with changed randomness.seed: 0 → 1' in said
    left, right = state(whole)['state_dict'], state(tmp_path / 'on')['state_dict']
    assert not torch.equal(left['backbone.cls_token'], right['backbone.cls_token'])
    assert runner.message_hub.get_info('place_in_data')['sampler_seed'] == 1


def test_a_finished_run_has_no_place_for_other_settings(whole, tmp_path):
    with pytest.raises(ValueError, match=r'end of a finished run of 4 epochs.*optimizer\.lr: 0\.01 → 0\.5.*longer'):
        run(tmp_path / 'on', {'optim_wrapper.optimizer.lr': 0.5}, resume=str(whole / 'epoch_4.pth'))
    with pytest.raises(ValueError, match=r'has finished 4 epochs, but train_cfg\.max_epochs is now 3'):
        run(tmp_path / 'on', {'train_cfg.max_epochs': 3}, resume=str(whole / 'epoch_4.pth'))
    runner, _ = run(tmp_path / 'on', {'train_dataloader.num_workers': 1}, resume=str(whole / 'epoch_4.pth'))
    assert runner.iter == 4 * LENGTH


def test_a_file_of_weights_alone_is_no_place_to_go_on_from(whole, tmp_path):
    content = state(whole)
    for part in ('optimizer', 'message_hub', 'meta'):
        torch.save({name: value for name, value in content.items() if name != part}, tmp_path / f'{part}.pth')
        with pytest.raises(ValueError, match=rf'no state of a training \({part} is missing\).*load_from instead'):
            run(tmp_path / 'on', resume=str(tmp_path / f'{part}.pth'))


def test_a_run_that_averages_no_longer_goes_on_from_what_was_trained(tmp_path):
    run(tmp_path / 'run', hooks=(EMAHook(momentum=0.5),))
    saved = state(tmp_path / 'run', 'epoch_3.pth')
    name = 'backbone.cls_token'
    _, said = run(tmp_path / 'on', resume=str(tmp_path / 'run/epoch_3.pth'), stop=13)
    run(tmp_path / 'plain')
    assert not torch.equal(saved['state_dict'][name], saved['ema_state_dict'][f'module.{name}'])
    assert torch.equal(state(tmp_path / 'plain', 'epoch_3.pth')['state_dict'][name],
                       saved['ema_state_dict'][f'module.{name}'])
    assert [line for line in said if 'continuing from the trained weights' in line]


def test_without_a_record_of_the_config_the_rest_is_compared(whole, tmp_path):
    content = state(whole, 'epoch_2.pth')
    content['meta']['cfg'] = '('
    torch.save(content, tmp_path / 'old.pth')
    _, said = run(tmp_path / 'on', CHANGES['rate'], resume=str(tmp_path / 'old.pth'))
    assert [line for line in said if 'does not say with which settings' in line]
    assert 'resumed with changed initial_lr of the optimizer: 0.001 → 0.05' in said


def test_after_an_epoch_another_seed_of_the_sampler_holds(whole, tmp_path):
    runner, said = run(tmp_path / 'on', {'train_dataloader.sampler.seed': 5}, resume=str(whole / 'epoch_2.pth'))
    assert runner.train_dataloader.sampler.seed == 5
    assert 'resumed with changed train_dataloader.sampler.seed: not set → 5' in said


@pytest.mark.parametrize(('key', 'value'), [
    ('default_hooks.init', dict(type='mm_graft.LoadBackboneHook', checkpoint='new.pth')),
    ('model.backbone.init_cfg', dict(type='Kaiming', layer='Linear'))])
def test_settings_of_the_start_are_not_said_to_hold(whole, tmp_path, key, value):
    _, said = run(tmp_path / 'on', {key: value}, resume=str(whole / 'epoch_2.pth'))
    line, = [line for line in said if 'changed' in line]
    assert line.startswith(f'changed {key}')
    assert line.endswith('it has no effect, as a resumed run has the weights of its checkpoint')


@pytest.mark.parametrize('where', ['same folder', 'moved or copied', 'another folder', 'gone'])
def test_the_best_file_of_another_folder_is_never_taken_for_the_runs_own(tmp_path, where):
    for folder in ('here', 'there'):
        (tmp_path / folder).mkdir()
        for name in ('best.pth', 'epoch_1.pth'):
            (tmp_path / folder / name).touch()
    if where == 'gone':
        (tmp_path / 'here' / 'best.pth').unlink()
    recorded = str(tmp_path / ('here' if where == 'same folder' else 'there') / 'best.pth')
    info = {'best_ckpt': recorded, 'best_ckpt_a': recorded, 'best_score': 1., 'keep_ckpt_ids': [1], 'iter': 3}
    runner = SimpleNamespace(message_hub=SimpleNamespace(runtime_info={}), logger=None)
    settle_hub(runner, {'message_hub': {'runtime_info': info}}, [],
               None if where == 'another folder' else str(tmp_path / 'here'))
    own = str(tmp_path / 'here' / 'best.pth')
    files = {} if where in ('another folder', 'gone') else {'best_ckpt': own, 'best_ckpt_a': own}
    kept = {} if where == 'another folder' else {'keep_ckpt_ids': [1]}
    assert info == {'best_score': 1., 'iter': 3, **files, **kept}
