"""The bookkeeping of the experiment: what is trained and scored, once, from which start, and the page's tables."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from benchmarks.step import TrainingStep
from experiments.methods import __main__ as tool
from experiments.methods import report, rows, runs
from experiments.methods.rows import CONFIGS, TITLES, Length, Step, cost, epochs_of
from experiments.wsp import rows as wsp
from mm_graft.checkpoints import load_backbone
from mm_graft.encoders import load_encoder

LENGTH = Length(4, 1, 2, 512)
COSTS = {'mae': 1.0, 'mocov3': 4.0, 'graft': 4.0, 'graft_anchored': 4.5, 'heads': 2.0, 'refined': 9.0, 'joint': 5.0,
         'localmim': 2.0, 'localmim_freezeout': 1.5, 'conmim': 6.0}


@pytest.fixture(autouse=True)
def _counted(monkeypatch):
    monkeypatch.setattr(rows, 'gflops_per_image', lambda label, cfg, options, cache:
                        COSTS[label.split()[0]] - (2 if '[0,0,1]' in label else 1 if '[0,1,1]' in label else 0))


@pytest.fixture
def trained(monkeypatch):
    """Instead of trainings and scores, a list of what was asked for."""
    asked = []

    def train(command, log, title, max_epochs):
        folder = log.with_suffix('')
        (folder / f'epoch_{max_epochs}.pth').touch()
        (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{max_epochs}.pth'))
        asked.append((folder.name, command))

    monkeypatch.setattr(runs, 'run_training', train)
    monkeypatch.setattr(runs, 'save_initial_weights', lambda cfg, folder, seed: folder / 'epoch_0.pth')
    monkeypatch.setattr(tool, 'score', lambda checkpoint, row, out, seed: {
        'cls': dict.fromkeys(tool.SCORES, 60.0 + seed), 'avg': dict.fromkeys(tool.SCORES, 70.0)})
    monkeypatch.setattr(tool, 'finetune', lambda checkpoint, row, work_dir, seed: 80.0 + seed)
    return asked


def test_the_rows_are_those_of_equal_images_and_of_equal_flops(tmp_path):
    planned = rows.rows(LENGTH, tmp_path)
    assert list(planned) == list(TITLES)
    assert planned['mae_images'] == (Step('mae', 7), )
    assert planned['mae_flops'] == (Step('mae', 24), )  # 4 · 1 + 1 · 2 + 2 · 9
    assert planned['mocov3_images'] == (Step('mocov3', 3), )
    assert planned['mocov3_flops'] == (Step('mocov3', 6), )
    assert planned['graft_images'] == (Step('graft', 3), )
    assert planned['graft_shorter'] == (Step('mae', 2), Step('graft', 3))
    assert planned['graft_longer'] == (Step('mae', 24), Step('graft', 3))
    assert planned['graft_flops'] == (Step('graft', 5), )  # (1 · 2 + 2 · 9) / 4
    assert planned['refined'] == (Step('heads', 1), Step('refined', 2))
    assert planned['localmim'][0].epochs == planned['localmim_freezeout'][0].epochs == 12


def test_rows_that_come_out_alike_are_trained_once(tmp_path):
    planned = rows.rows(Length(4, 3, 1, 512), tmp_path)  # (3 · 2 + 9) / 4 ≈ 4 epochs
    assert planned['graft_images'] == (Step('graft', 4), )
    assert 'graft_flops' not in planned


def test_every_override_of_a_row_changes_its_config(tmp_path):
    steps = {step for row in rows.rows(LENGTH, tmp_path).values() for step in row if step.options}
    assert len(steps) == 6
    for step in steps:
        plain, changed = (Config.fromfile(CONFIGS[step.config]) for _ in range(2))
        for key, value in (option.split('=') for option in step.options):
            changed.merge_from_dict({key: json.loads(value)})
        assert changed.to_dict() != plain.to_dict(), step


def test_the_warm_up_is_an_eighth_of_every_training():
    assert [Step('mae', epochs).warmup for epochs in (8, 1)] == [1.0, 0.125]


def test_what_leads_to_an_encoder_is_added_up(tmp_path):
    planned = rows.rows(LENGTH, tmp_path)
    costs = {name: cost(row, LENGTH, tmp_path) for name, row in planned.items()}
    assert costs == {
        'random': 0, 'mae_shorter': 2, 'mae': 4, 'mae_images': 7, 'mae_flops': 24, 'mocov3_images': 12,
        'mocov3_flops': 24, 'graft_images': 16, 'graft_flops': 24, 'graft_shorter': 14, 'graft_longer': 36,
        'graft_one_rate': 16, 'graft_frozen_third': 13, 'graft_frozen': 10, 'graft_anchored': 17.5,
        'graft_anchored_more': 17.5, 'one_head': 24, 'refined': 24, 'joint': 25, 'localmim': 24,
        'localmim_freezeout': 18, 'conmim': 24}
    epochs = {name: epochs_of(row, LENGTH) for name, row in planned.items()}
    assert (epochs['random'], epochs['mae'], epochs['mocov3_images'], epochs['graft_images'], epochs['refined']) == (
        0, 4, 3, 7, 7)


def test_what_grafts_starts_from_the_mae_of_its_seed_and_the_second_stage_from_the_first(tmp_path, trained):
    tool.run_seed(tmp_path, LENGTH, 3, ['refined', 'graft_images', 'mae_images', 'mocov3_images'])
    commands = {name: ' '.join(command) for name, command in trained}
    assert list(commands) == ['mae7_3', 'mocov3_images_mocov3_3', 'mae4_3', 'graft_images_graft_3', 'refined_heads_3',
                              'refined_refined_3']
    mae = f'default_hooks.init.checkpoint={tmp_path}/mae4_3/epoch_4.pth'
    assert mae in commands['graft_images_graft_3']
    assert mae in commands['refined_heads_3']
    assert f'init.checkpoint={tmp_path}/refined_heads_3/epoch_1.pth' in commands['refined_refined_3']
    assert 'checkpoint=' not in commands['mae7_3'] + commands['mocov3_images_mocov3_3']
    assert all('randomness.seed=3' in command for command in commands.values())
    assert all('train_dataloader.dataset.indices=512' in command for command in commands.values())
    assert 'warmup=0.875 ' in commands['mae7_3']


def test_a_graft_on_a_longer_mae_starts_from_the_one_that_is_scored_by_itself(tmp_path, trained):
    tool.run_seed(tmp_path, LENGTH, 0, ['mae_flops', 'graft_longer'])
    assert [name for name, _ in trained] == ['mae24_0', 'graft_longer_graft_0']
    assert f'init.checkpoint={tmp_path}/mae24_0/epoch_24.pth' in ' '.join(trained[1][1])


def test_random_weights_are_those_that_the_seed_draws_and_nothing_is_trained(tmp_path, trained, monkeypatch):
    scored = []
    monkeypatch.setattr(tool, 'score', lambda checkpoint, row, out, seed: scored.append(checkpoint.name) or {})
    monkeypatch.setattr(tool, 'finetune', lambda checkpoint, row, work_dir, seed: scored.append(checkpoint.name) or 0.0)
    tool.run_seed(tmp_path, LENGTH, 0, ['random'])
    assert (scored, trained) == (['epoch_0.pth'] * 2, [])


def test_overrides_of_a_row_reach_its_training(tmp_path, trained):
    tool.run_seed(tmp_path, LENGTH, 0, ['one_head', 'graft_frozen'])
    assert [name for name, command in trained if 'model.backbone.out_indices=[5]' in command] == [
        'one_head_heads_0', 'one_head_refined_0']
    assert [name for name, command in trained if f'{rows.STAGE_RATES}=[0,0,1]' in command] == ['graft_frozen_graft_0']


def test_nothing_finished_is_done_again(tmp_path, trained):
    tool.run_seed(tmp_path, LENGTH, 0, ['mae', 'graft_images', 'refined'])
    first = len(trained)
    assert first == 4
    tool.run_seed(tmp_path, LENGTH, 0, ['mae', 'graft_images', 'refined'])
    assert len(trained) == first


def test_a_score_that_is_missing_is_made_of_the_encoder_that_is_there(tmp_path, trained, monkeypatch):
    tool.run_seed(tmp_path, LENGTH, 0, ['graft_images'])
    (tmp_path / 'finetuned_graft_images_0.json').unlink()
    begun = []
    monkeypatch.setattr(tool, 'score', lambda checkpoint, row, out, seed: begun.append('score'))
    monkeypatch.setattr(tool, 'finetune', lambda *given: begun.append(given) or 81.0)
    tool.run_seed(tmp_path, LENGTH, 0, ['graft_images'])
    assert begun == [(tmp_path / 'graft_images_graft_0' / 'epoch_3.pth', (Step('graft', 3), ),
                      tmp_path / 'finetune' / 'graft_images_0', 0)]
    assert json.loads((tmp_path / 'finetuned_graft_images_0.json').read_text()) == 81.0
    assert len(trained) == 2


def test_fine_tuning_is_that_of_weak_supervision_with_the_rows_encoder(tmp_path, monkeypatch):
    recipe = Config.fromfile(wsp.CONFIGS / 'finetune.py')
    monkeypatch.setattr(tool, 'finetune_recipe', lambda *given: Config(dict(given=given, **recipe.to_dict())))
    tuned = []
    monkeypatch.setattr(tool, 'finetune_accuracy', lambda cfg: tuned.append(cfg) or 0.81)
    for row in ((), (Step('graft', 1), ), (Step('conmim', 1), )):
        assert tool.finetune(tmp_path / 'epoch_3.pth', row, tmp_path / 'tuned', 2) == 81
    assert all(tuple(cfg.given) == (tmp_path / 'epoch_3.pth', 2, tmp_path / 'tuned') for cfg in tuned)
    assert tuned[0].model == tuned[1].model == recipe.model
    assert tuned[2].model.backbone == {**Config.fromfile(CONFIGS['conmim']).model.backbone, 'out_type': 'cls_token'}
    assert tuned[2].model.head == recipe.model.head


@pytest.mark.parametrize('name', [name for name in CONFIGS if name not in ('heads', 'refined')])
def test_what_each_method_trains_can_be_scored_and_fine_tuned(tmp_path, name):
    """All of the encoder's parameters are in the checkpoint, by name: otherwise this raises."""
    cfg = Config.fromfile(CONFIGS[name])
    init_default_scope(cfg.default_scope)
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'a.pth')
    row = (Step(name, 1), )
    load_encoder(rows.put_encoder(Config.fromfile(CONFIGS['graft']), row), tmp_path / 'a.pth')
    tuned = rows.put_encoder(Config.fromfile(wsp.CONFIGS / 'finetune.py'), row)
    classifier = MODELS.build({**tuned.model, 'data_preprocessor': tuned.data_preprocessor})
    load_backbone(classifier.backbone, tmp_path / 'a.pth')
    assert classifier(torch.rand(2, 1, 20, 20)).shape == (2, 10)


