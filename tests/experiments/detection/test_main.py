"""The bookkeeping of the experiment: what is trained, once, from which start, and the page's table."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments.detection import __main__ as tool
from mm_graft.commands.main import build_parser

VALUES = dict.fromkeys([f'coco/{name}' for name in tool.SCORES], 0.25) | {'coco/bbox_mAP': 0.125, 'step': 6}


def log(folder, *rows, time='1'):
    path = folder / time / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, rows)))


@pytest.fixture
def trained(monkeypatch):
    """Instead of trainings, a list of what was asked for."""
    asked = []

    def train(command, path, title, max_epochs):
        folder = path.with_suffix('')
        folder.mkdir(parents=True)
        (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{max_epochs}.pth'))
        log(folder, {'loss': 1.0}, VALUES)
        asked.append((folder.name, command))

    monkeypatch.setattr(tool, 'run_training', train)
    return asked


def test_instances_are_written_once(tmp_path):
    for split in ('train', 'test'):
        (tmp_path / 'ann_dir' / split).mkdir(parents=True)
        labels = np.full((20, 20), 11, np.uint8)
        labels[:8, :8], labels[12:, :8], labels[:2, 12:] = 8, 9, 8  # a car, a pedestrian, what is too small
        Image.fromarray(labels).save(tmp_path / 'ann_dir' / split / '1.png')
    tool.prepare(tmp_path)
    found = json.loads((tmp_path / 'instances_test.json').read_text())
    assert found['images'][0]['file_name'] == '1.jpg'
    assert [(entry['category_id'], entry['area']) for entry in found['annotations']] == [(1, 64), (2, 64)]
    assert [entry['name'] for entry in found['categories']] == ['car', 'pedestrian']
    (tmp_path / 'instances_test.json').write_text('{}')
    tool.prepare(tmp_path)
    assert (tmp_path / 'instances_test.json').read_text() == '{}'


def test_a_stranger_is_told_where_the_images_are(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'docs/segmentation\.md says where'):
        tool.prepare(tmp_path)


def test_scores_are_the_last_ones_in_percent(tmp_path):
    assert tool.scores(tmp_path) is None
    log(tmp_path, {'loss': 1.0}, time='1')
    assert tool.scores(tmp_path) is None
    log(tmp_path, {**VALUES, 'coco/bbox_mAP': 0.5}, VALUES, {'loss': 1.0}, time='2')
    assert tool.scores(tmp_path) == {**dict.fromkeys(tool.SCORES, 25.0), 'bbox_mAP': 12.5}


def test_detectors_start_from_mae_or_from_nothing_and_finished_ones_are_left_alone(tmp_path, trained):
    for _ in range(2):
        mae = tool.train_mae(tmp_path, 4, tmp_path)
        for start in tool.STARTS:
            assert tool.train_detector(start, mae, tmp_path, 3, 6, tmp_path)['bbox_mAP'] == 12.5
    commands = {name: ' '.join(command) for name, command in trained}
    assert [name for name, _ in trained] == ['mae', 'from_random_3', 'from_mae_3']
    assert mae == tmp_path / 'mae' / 'epoch_4.pth'
    assert f'default_hooks.init.checkpoint={mae}' in commands['from_mae_3']
    assert 'default_hooks.init.checkpoint=None' in commands['from_random_3']
    assert all(f'train_dataloader.dataset.data_root={tmp_path}' in command for command in commands.values())
    for name in ('from_mae_3', 'from_random_3'):
        assert 'randomness.seed=3' in commands[name]
        assert 'train_cfg.max_epochs=6 train_cfg.val_interval=6' in commands[name]


def test_the_picture_is_asked_for_with_words_that_the_command_knows(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(tool, 'run', asked.append)
    tool.draw(tmp_path, 3, 6, tmp_path)
    args = build_parser('analyze').parse_args(asked[0][2:])
    assert args.checkpoint == str(tmp_path / 'from_random_3' / 'epoch_6.pth')
    assert [list(pair)[-1] for pair in args.also] == [str(tmp_path / 'from_mae_3' / 'epoch_6.pth')]
    assert args.indices == list(tool.SHOWN)
    assert args.cfg_options == {'test_dataloader.dataset.data_root': str(tmp_path)}


def test_the_table_has_a_line_for_each_seed_and_start():
    scores = dict(zip(tool.SCORES, range(6)))
    rows = [{'start': 'random', 'seed': 0, 'scores': scores}, {'start': 'mae', 'seed': 1, 'scores': scores}]
    assert tool.table(rows).splitlines() == [
        '| encoder | seed | box AP | box AP50 | mask AP | mask AP50 | mask AP, cars | mask AP, pedestrians |',
        '|---|---|---:|---:|---:|---:|---:|---:|',
        '| random weights | 0 | 0.0 | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 |',
        '| MAE on CamVid | 1 | 0.0 | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 |']
