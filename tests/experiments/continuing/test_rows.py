import json
from pathlib import Path

import pytest
from mmengine.config import Config

from experiments.continuing import rows


@pytest.fixture
def runs(monkeypatch):
    """Trainings that only write what a finished one leaves."""
    done = []

    def run(args, inputs):
        cfg = inputs[0]
        done.append(cfg)
        folder = args.work_dir
        with open(f'{folder}/last_checkpoint', 'w') as note:
            note.write(f'{folder}/epoch_{cfg.train_cfg.max_epochs}.pth')

    monkeypatch.setattr(rows.train, 'run', run)
    monkeypatch.setattr(rows.train, 'check', lambda args: (Config.fromfile(args.config), []))
    monkeypatch.setattr(rows, 'score_file', lambda checkpoint, domains, part: {'file': checkpoint.name, 'part': part})
    return done


def test_a_row_is_trained_and_scored_once(tmp_path, runs):
    row = rows.Row('frozen', 1e-3, 7, tmp_path)
    row.folder.mkdir()
    row.run({}, 'held_out')
    row.run({}, 'held_out')
    assert len(runs) == 1
    found = json.loads((tmp_path / 'row_frozen_0.001_7.json').read_text())
    assert found.pop('cpu_seconds') >= 0
    assert found == {'rule': 'frozen', 'rate': 1e-3, 'seed': 7, 'file': 'epoch_1.pth', 'part': 'held_out'}


def test_seed_rate_and_options_reach_the_training_and_a_stopped_one_resumes(tmp_path, monkeypatch):
    asked, ends = [], iter(['stopped.pth', 'epoch_1.pth'])

    def run(args, inputs):
        (row.folder / 'last_checkpoint').write_text(next(ends))

    monkeypatch.setattr(rows.train, 'check', asked.append)
    monkeypatch.setattr(rows.train, 'run', run)
    times = iter([0.0, 30.0, 100.0, 107.0, 0.0])
    monkeypatch.setattr(rows.time, 'process_time', lambda: next(times))
    row = rows.Row('stages', 1e-4, 3, tmp_path)
    row.folder.mkdir()
    with pytest.raises(SystemExit, match='same command continues'):
        row.train(['a.b=c'])
    row.train()
    row.train()
    assert [args.resume for args in asked] == [None, 'auto']
    assert asked[0].cfg_options == {'randomness.seed': 3, 'optim_wrapper.optimizer.lr': 1e-4, 'a.b': 'c'}
    assert asked[0].config.endswith('configs/stages.py')
    assert row.spent() == {'cpu_seconds': 37.0, 'finished': True}


def test_the_refiner_starts_from_heads_of_its_own_seed_and_counts_their_time(tmp_path, monkeypatch):
    asked = []

    def run(args, inputs):
        (Path(args.work_dir) / 'last_checkpoint').write_text(f'{args.work_dir}/epoch_1.pth')

    monkeypatch.setattr(rows.train, 'check', asked.append)
    monkeypatch.setattr(rows.train, 'run', run)
    times = iter([0.0, 0.0, 30.0, 30.0, 130.0, 0.0])
    monkeypatch.setattr(rows.time, 'process_time', lambda: next(times))
    row = rows.Row('refined', 1e-3, 3, tmp_path)
    for folder in (row.folder, row.first.folder):
        folder.mkdir()
    row.train()
    assert [Path(args.config).stem for args in asked] == ['heads', 'refined']
    assert asked[1].cfg_options['default_hooks.init.checkpoint'] == str(tmp_path / 'heads_0.001_3' / 'epoch_1.pth')
    assert row.cpu_seconds == 130.0
    assert row.spent()['cpu_seconds'] == 100.0


def test_every_rule_has_a_config_of_its_own_that_starts_from_the_same_weights():
    cfgs = {path.stem: Config.fromfile(path) for path in rows.CONFIGS.glob('*.py')}
    assert set(cfgs) == {*rows.RULES, *rows.BEFORE.values()}
    starts = {rule: cfg.default_hooks.init.checkpoint for rule, cfg in cfgs.items() if rule not in rows.BEFORE}
    assert set(starts.values()) == {str(rows.WEIGHTS)}
    differ = ('optim_wrapper', 'custom_hooks', 'param_scheduler')
    settings = [(cfg.model.type, 'adapters' in cfg.model.backbone, *(str(cfg.get(key)) for key in differ))
                for cfg in cfgs.values()]
    assert len(set(settings)) == len(cfgs)
    same = {(cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer.lr, cfg.train_dataloader.batch_size)
            for cfg in cfgs.values()}
    assert len(same) == 1
    graft = {str(cfg.model) for rule, cfg in cfgs.items() if rule not in ('lora', 'heads', 'refined')}
    assert len(graft) == 1