def test_results_of_another_length_are_not_mixed(tmp_path):
    tool.keep_length(tmp_path, LENGTH)
    tool.keep_length(tmp_path, LENGTH)
    with pytest.raises(ValueError, match='an --out of its own'):
        tool.keep_length(tmp_path, Length(4, 1, 3, 512))


def log(run, *rows):
    folder = run / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))


def test_the_page_has_mean_and_spread_of_the_seeds_and_what_the_runs_have_logged(tmp_path, trained):
    for seed in (0, 2):
        tool.run_seed(tmp_path, LENGTH, seed, ['mae', 'refined'])
    tool.run_seed(tmp_path, LENGTH, 2, ['joint'])
    for stage, value in (('heads', 50.0), ('refined', 70.0)):
        log(tmp_path / f'refined_{stage}_0', {'step': 4, 'loss': 1.0, 'acc_neighbor_block5': value})
    first, second = ({f'cos_conflict/block_{block:02}': sign * block / 100 for block in (1, 2)} for sign in (1, -1))
    log(tmp_path / 'joint_joint_2', {'step': 1, **first}, {'step': 1, 'loss': 1.0}, {'step': 101, **second})
    (tmp_path / 'rates.json').write_text(json.dumps({'mae': {'rate': 0.002, 'knn': {'3': 79.25, '0.3': 78.0}}}))
    results = tool.write_results(tmp_path, LENGTH, 128)
    assert results['neighbors_of_the_same_class']['0'] == {'5': [(512, 50.0), (1024, 70.0)]}
    assert results['conflict'] == {'2': [[0.01, 0.02], [-0.01, -0.02]]}
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results.json').rename(tmp_path / report.RESULTS)
    blocks = ('fashion-run', 'fashion-rates', 'fashion-cls', 'fashion-avg')
    (tmp_path / 'results.md').write_text(''.join(f'<!-- {name} -->\n<!-- /{name} -->\n' for name in blocks))
    report.write_page(tmp_path)
    page = (tmp_path / 'results.md').read_text()
    assert '| MAE | 2k | 2 | 2 |' + ' 61.0 ± 1.4 |' * 3 + ' 81.0 ± 1.4 |' in page
    assert '| refined, three heads | 3k | 12 | 2 |' + ' 70.0 ± 0.0 |' * 3 + '\n' in page
    assert '| method | rate | ×0.3 | ×3 |\n|---|---:|---:|---:|\n| MAE | 0.002 | 78.0 | 79.2 |' in page
    for picture in ('costs', 'choices', 'neighbors', 'conflict'):
        assert (tmp_path / f'results/fashion_mnist/{picture}.png').read_bytes()[:4] == b'\x89PNG'


