"""The bookkeeping of the experiment: what is trained and scored, once, from which start, and the page's table."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config

from experiments.wsp import __main__ as tool
from experiments.wsp import rows
from experiments.wsp.rows import CONFIGS

ROOT = Path(__file__).parents[3]


def test_only_tags_that_name_a_class_compete(tmp_path):
    weight = torch.zeros(20, 4)
    weight[3, 0] = weight[7, 1] = 1.0
    weight[15] = 100.0  # a word of context
    torch.save({'state_dict': {'head.fc.weight': weight, 'head.fc.bias': torch.zeros(20)}}, tmp_path / 'a.pth')
    features = torch.eye(4)[[0, 1, 0, 1]]
    assert rows.by_tags(features, torch.tensor([3, 7, 3, 2]), tmp_path / 'a.pth')['by_tags'] == 75


def test_a_tag_finds_the_images_that_are_most_probably_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, 'RETRIEVED', 2)
    weight = torch.zeros(20, 21)
    weight[:, :20] = torch.eye(20)
    weight[:, 20] = 5.0  # as much for every tag: no tag becomes more probable
    torch.save({'state_dict': {'head.fc.weight': weight, 'head.fc.bias': torch.zeros(20)}}, tmp_path / 'a.pth')
    labels = torch.arange(10).repeat(3)
    features = torch.zeros(30, 21)
    features[torch.arange(30), labels] = 3.0
    features[20:] = 0
    features[20:, 20] = 9.0
    assert rows.by_tags(features, labels, tmp_path / 'a.pth')['retrieval_100'] == pytest.approx(100)
    features[10:20] = features[10:20].roll(1, 0)  # the second image of each class looks like one of another class
    assert rows.by_tags(features, labels, tmp_path / 'a.pth')['retrieval_100'] == pytest.approx(50)


def leave_trained(out, seed):
    """Files of a seed whose encoders are trained."""
    for name in ('mae', *tool.ROWS):
        (out / f'{name}_{seed}').mkdir(parents=True)
        (out / f'{name}_{seed}' / 'done').write_text('1 s')


@pytest.fixture
def counted(monkeypatch):
    """Instead of every score one that is 1.0, and a list of what was asked for."""
    asked = []
    for score, keys in {'score_frozen': ('knn', 'linear', 'fewshot_1'), 'score_tags': ('by_tags', 'retrieval_100'),
                        'score_curve': ('curve', ), 'score_finetuned': ('finetune_10', )}.items():
        def compute(row, score=score, keys=keys):
            asked.append((row.name, score))
            return dict.fromkeys(keys, 1.0)
        monkeypatch.setattr(tool, score, compute)
    return asked


def test_scores_that_are_there_are_not_made_again(tmp_path, counted):
    leave_trained(tmp_path, 4)
    tool.run_seed(tmp_path, 4)
    done = tool.finished(tmp_path)
    assert [row['method'] for row in done] == ['random', 'mae', *tool.ROWS]
    assert [row['seed'] for row in done] == [4] * len(done)
    assert set(done[-1]) == {'method', 'seed', 'curve', *tool.SCORES}
    assert set(done[1]) == {'method', 'seed', 'knn', 'linear', 'fewshot_1', 'finetune_10'}
    counted.clear()
    tool.run_seed(tmp_path, 4)
    assert tool.finished(tmp_path) == done
    assert counted == []


def test_an_interrupted_run_goes_on_with_the_score_that_is_missing(tmp_path, counted, monkeypatch):
    leave_trained(tmp_path, 4)
    working = tool.score_finetuned

    def interrupted(row):
        if row.name == 'mae2wsp_grafted':
            raise KeyboardInterrupt
        return working(row)

    monkeypatch.setattr(tool, 'score_finetuned', interrupted)
    with pytest.raises(KeyboardInterrupt):
        tool.run_seed(tmp_path, 4)
    counted.clear()
    monkeypatch.setattr(tool, 'score_finetuned', working)
    tool.run_seed(tmp_path, 4)
    assert counted == [(name, 'score_finetuned') for name in list(tool.ROWS)[2:]]


def test_every_encoder_starts_from_the_mae_of_its_own_seed(tmp_path):
    mae = tmp_path / 'mae_3' / 'epoch_12.pth'
    for name in tool.ROWS:
        options = rows.Row(name, 3, tmp_path).options
        given = {option.split('=')[0] for option in options if option.endswith(f'={mae}')}
        assert given == ({'default_hooks.init.checkpoint'} if name.startswith('mae') else set())


def test_fine_tuning_sees_the_same_images_for_all_encoders_of_a_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, 'build_dataset', lambda config: None)
    monkeypatch.setattr(rows, 'image_labels', lambda dataset: np.arange(10000) % 10)
    recipes = []
    monkeypatch.setattr(rows, 'finetune_accuracy', lambda cfg: recipes.append(cfg) or 0.8)
    monkeypatch.setattr(rows, 'MessageHub', SimpleNamespace(get_current_instance=lambda: SimpleNamespace(
        get_scalar=lambda name: SimpleNamespace(data=[np.zeros(0)]))))
    for each in (('random', 0), ('mae', 0), ('mae', 1)):
        assert rows.score_finetuned(rows.Row(*each, tmp_path))['finetune_10'] == 80
    images = [recipe.train_dataloader.dataset.indices for recipe in recipes]
    assert images[0] == images[1] != images[2]
    assert np.bincount(np.array(images[0]) % 10).tolist() == [100] * 10
    assert recipes[0].default_hooks.init.checkpoint is None
    assert recipes[2].default_hooks.init.checkpoint == str(tmp_path / 'mae_1' / 'epoch_12.pth')
    assert [recipe.randomness.seed for recipe in recipes] == [0, 0, 1]
    assert [Path(recipe.work_dir).name for recipe in recipes] == ['random_0', 'mae_0', 'mae_1']


def test_fine_tuning_scores_the_whole_test_set_and_a_part_on_the_way():
    cfg = Config.fromfile(CONFIGS / 'finetune.py')
    test, part = cfg.test_dataloader.dataset, cfg.val_dataloader.dataset
    assert [test.test_mode, part.test_mode] == [True, True]  # otherwise the host reads the training images
    assert [test.get('indices'), part.indices] == [None, 1000]
    weak = Config.fromfile(CONFIGS / 'mae2wsp.py')
    assert cfg.model.backbone == weak.model.backbone
    assert [cfg.data_preprocessor[key] for key in ('mean', 'std')] == [
        weak.model.data_preprocessor[key] for key in ('mean', 'std')]


def test_results_of_some_settings_are_not_mixed_with_those_of_others(tmp_path):
    tool.keep_settings(tmp_path / 'runs', noise=0.4, images=200)
    tool.keep_settings(tmp_path / 'runs', noise=0.4, images=200)
    for other in (dict(noise=0.2, images=200), dict(noise=0.4, images=100)):
        with pytest.raises(ValueError, match='an --out of its own'):
            tool.keep_settings(tmp_path / 'runs', **other)


def test_the_table_has_a_line_a_method_with_mean_and_deviation_over_seeds():
    scores = [{'method': 'random', 'seed': seed, 'knn': 50.0 + seed} for seed in (0, 2)]
    scores += [{'method': 'mae', 'knn': 7.0}]
    lines = tool.table(scores).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith('| random weights | 2 | 51.0 ± 1.4 |  |')
    assert lines[3].startswith('| MAE | 1 | 7.0 |')


def test_every_row_has_a_config_and_a_color_in_the_figure():
    text = (ROOT / 'docs' / 'figures' / 'weak_supervision.py').read_text()
    for name in tool.ROWS:
        assert rows.Row(name, 0, Path()).config.is_file()
        assert f"'{name}'" in text


def test_the_page_says_what_the_numbers_say():
    page = (ROOT / 'docs' / 'weak_supervision.md').read_text()
    scores = json.loads((ROOT / 'docs' / 'figures' / 'weak_supervision.json').read_text())['rows']
    assert {row['method'] for row in scores} == {'random', 'mae', *tool.ROWS}
    assert tool.table(scores) in page
