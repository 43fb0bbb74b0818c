import json
from pathlib import Path

import pytest
from mmengine.config import Config

from experiments.continuing import rows
from mm_graft.commands.configs import load_config
from tests.test_configs import build, make_batch


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
    assert asked[0].cfg_options == {'randomness.seed': 3, 'optim_wrapper.optimizer.lr': 1e-4, 'a.b': 'c',
                                    'optim_wrapper.paramwise_cfg.stage_lr_mult': [0, 0.1, 1.0]}
    assert asked[0].config.endswith('configs/mocov3.py')
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
    assert [Path(args.config).stem for args in asked] == ['refiner', 'refiner']
    assert [args.cfg_options.get('model.train_encoder') for args in asked] == [None, True]
    assert asked[1].cfg_options['default_hooks.init.checkpoint'] == str(tmp_path / 'heads_0.001_3' / 'epoch_1.pth')
    assert row.cpu_seconds == 130.0
    assert row.spent()['cpu_seconds'] == 100.0


def config_of(rule):
    row = rows.Row(rule, 1e-3, 0, Path())
    return load_config(str(row.config), rows.OVERRIDES[rule])


ALL, NONE = [True] * 12, [False] * 12


@pytest.mark.parametrize(('rule', 'reached', 'rates', 'hooks', 'schedule'), [
    ('one_rate', ALL, [1e-3], [], 'WarmupCosineLR'),
    ('stages', [False] * 4 + [True] * 8, [1e-4, 1e-3], [], 'WarmupCosineLR'),
    ('frozen', [False] * 8 + [True] * 4, [1e-3], [], 'WarmupCosineLR'),
    ('frozen_gram_anchor', [False] * 8 + [True] * 4, [1e-3], ['GramAnchor'], 'WarmupCosineLR'),
    ('gram_anchor', ALL, [1e-3], ['GramAnchor'], 'WarmupCosineLR'),
    ('weight_anchor', ALL, [1e-3], ['WeightAnchor'], 'WarmupCosineLR'),
    ('freezeout', ALL, [1e-3], ['FreezeOutHook'], 'FreezeOutLR'),
    ('lora', ALL, [1e-3], [], 'WarmupCosineLR'),
    ('heads', NONE, [1e-3], [], 'WarmupCosineLR'),
    ('refined', ALL, [1e-3 * 0.65**power for power in range(13, -1, -1)], [], 'WarmupCosineLR')])
def test_a_rule_trains_the_blocks_that_its_title_says(rule, reached, rates, hooks, schedule):
    cfg, model, optim_wrapper = build(config_of(rule))
    data = model.data_preprocessor(make_batch(cfg, model), True)
    model.parse_losses(model(**data, mode='loss'))[0].backward()
    assert [any(parameter.grad is not None for parameter in block.parameters())
            for block in model.backbone.layers] == reached
    assert sorted({group['lr'] for group in optim_wrapper.param_groups if group['lr']}) == pytest.approx(rates)
    assert [hook.type.removeprefix('mm_graft.') for hook in cfg.get('custom_hooks', [])] == hooks
    assert cfg.param_scheduler.type.endswith(schedule)
    trained = {name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad}
    assert all('lora_' in name for name in trained) == (rule in ('lora', 'heads'))


def test_every_rule_starts_from_the_same_weights_and_learns_as_long():
    assert set(rows.OVERRIDES) == {*rows.RULES, *rows.BEFORE.values()}
    cfgs = {rule: config_of(rule) for rule in rows.OVERRIDES}
    assert {cfg.default_hooks.init.checkpoint for cfg in cfgs.values()} == {str(rows.WEIGHTS)}
    assert {rule for rule, cfg in cfgs.items() if 'parts' in cfg.default_hooks.init} == {'refined'}
    same = {(cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer.lr, cfg.train_dataloader.batch_size)
            for cfg in cfgs.values()}
    assert len(same) == 1
    decay = {rule: cfg.optim_wrapper.optimizer.weight_decay for rule, cfg in cfgs.items()}
    assert decay == {**dict.fromkeys(cfgs, 0.05), 'heads': 1e-5}
    assert [cfgs[rule].model.head.queue.num_neighbors for rule in ('heads', 'refined')] == [1, 5]
