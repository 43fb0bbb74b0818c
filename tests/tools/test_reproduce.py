"""The bookkeeping of the experiment on CIFAR-10: rows, order, costs, resumption, report; nothing is trained."""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
MODULES = ('reproduce', 'reproduce_rows', 'reproduce_costs', 'reproduce_evaluate', 'reproduce_report', 'demo_report',
           'training_log', 'prepare_cifar10', 'nvml_check')
GFLOPS = {'mae': 0.04, 'mocov3': 0.12, 'mae2mocov3': 0.12, 'mae2mocov3_frozen': 0.06, 'mocov32mae_frozen': 0.03,
          'joint': 0.16, 'localmim': 0.05, 'localmim_freezeout': 0.04, 'conmim': 0.2}
SCORES = {'knn': 30.0, 'linear': 40.0, 'fewshot-1': 20.0}


@pytest.fixture
def tools(monkeypatch):
    """The modules of the experiment, with canned costs."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import reproduce
    monkeypatch.setattr(reproduce, 'gflops_per_image', lambda name, *_, **__: GFLOPS[reproduce.ROWS[name].config])
    yield reproduce
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def run(tools, tmp_path):
    return tools.Reproduction('cpu', tmp_path / 'runs')


def finish(run, tools, row, seed=0, **scores):
    """Leave what a finished job leaves."""
    job = tools.Job(row, seed)
    folder = run.folder(job)
    folder.mkdir(parents=True)
    epochs = run.costs.epochs(row)
    (folder / f'epoch_{epochs}.pth').touch()
    (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{epochs}.pth'))
    (folder / 'seconds.txt').write_text('60.0')
    (folder / 'commit.txt').write_text('abc1234')
    for path, *_ in run.evaluations(job):
        path.write_text(json.dumps({**SCORES, **scores}))


def test_gpus_are_looked_for_before_anything_can_wake_the_driver():
    lines = (ROOT / 'tools' / 'reproduce.py').read_text().splitlines()
    imports = [line.split()[1] for line in lines if line.startswith(('import ', 'from '))]
    assert imports.index('nvml_check') < min(imports.index(name) for name in ('torch', 'mmengine.logging', 'tqdm'))


def test_every_row_has_a_config_and_stands_after_what_it_starts_from(tools):
    names = list(tools.ROWS)
    for name, row in tools.ROWS.items():
        assert (ROOT / 'configs' / 'cifar10' / f'{row.config}.py').is_file()
        assert row.below is None or names.index(row.below) < names.index(name)
        assert (row.below is None) == (row.config not in tools.STARTS)


def test_all_rows_come_with_the_first_seed_then_the_repeated_ones_with_the_others(tools):
    jobs = tools.plan(list(tools.ROWS), [0, 1, 2])
    assert [job.row for job in jobs[:len(tools.ROWS)]] == list(tools.ROWS)
    assert {job.seed for job in jobs[:len(tools.ROWS)]} == {0}
    later = {job.row for job in jobs[len(tools.ROWS):]}
    assert set(tools.EQUAL_IMAGES) <= later
    assert 'conmim' not in later
    assert [job.row for job in tools.plan(['mae2mocov3'], [0])] == ['mae-half', 'mae2mocov3']
    with pytest.raises(ValueError, match='nonsense'):
        tools.plan(['nonsense'], [0])


def test_rows_at_equal_images_see_as_many_and_those_at_equal_flops_cost_as_much(run):
    import reproduce_rows
    costs = run.costs
    seen = {row: sum(costs.epochs(step) for step in reproduce_rows.needed(row)) for row in reproduce_rows.EQUAL_IMAGES}
    assert set(seen.values()) == {costs.epochs('mocov3')}
    assert costs.epochs('mae-flops') == 3 * costs.epochs('mae')
    for row in reproduce_rows.EQUAL_FLOPS:
        assert costs.tflops(row) == pytest.approx(costs.tflops('mocov3'), rel=0.15), row


def test_a_job_is_done_when_its_last_epoch_and_all_of_its_evaluations_are_there(run, tools):
    job = tools.Job('localmim', 0)
    assert not run.is_done(job)
    finish(run, tools, 'localmim')
    assert run.is_done(job)
    reports = [path for path, *_ in run.evaluations(job)]
    assert len(reports) == 1 + len(tools.ROWS['localmim'].stops)
    reports[0].unlink()
    assert run.is_trained(job)
    assert not run.is_done(job)
    (run.folder(job) / 'last_checkpoint').write_text('epoch_1.pth')
    assert not run.is_trained(job)


def test_only_what_is_missing_is_trained_and_the_lower_encoder_is_that_of_the_same_seed(run, tools, monkeypatch):
    trained = []

    def record(call, log, title, max_epochs, deadline):
        trained.append(call.args[0])

    monkeypatch.setattr(tools, 'run_forked', record)
    monkeypatch.setattr(run, 'evaluate', lambda job: None)
    finish(run, tools, 'mae-half', seed=1)
    tools.do_jobs(run, tools.plan(['mae2mocov3'], [1]))
    assert len(trained) == 1
    lower = run.folder(tools.Job('mae-half', 1)) / f'epoch_{run.costs.epochs("mae-half")}.pth'
    assert f'model.mim_checkpoint={lower}' in trained[0]
    assert f'train_cfg.max_epochs={run.costs.epochs("mae2mocov3")}' in trained[0]
    assert 'randomness.seed=1' in trained[0]
    assert (run.folder(tools.Job('mae2mocov3', 1)) / 'seconds.txt').is_file()
    assert (run.folder(tools.Job('mae2mocov3', 1)) / 'commit.txt').read_text() == run.commit


def test_the_report_takes_its_numbers_from_the_runs_and_leaves_the_prose(run, tools, tmp_path):
    import reproduce_report
    for seed, knn in enumerate((30.0, 32.0)):
        finish(run, tools, 'mae2mocov3', seed, knn=knn)
    finish(run, tools, 'localmim')
    finish(run, tools, 'random')
    docs = tmp_path / 'docs'
    docs.mkdir()
    (docs / 'results.md').write_text('before\n<!-- cpu-images -->\nold\n<!-- /cpu-images -->\nafter\n')
    results = tools.write_results(run, docs)
    tools.write_report(results, docs)
    text = (docs / 'results.md').read_text()
    assert text.startswith('before\n')
    assert text.endswith('after\n')
    assert 'old' not in text
    assert '| graft | 30k | ' in text
    assert '| 2 | 31.0 ± 1.4 | 40.0 ± 0.0 | 20.0 ± 0.0 | – | – |' in text
    assert 'stopped after 2 of 6 epochs' in reproduce_report.local_table(results)
    assert json.loads((docs / 'results' / 'cifar10_cpu.json').read_text()) == results
    assert 'Commit abc1234;' in reproduce_report.run_facts(results)
    for name in ('methods', 'compute'):
        assert Image.open(docs / 'results' / 'cifar10_cpu' / f'{name}.png').format == 'PNG'


def test_only_trained_encoders_are_analysed(run, tools, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(tools.subprocess, 'run', lambda command, **_: started.append(list(map(str, command))))
    finish(run, tools, 'joint')
    for row in ('mae', 'mocov3'):
        finish(run, tools, row)
    tools.analyse(run, tmp_path, 'cpu')
    assert [command[2] for command in started] == ['conflict']
    assert started[0][4].endswith(f'joint/seed0/epoch_{run.costs.epochs("joint")}.pth')
    finish(run, tools, 'mae2mocov3')
    (run.folder(tools.Job('joint', 0)) / 'last_checkpoint').write_text('epoch_1.pth')
    started.clear()
    tools.analyse(run, tmp_path, 'cpu')
    assert [command[2] for command in started] == ['attention-distance']
    assert started[0].count('--also') == 2


def test_an_unfinished_job_is_not_reported(run, tools, tmp_path):
    finish(run, tools, 'mae')
    next(run.folder(tools.Job('mae', 0)).glob('epoch*-avg.json')).unlink()
    assert tools.write_results(run, tmp_path)['rows'] == {}


def test_freezing_makes_a_run_cheaper_and_the_whole_schedule_is_counted(tools):
    import reproduce_costs
    import reproduce_rows
    plain, frozen = (reproduce_rows.read_config(name, 'cpu') for name in ('localmim', 'localmim_freezeout'))
    whole = reproduce_costs.gflops_of_run(plain)
    assert whole == pytest.approx(reproduce_costs.gflops_of_step(plain))
    assert 0.5 * whole < reproduce_costs.gflops_of_run(frozen) < 0.95 * whole


def test_the_binary_archive_becomes_a_folder_for_each_class(tools, tmp_path, monkeypatch, capsys):
    import prepare_cifar10
    record = np.zeros((2, prepare_cifar10.RECORD), np.uint8)
    record[0, 0], record[1, 0] = 3, 9
    record[:, 1:1 + 1024] = 200  # red comes first
    with tarfile.open(tmp_path / 'cifar.tar.gz', 'w:gz') as tar:
        for name in ('cifar-10-batches-bin/data_batch_1.bin', 'cifar-10-batches-bin/test_batch.bin'):
            info = tarfile.TarInfo(name)
            info.size = record.nbytes
            tar.addfile(info, io.BytesIO(record.tobytes()))
    monkeypatch.setattr(sys, 'argv', ['prepare_cifar10.py', str(tmp_path / 'cifar.tar.gz'), '--out', str(tmp_path)])
    prepare_cifar10.main()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob('*.png')) == [
        'test/cat/0000.png', 'test/truck/0000.png', 'train/cat/0000.png', 'train/truck/0000.png']
    assert Image.open(tmp_path / 'train/cat/0000.png').getpixel((5, 5)) == (200, 0, 0)
    assert 'train: 2 images' in capsys.readouterr().out
