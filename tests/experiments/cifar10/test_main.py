"""The bookkeeping of the experiment on CIFAR-10: rows, order, costs, resumption, report; nothing is trained."""

import argparse
import io
import json
import sys
import tarfile

import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from PIL import Image

from benchmarks.step import TrainingStep
from experiments import costs
from experiments.cifar10 import __main__ as tool
from experiments.cifar10 import prepare, report, reproduction, rows
from experiments.cifar10.rows import FROZEN, ROWS, Job
from experiments.cifar10.sizes import CONFIGS, FULL, as_options, overrides, read_config

GFLOPS = {'mae': 0.04, 'mocov3': 0.12, 'mae2mocov3': 0.12, 'mocov32mae_frozen': 0.03, 'joint': 0.16,
          'localmim': 0.05, 'localmim_freezeout': 0.04, 'conmim': 0.2}
SCORES = {'knn': 30.0, 'linear': 40.0, 'fewshot-1': 20.0}


def given_gflops(label, cfg, options, cache):
    return 0.06 if tuple(options) == FROZEN else GFLOPS[label.split()[0]]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The experiment in its small size, with given costs instead of counted ones."""
    monkeypatch.setattr(reproduction, 'gflops_per_image', given_gflops)
    return reproduction.Reproduction('cpu', tmp_path / 'runs')


def finish(run, row, seed=0, **scores):
    """Leave what a finished job leaves."""
    job = Job(row, seed)
    folder = run.folder(job)
    folder.mkdir(parents=True)
    epochs = run.costs.epochs(row)
    (folder / f'epoch_{epochs}.pth').touch()
    (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{epochs}.pth'))
    (folder / 'seconds.txt').write_text('60.0')
    (folder / 'commit.txt').write_text('abc1234')
    for path, *_ in run.evaluations(job):
        path.write_text(json.dumps({**SCORES, **scores}))


def test_every_row_has_a_config_and_stands_after_what_it_starts_from():
    names = list(ROWS)
    for name, row in ROWS.items():
        assert (CONFIGS / f'{row.config}.py').is_file()
        assert row.below is None or names.index(row.below) < names.index(name)
        hooks = Config.fromfile(CONFIGS / f'{row.config}.py').get('default_hooks') or {}
        assert (row.below is None) == ('init' not in hooks)


@pytest.mark.parametrize(('scale', 'name'), [
    *(('full', name) for name in FULL), ('long', 'mae'), ('long', 'mae2mocov3')])
def test_every_override_of_a_larger_size_changes_a_value_that_the_config_has(scale, name):
    small, full = read_config(name, 'cpu'), read_config(name, scale)
    for key, value in overrides(name, scale).items():
        old, new = small, full
        for part in key.split('.'):
            assert part in old, key
            old, new = old[part], new[part]
        assert new == value
        assert old != new, key


def test_the_full_size_is_consistent_and_can_be_given_on_the_command_line():
    assert set(FULL) == {path.stem for path in CONFIGS.glob('*.py')}
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    for name, changes in FULL.items():
        cfg = read_config(name, 'full')
        given = read_config(name, 'cpu')
        given.merge_from_dict(parser.parse_args(['--cfg-options', *as_options(changes)]).cfg_options)
        assert given.to_dict() == cfg.to_dict()
        assert torch.isfinite(TrainingStep(cfg, 2).loss_of(2)), name


def test_all_rows_come_with_the_first_seed_then_the_repeated_ones_with_the_others():
    jobs = tool.plan(list(ROWS), [0, 1, 2])
    assert [job.row for job in jobs[:len(ROWS)]] == list(ROWS)
    assert {job.seed for job in jobs[:len(ROWS)]} == {0}
    later = {job.row for job in jobs[len(ROWS):]}
    assert set(rows.EQUAL_IMAGES) <= later
    assert 'conmim' not in later
    assert [job.row for job in tool.plan(['mae2mocov3'], [0])] == ['mae-half', 'mae2mocov3']
    with pytest.raises(ValueError, match='nonsense'):
        tool.plan(['nonsense'], [0])


def test_rows_at_equal_images_see_as_many_and_those_at_equal_flops_cost_as_much(run):
    counted = run.costs
    seen = {row: sum(counted.epochs(step) for step in rows.needed(row)) for row in rows.EQUAL_IMAGES}
    assert set(seen.values()) == {counted.epochs('mocov3')}
    assert counted.epochs('mae-flops') == 3 * counted.epochs('mae')
    for row in rows.EQUAL_FLOPS:
        assert counted.tflops(row) == pytest.approx(counted.tflops('mocov3'), rel=0.15), row


def test_a_job_is_done_when_its_last_epoch_and_all_of_its_evaluations_are_there(run):
    job = Job('localmim', 0)
    assert not run.is_done(job)
    finish(run, 'localmim')
    assert run.is_done(job)
    reports = [path for path, *_ in run.evaluations(job)]
    assert len(reports) == 1 + len(ROWS['localmim'].stops)
    reports[0].unlink()
    assert run.is_trained(job)
    assert not run.is_done(job)
    (run.folder(job) / 'last_checkpoint').write_text('epoch_1.pth')
    assert not run.is_trained(job)


def test_only_what_is_missing_is_trained_and_the_lower_encoder_is_that_of_the_same_seed(run, monkeypatch):
    trained = []

    def record(command, log, title, max_epochs, deadline):
        trained.append(command)

    monkeypatch.setattr(reproduction, 'run_training', record)
    monkeypatch.setattr(run, 'evaluate', lambda job: None)
    finish(run, 'mae-half', seed=1)
    tool.do_jobs(run, tool.plan(['mae2mocov3'], [1]))
    assert len(trained) == 1
    lower = run.folder(Job('mae-half', 1)) / f'epoch_{run.costs.epochs("mae-half")}.pth'
    assert f'default_hooks.init.checkpoint={lower}' in trained[0]
    assert f'train_cfg.max_epochs={run.costs.epochs("mae2mocov3")}' in trained[0]
    assert 'randomness.seed=1' in trained[0]
    assert (run.folder(Job('mae2mocov3', 1)) / 'seconds.txt').is_file()
    assert (run.folder(Job('mae2mocov3', 1)) / 'commit.txt').read_text() == run.commit


def test_the_report_takes_its_numbers_from_the_runs_and_leaves_the_prose(run, tmp_path):
    for seed, knn in enumerate((30.0, 32.0)):
        finish(run, 'mae2mocov3', seed, knn=knn)
    finish(run, 'mae')
    finish(run, 'localmim')
    finish(run, 'random')
    docs = tmp_path / 'docs'
    docs.mkdir()
    results = tool.write_results(run, docs)
    tool.write_report(results, docs)
    text = (docs / 'results' / 'cifar10_cpu.md').read_text()
    assert '## LocalMIM' in text
    assert '## ConMIM' not in text  # none of its rows was run
    assert '| graft | 30k | ' in text
    assert '| 2 | 31.0 ± 1.4 | 40.0 ± 0.0 | 20.0 ± 0.0 | – | – |' in text
    assert 'stopped after 2 of 6 epochs' in report.local_table(results)
    assert json.loads((docs / 'results' / 'cifar10_cpu.json').read_text()) == results
    assert 'Commit abc1234;' in report.run_facts(results)
    folder = docs / 'results' / 'cifar10_cpu'
    assert Image.open(folder / 'compute.png').format == 'PNG'
    assert not (folder / 'methods.png').exists()  # rows are missing


def test_page_and_overview_are_made_again_of_the_results_alone(run, tmp_path, monkeypatch):
    for row in ('mae-ten', 'graft-ten'):
        finish(run, row)
    docs = tmp_path / 'docs'
    docs.mkdir()
    (docs / 'results.md').write_text('before\n<!-- cifar10-cpu -->\n<!-- /cifar10-cpu -->\nafter\n')
    tool.write_results(run, docs)
    monkeypatch.chdir(tmp_path)  # no images and no runs here
    monkeypatch.setattr(sys, 'argv', ['cifar10', '--scale', 'cpu', '--docs', 'docs', '--report-only'])
    tool.main()
    line = '| graft on MAE ten times as long | 330k |'
    assert line in (docs / 'results' / 'cifar10_cpu.md').read_text()
    text = (docs / 'results.md').read_text()
    assert line in text
    assert text.startswith('before\n')
    assert text.endswith('after\n')


def test_smaller_sizes_train_the_rows_on_a_long_mae_and_tune_none(monkeypatch):
    for scale, expected, tuned in (('full', ROWS, tool.TUNED), ('long', rows.LONG, ()), ('cpu', rows.LONG, ())):
        monkeypatch.setattr(sys, 'argv', ['cifar10', '--scale', scale])
        args = tool.parse_args()
        assert (args.rows, args.tuned) == (list(expected), list(tuned))


def test_the_picture_of_the_methods_has_all_of_them(run, tmp_path):
    for row in rows.EQUAL_IMAGES:
        finish(run, row)
    tool.write_report(tool.write_results(run, tmp_path), tmp_path)
    assert Image.open(tmp_path / 'results' / 'cifar10_cpu' / 'methods.png').format == 'PNG'


def test_only_trained_encoders_are_analyzed(run, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(tool.training, 'run', lambda command, **_: started.append(list(map(str, command))))
    finish(run, 'joint')
    for row in ('mae', 'mocov3'):
        finish(run, row)
    tool.analyze(run, tmp_path, 'cpu')
    assert [command[2] for command in started] == ['conflict']
    assert started[0][4].endswith(f'joint/seed0/epoch_{run.costs.epochs("joint")}.pth')
    finish(run, 'mae2mocov3')
    (run.folder(Job('joint', 0)) / 'last_checkpoint').write_text('epoch_1.pth')
    started.clear()
    tool.analyze(run, tmp_path, 'cpu')
    assert [command[2] for command in started] == ['attention-distance']
    assert started[0].count('--also') == 2


def test_an_unfinished_job_is_not_reported(run, tmp_path):
    finish(run, 'mae')
    next(run.folder(Job('mae', 0)).glob('epoch*-avg.json')).unlink()
    assert tool.write_results(run, tmp_path)['rows'] == {}


def test_freezing_makes_a_run_cheaper_and_the_whole_schedule_is_counted():
    plain, frozen = (read_config(name, 'cpu') for name in ('localmim', 'localmim_freezeout'))
    whole = costs.gflops_of_run(plain)
    assert whole == pytest.approx(costs.gflops_of_step(plain))
    assert 0.5 * whole < costs.gflops_of_run(frozen) < 0.95 * whole


def test_the_binary_archive_becomes_a_folder_for_each_class(tmp_path, monkeypatch, capsys):
    record = np.zeros((2, prepare.RECORD), np.uint8)
    record[0, 0], record[1, 0] = 3, 9
    record[:, 1:1 + 1024] = 200  # red comes first
    with tarfile.open(tmp_path / 'cifar.tar.gz', 'w:gz') as tar:
        for name in ('cifar-10-batches-bin/data_batch_1.bin', 'cifar-10-batches-bin/test_batch.bin'):
            info = tarfile.TarInfo(name)
            info.size = record.nbytes
            tar.addfile(info, io.BytesIO(record.tobytes()))
    monkeypatch.setattr(sys, 'argv', ['prepare.py', str(tmp_path / 'cifar.tar.gz'), '--out', str(tmp_path)])
    prepare.main()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob('*.png')) == [
        'test/cat/0000.png', 'test/truck/0000.png', 'train/cat/0000.png', 'train/truck/0000.png']
    assert Image.open(tmp_path / 'train/cat/0000.png').getpixel((5, 5)) == (200, 0, 0)
    assert len((tmp_path / 'meta/train_5000.txt').read_text().splitlines()) == 2
    assert 'train: 2 images' in capsys.readouterr().out


def test_an_archive_that_is_none_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / 'notatar.tar.gz').write_text('no archive')
    monkeypatch.setattr(sys, 'argv', ['prepare', str(tmp_path / 'notatar.tar.gz'), '--out', str(tmp_path)])
    with pytest.raises(SystemExit):
        prepare.main()
    assert 'notatar.tar.gz is not a complete tar archive' in capsys.readouterr().err
