import logging
import signal

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS

from mm_graft.engine.reliability.due_validation_hook import DueValidationHook
from mm_graft.engine.reliability.preemption_hook import PreemptionHook
from mm_graft.engine.reliability.run_folder import read_record
from tests.resumed_parts import LENGTH, StoppedError, run, state
from tests.tiny import PREPROCESSOR, classifier

VALIDATED = {
    'model': classifier() | {'data_preprocessor': PREPROCESSOR | {'type': 'ClsDataPreprocessor', 'num_classes': 2}},
    'train_dataloader.collate_fn': dict(type='default_collate'),
    'val_dataloader': dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                           dataset=dict(type='mmengine.Pictures', count=8), collate_fn=dict(type='default_collate')),
    'val_cfg': {}, 'val_evaluator': dict(type='mmengine.Norm'),
    'default_hooks.checkpoint.save_best': 'norm', 'default_hooks.checkpoint.rule': 'greater',
}


@METRICS.register_module()
class Norm(BaseMetric):
    """How often it was computed, so that each validation is the best yet."""

    computed = 0

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        type(self).computed += 1
        return {'norm': float(type(self).computed)}


class Leave(Hook):
    """Ends a run in the validation after an epoch: as a kill does, or on a signal."""

    def __init__(self, epoch, number=None):
        self.epoch, self.number = epoch, number

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == self.epoch and self.number is None:
            raise StoppedError
        if runner.epoch == self.epoch:
            signal.raise_signal(self.number)


class Seen(Hook):
    """Which epochs were validated, and what was trained before."""

    def __init__(self):
        self.validated, self.trained = [], 0

    def after_val_epoch(self, runner, metrics=None):
        self.validated.append((runner.epoch, self.trained))

    def after_train_iter(self, runner, **kwargs):
        self.trained += 1


def validate(folder, *hooks, resume=True, **changes):
    seen = Seen()
    runner, _ = run(folder, VALIDATED | changes, resume=resume, hooks=(*hooks, seen, DueValidationHook()))
    return runner, seen


def test_each_validation_that_ends_is_noted_and_none_is_repeated(tmp_path):
    _, seen = validate(tmp_path / 'run', resume=False)
    assert [epoch for epoch, _ in seen.validated] == [1, 2, 3, 4]
    assert read_record(tmp_path / 'run').validated == 4 * LENGTH
    assert validate(tmp_path / 'run')[1].validated == []


@pytest.mark.parametrize('number', [None, signal.SIGTERM], ids=['killed', 'stopped'])
@pytest.mark.parametrize('epoch', [2, 4])
def test_a_validation_that_did_not_end_is_made_before_the_run_goes_on(tmp_path, number, epoch):
    folder, before = tmp_path / 'run', signal.getsignal(signal.SIGTERM)
    if number is None:
        validate(folder, Leave(epoch), resume=False)
    else:
        with pytest.raises(SystemExit) as end:
            validate(folder, PreemptionHook(), Leave(epoch, number), resume=False)
        assert end.value.code == 0
        signal.signal(signal.SIGTERM, before)
    assert read_record(folder).validated == (epoch - 1) * LENGTH
    runner, seen = validate(folder)
    assert seen.validated == [(later, (later - epoch) * LENGTH) for later in range(epoch, 5)]
    assert read_record(folder).validated == 4 * LENGTH
    best, = folder.glob('best_*.pth')
    assert best.name == 'best_norm_epoch_4.pth'
    info = state(folder)['message_hub']['runtime_info']
    assert info['best_score'] == runner.message_hub.get_info('best_score')
    assert info['best_ckpt'] == str(best)


def test_what_is_validated_late_changes_no_bit_of_what_is_trained(tmp_path):
    validate(tmp_path / 'whole', resume=False)
    validate(tmp_path / 'run', Leave(2), resume=False)
    validate(tmp_path / 'run')
    left, right = (state(tmp_path / name)['state_dict'] for name in ('whole', 'run'))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(('changes', 'validated'), [
    ({'train_cfg.val_interval': 2}, []), ({'train_cfg.val_interval': 3}, [3]), ({'train_cfg.val_begin': 4}, []),
    ({'train_cfg.dynamic_intervals': [(3, 3)]}, [3]), ({'train_cfg.val_begin': 3}, [3])])
def test_only_a_validation_that_the_loop_makes_there_is_due(tmp_path, changes, validated):
    run(tmp_path / 'run', VALIDATED | {'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None})
    validated_at = [(epoch, 0) for epoch in validated]
    _, seen = validate(tmp_path / 'run', resume=str(tmp_path / 'run/epoch_3.pth'), **changes)
    assert seen.validated[:-1] == validated_at
    assert seen.validated[-1] == (4, LENGTH)


def test_nothing_is_due_in_the_middle_of_an_epoch_or_of_a_run_that_begins(tmp_path):
    run(tmp_path / 'run', VALIDATED, stop=LENGTH + 1, hooks=(DueValidationHook(),))
    assert [epoch for epoch, _ in validate(tmp_path / 'run')[1].validated] == [2, 3, 4]


def test_a_finished_run_says_so(tmp_path, monkeypatch):
    said = []
    validate(tmp_path / 'run', resume=False)
    monkeypatch.setattr(logging.Logger, 'info', lambda self, text, *args: said.append(str(text)))
    _, seen = validate(tmp_path / 'run')
    assert seen.trained == 0
    assert [line for line in said if 'the run is finished after 16 iterations; there is nothing to do' in line]
