import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import weak_supervision
    yield weak_supervision
    sys.modules.pop('weak_supervision')


def test_only_tags_that_name_a_class_compete(tool, tmp_path):
    weight = torch.zeros(20, 4)
    weight[3, 0] = weight[7, 1] = 1.0
    weight[15] = 100.0  # a word of context
    torch.save({'state_dict': {'head.fc.weight': weight, 'head.fc.bias': torch.zeros(20)}}, tmp_path / 'a.pth')
    features = torch.eye(4)[[0, 1, 0, 1]]
    assert tool.by_tags(features, torch.tensor([3, 7, 3, 2]), tmp_path / 'a.pth')['by_tags'] == 75


def test_a_tag_finds_the_images_that_are_most_probably_its_own(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, 'RETRIEVED', 2)
    weight = torch.zeros(20, 21)
    weight[:, :20] = torch.eye(20)
    weight[:, 20] = 5.0  # as much for every tag: no tag becomes more probable
    torch.save({'state_dict': {'head.fc.weight': weight, 'head.fc.bias': torch.zeros(20)}}, tmp_path / 'a.pth')
    labels = torch.arange(10).repeat(3)
    features = torch.zeros(30, 21)
    features[torch.arange(30), labels] = 3.0
    features[20:] = 0
    features[20:, 20] = 9.0
    assert tool.by_tags(features, labels, tmp_path / 'a.pth')['retrieval_100'] == pytest.approx(100)
    features[10:20] = features[10:20].roll(1, 0)  # the second image of each class looks like one of another class
    assert tool.by_tags(features, labels, tmp_path / 'a.pth')['retrieval_100'] == pytest.approx(50)


def leave_trained(tool, out, seed):
    """Files of a seed whose encoders are trained."""
    for name in ('mae', *tool.ROWS):
        (out / f'{name}_{seed}').mkdir(parents=True)
        (out / f'{name}_{seed}' / 'done').write_text('1 s')


@pytest.fixture
def counted(tool, monkeypatch):
    """Instead of every score one that is 1.0, and a list of what was asked for."""
    asked = []
    for score, keys in {'frozen_scores': ('knn', 'linear', 'fewshot_1'), 'tag_scores': ('by_tags', 'retrieval_100'),
                        'curve': ('curve', ), 'finetuned': ('finetune_10', )}.items():
        def compute(row, score=score, keys=keys):
            asked.append((row.name, score))
            return dict.fromkeys(keys, 1.0)
        monkeypatch.setattr(tool, score, compute)
    return asked


def test_scores_that_are_there_are_not_made_again(tool, tmp_path, counted):
    leave_trained(tool, tmp_path, 4)
    tool.run_seed(tmp_path, 4)
    rows = tool.finished(tmp_path)
    assert [row['method'] for row in rows] == ['random', 'mae', *tool.ROWS]
    assert [row['seed'] for row in rows] == [4] * len(rows)
    assert set(rows[-1]) == {'method', 'seed', 'curve', *tool.SCORES}
    assert set(rows[1]) == {'method', 'seed', 'knn', 'linear', 'fewshot_1', 'finetune_10'}
    counted.clear()
    tool.run_seed(tmp_path, 4)
    assert tool.finished(tmp_path) == rows
    assert counted == []


def test_an_interrupted_run_goes_on_with_the_score_that_is_missing(tool, tmp_path, counted, monkeypatch):
    leave_trained(tool, tmp_path, 4)
    working = tool.finetuned

    def interrupted(row):
        if row.name == 'mae2wsp_grafted':
            raise KeyboardInterrupt
        return working(row)

    monkeypatch.setattr(tool, 'finetuned', interrupted)
    with pytest.raises(KeyboardInterrupt):
        tool.run_seed(tmp_path, 4)
    counted.clear()
    monkeypatch.setattr(tool, 'finetuned', working)
    tool.run_seed(tmp_path, 4)
    assert counted == [(name, 'finetuned') for name in tool.ROWS[2:]]


