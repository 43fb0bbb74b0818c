"""The bookkeeping of the experiment: what is trained and scored, once, from which start, and the page's table."""

import json

import pytest
from mmengine.config import Config

from experiments.refiner import __main__ as tool
from experiments.refiner import rows
from experiments.refiner.rows import CONFIGS, TITLES, Length, Step, equal_epochs

LENGTH = Length(4, 1, 2, 512)
COSTS = {'mae': 1.0, 'graft': 4.0, 'heads': 2.0, 'refined': 9.0}


@pytest.fixture(autouse=True)
def _counted(monkeypatch):
    for module in (rows, tool):
        monkeypatch.setattr(module, 'gflops', lambda step, out: COSTS[step])


@pytest.fixture
def trained(monkeypatch):
    """Instead of trainings and scores, a list of what was asked for."""
    asked = []

    def train(command, log, title, max_epochs):
        folder = log.with_suffix('')
        (folder / f'epoch_{max_epochs}.pth').touch()
        (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{max_epochs}.pth'))
        asked.append((folder.name, command))

    monkeypatch.setattr(tool, 'run_training', train)
    monkeypatch.setattr(tool, 'score', lambda checkpoint, out, seed: dict.fromkeys(tool.SCORES, 60.0 + seed))
    return asked


def test_epochs_at_equal_flops_are_those_of_both_stages(tmp_path):
    assert equal_epochs('graft', LENGTH, tmp_path) == 5  # (1 · 2 + 2 · 9) / 4
    assert equal_epochs('mae', LENGTH, tmp_path) == 20
    planned = rows.rows(LENGTH, tmp_path)
    assert list(planned) == list(TITLES)
    assert planned['mae_images'] == (Step('mae', 7), )
    assert planned['mae_flops'] == (Step('mae', 24), )
    assert planned['graft_images'] == (Step('graft', 3), )
    assert planned['graft_flops'] == (Step('graft', 5), )
    assert planned['refined'] == (Step('heads', 1), Step('refined', 2))


def test_rows_that_come_out_alike_are_trained_once(tmp_path):
    planned = rows.rows(Length(4, 1, 1, 512), tmp_path)  # (2 + 9) / 4 ≈ 3 epochs
    assert 'graft_flops' in planned
    planned = rows.rows(Length(4, 3, 1, 512), tmp_path)  # (3 · 2 + 9) / 4 ≈ 4 epochs
    assert planned['graft_images'] == (Step('graft', 4), )
    assert 'graft_flops' not in planned


def test_the_warm_up_is_an_eighth_of_every_training():
    assert [Step('mae', epochs).warmup for epochs in (8, 1)] == [1.0, 0.125]


def test_what_leads_to_an_encoder_is_added_up(tmp_path):
    planned = rows.rows(LENGTH, tmp_path)
    costs = {name: tool.cost(steps, LENGTH, tmp_path) for name, steps in planned.items()}
    assert costs == {'mae': 4, 'mae_images': 7, 'mae_flops': 24, 'graft_images': 16, 'graft_flops': 24, 'one_head': 24,
                     'refined': 24}


def test_everything_starts_from_the_mae_of_its_seed_and_the_second_stage_from_the_first(tmp_path, trained):
    tool.run_seed(tmp_path, LENGTH, 3, ['refined', 'graft_images', 'mae_images'])
    commands = {name: ' '.join(command) for name, command in trained}
    assert list(commands) == ['mae_3', 'mae_images_mae_3', 'graft_images_graft_3', 'refined_heads_3',
                              'refined_refined_3']
    mae = f'default_hooks.init.checkpoint={tmp_path}/mae_3/epoch_4.pth'
    assert mae in commands['graft_images_graft_3']
    assert mae in commands['refined_heads_3']
    assert f'init.checkpoint={tmp_path}/refined_heads_3/epoch_1.pth' in commands['refined_refined_3']
    assert 'checkpoint=' not in commands['mae_images_mae_3']
    assert all('randomness.seed=3' in command for command in commands.values())
    assert all('train_dataloader.dataset.indices=512' in command for command in commands.values())


def test_one_head_is_that_of_the_last_block_in_both_stages(tmp_path, trained):
    tool.run_seed(tmp_path, LENGTH, 0, ['one_head'])
    assert ['model.backbone.out_indices=[5]' in command for _, command in trained] == [False, True, True]


def test_nothing_finished_is_done_again(tmp_path, trained):
    tool.run_seed(tmp_path, LENGTH, 0, list(TITLES))
    first = len(trained)
    assert first == 9
    tool.run_seed(tmp_path, LENGTH, 0, list(TITLES))
    assert len(trained) == first
    assert len(tool.finished(tmp_path)) == len(TITLES)


def test_the_table_has_mean_and_spread_of_the_seeds(tmp_path, trained):
    for seed in (0, 2):
        tool.run_seed(tmp_path, LENGTH, seed, ['mae', 'refined'])
    lines = tool.table(tool.finished(tmp_path)).splitlines()
    assert lines[2] == '| MAE | 2 | 4.00 | 61.0 ± 1.4 | 61.0 ± 1.4 | 61.0 ± 1.4 |'
    assert lines[3].startswith('| refined, three heads | 2 | 24.00 |')
    assert len(lines) == 4


def test_results_of_another_length_are_not_mixed(tmp_path):
    tool.keep_length(tmp_path, LENGTH)
    tool.keep_length(tmp_path, LENGTH)
    with pytest.raises(ValueError, match='an --out of its own'):
        tool.keep_length(tmp_path, Length(4, 1, 3, 512))


def test_the_report_has_the_neighbors_of_both_stages(tmp_path, trained):
    tool.run_seed(tmp_path, LENGTH, 0, ['refined'])
    for stage, value in (('heads', 50.0), ('refined', 70.0)):
        folder = tmp_path / f'refined_{stage}_0' / '20260101_000000' / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(json.dumps({'step': 4, 'acc_neighbor_block5': value}) + '\n')
    tool.write_report(tmp_path, [0, 1])
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['neighbors_of_the_same_class'] == {'0': {'5': [[512, 50.0], [1024, 70.0]]}}
    assert [row['method'] for row in report['rows']] == ['refined']
    assert (tmp_path / 'neighbors.png').read_bytes()[:4] == b'\x89PNG'
    assert '| refined, three heads |' in (tmp_path / 'table.md').read_text()


def test_all_encoders_are_alike_and_see_the_same_images():
    cfgs = {name: Config.fromfile(path) for name, path in CONFIGS.items()}
    assert len({str(cfg.model.backbone.arch) for cfg in cfgs.values()}) == 1
    assert {cfgs[name].train_dataloader.dataset.indices for name in ('heads', 'refined')} == {Length.images}
    assert {cfg.train_dataloader.batch_size for cfg in cfgs.values()} == {tool.BATCH}
    assert cfgs['heads'].model.backbone.out_indices == cfgs['refined'].model.backbone.out_indices
    assert (cfgs['heads'].max_epochs, cfgs['refined'].max_epochs) == (Length.heads, Length.refined)