def test_a_column_of_fine_tuning_needs_a_row_that_was_fine_tuned():
    row = {'images': 512, 'tflops': 1.0, 'seeds': {'0': {'cls': dict.fromkeys(report.SCORES, 60.0)}}}
    untuned, tuned = (report.table({'rows': {'mae': {**row, 'finetuned': found}}}, 'cls')
                      for found in ({}, {'0': 80.0}))
    assert tuned.splitlines()[0] == f'{untuned.splitlines()[0]} {report.TUNED} |'
    assert tuned.splitlines()[-1] == f'{untuned.splitlines()[-1]} 80.0 |'


def test_all_encoders_are_alike_and_see_the_same_images():
    cfgs = {name: Config.fromfile(path) for name, path in CONFIGS.items()}
    assert set(cfgs) == set(COSTS)
    assert len({str(cfg.model.backbone.arch) for cfg in cfgs.values()}) == 1
    assert {cfg.train_dataloader.batch_size for cfg in cfgs.values()} == {runs.BATCH}
    assert cfgs['heads'].model.backbone.out_indices == cfgs['refined'].model.backbone.out_indices
    assert (cfgs['heads'].max_epochs, cfgs['refined'].max_epochs) == (Length.heads, Length.refined)


@pytest.mark.parametrize('name', ['graft_anchored', 'joint', 'localmim', 'localmim_freezeout', 'conmim'])
def test_a_step_of_each_has_a_finite_loss(name):
    step = TrainingStep(Config.fromfile(CONFIGS[name]), batch_size=4)
    assert step.loss(step.batch).isfinite()
