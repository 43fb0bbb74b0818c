"""What a sweep starts, and what it reads of a run that is complete or not."""

import argparse
import json
import subprocess
import sys

import pytest

from experiments import sweep


@pytest.fixture
def args():
    """What a call takes, with the options that are given."""
    parser = argparse.ArgumentParser()
    sweep.add_arguments(parser)
    return lambda *words: parser.parse_args(words)


def log(folder, *lines, start='1'):
    place = folder / start / 'vis_data'
    place.mkdir(parents=True)
    (place / 'scalars.json').write_text('\n'.join(json.dumps(line) for line in lines))


def test_only_the_last_epoch_is_a_score_and_not_a_better_one_before(tmp_path):
    assert sweep.final_top1(tmp_path, 3) is None
    log(tmp_path, {'loss': 1.0, 'step': 3}, {'accuracy/top1': 50.0, 'step': 2})
    assert sweep.final_top1(tmp_path, 3) is None
    log(tmp_path, {'accuracy/top1': 40.0, 'step': 3}, start='2')
    assert sweep.final_top1(tmp_path, 3) == 40.0


def test_an_evaluation_counts_once_its_report_is_there(tmp_path):
    assert sweep.reported_top1(tmp_path, 'knn') is None
    (tmp_path / 'report.json').write_text('{"protocols": {"knn": {"top1": 12.5}}}')
    assert sweep.reported_top1(tmp_path, 'knn') == 12.5


def test_overrides_reach_every_command_as_they_were_written(args, tmp_path):
    given = args('--cfg-options', 'max_epochs=2', 'name=[0,1]')
    assert sweep.overrides_of(given.cfg_options) == ['max_epochs=2', 'name=[0,1]']
    evaluate = sweep.evaluate_command(given, 'c.py', 'knn', tmp_path)
    assert evaluate[-3:] == ['--cfg-options', 'max_epochs=2', 'name=[0,1]']
    assert '--cfg-options' not in sweep.train_command(args(), 'c.py', tmp_path, [])


def test_a_training_starts_from_the_given_weights_and_resumes(args, tmp_path):
    command = sweep.train_command(args('--auto-scale-lr'), 'c.py', tmp_path, ['a=1'], 'mae.pth')
    assert command[2:] == ['c.py', '--auto-scale-lr', '--init', 'mae.pth', '--work-dir', str(tmp_path), '--resume',
                           '--cfg-options', 'a=1']


def test_a_command_takes_the_checkpoint_of_the_training_before_and_its_failure_is_an_error(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('some/epoch_2.pth')
    check = 'import sys; sys.exit(sys.argv[1:] != ["some/epoch_2.pth"])'
    sweep.run([sys.executable, '-c', check, sweep.CHECKPOINT], tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        sweep.run([sys.executable, '-c', check, 'other'], tmp_path)


def test_a_config_that_counts_iterations_is_refused():
    assert sweep.epochs_of('eval/finetune_vit-b') == 100
    with pytest.raises(ValueError, match='trains for epochs'):
        sweep.epochs_of('segmentation/vit-base-p16_upernet_8xb2-amp-160k_ade20k')