def test_every_encoder_starts_from_the_mae_of_its_own_seed(tool, tmp_path):
    mae = tmp_path / 'mae_3' / 'epoch_12.pth'
    for name in tool.ROWS:
        options = tool.Row(name, 3, tmp_path).options
        given = {option.split('=')[0] for option in options if option.endswith(f'={mae}')}
        wanted = {'model.mim_checkpoint'} if name.startswith('mae') else set()
        assert given == wanted | ({'custom_hooks.0.checkpoint'} if 'anchored' in name else set())


def test_fine_tuning_sees_the_same_images_for_all_encoders_of_a_seed(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, 'build_dataset', lambda config: None)
    monkeypatch.setattr(tool, 'image_labels', lambda dataset: np.arange(10000) % 10)
    recipes = [tool.finetune_recipe(tool.Row(*each, tmp_path)) for each in (('random', 0), ('mae', 0), ('mae', 1))]
    rows = [recipe.train_dataloader.dataset.indices for recipe in recipes]
    assert rows[0] == rows[1] != rows[2]
    assert np.bincount(np.array(rows[0]) % 10).tolist() == [100] * 10
    assert recipes[0].custom_hooks == []
    assert recipes[2].custom_hooks[0].checkpoint == str(tmp_path / 'mae_1' / 'epoch_12.pth')
    assert [recipe.randomness.seed for recipe in recipes] == [0, 0, 1]


def test_fine_tuning_scores_the_whole_test_set_and_a_part_on_the_way():
    cfg = Config.fromfile(ROOT / 'configs' / 'wsp' / 'fashion-mnist_finetune.py')
    test, part = cfg.test_dataloader.dataset, cfg.val_dataloader.dataset
    assert [test.test_mode, part.test_mode] == [True, True]  # otherwise the host reads the training images
    assert [test.get('indices'), part.indices] == [None, 1000]
    weak = Config.fromfile(ROOT / 'configs' / 'wsp' / 'fashion-mnist_mae2wsp.py')
    assert cfg.model.backbone == weak.model.backbone
    assert [cfg.data_preprocessor[key] for key in ('mean', 'std')] == [
        weak.model.data_preprocessor[key] for key in ('mean', 'std')]


def test_results_of_one_share_of_noise_are_not_mixed_with_those_of_another(tool, tmp_path):
    tool.keep_noise(tmp_path / 'runs', 0.4)
    tool.keep_noise(tmp_path / 'runs', 0.4)
    with pytest.raises(ValueError, match='an --out of its own'):
        tool.keep_noise(tmp_path / 'runs', 0.2)


def test_the_table_has_a_line_a_method_with_mean_and_deviation_over_seeds(tool):
    rows = [{'method': 'random', 'seed': seed, 'knn': 50.0 + seed} for seed in (0, 2)] + [{'method': 'mae', 'knn': 7.0}]
    lines = tool.table(rows).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith('| random | 2 | 51.0 ± 1.4 |  |')
    assert lines[3].startswith('| mae | 1 | 7.0 |')


def test_every_row_has_a_config_and_a_colour_in_the_figure(tool):
    text = (ROOT / 'docs' / 'figures' / 'weak_supervision.py').read_text()
    for name in tool.ROWS:
        assert (ROOT / 'configs' / 'wsp' / f'fashion-mnist_{name}.py').is_file()
        assert f"'{name}'" in text


def test_the_page_says_what_the_numbers_say(tool):
    page = (ROOT / 'docs' / 'weak_supervision.md').read_text()
    rows = json.loads((ROOT / 'docs' / 'figures' / 'weak_supervision.json').read_text())['rows']
    assert {row['method'] for row in rows} == {'random', 'mae', *tool.ROWS}
    for line in tool.table(rows).splitlines()[2:]:
        _, method, cells = line.split('|', 2)
        assert f'|{cells}' in page, method
