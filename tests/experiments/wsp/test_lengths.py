import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from mmengine.config import Config

from experiments.wsp import lengths
from experiments.wsp.rows import MAE
from mm_graft.commands.configs import load_config

EXACT = ('knn', 'linear', 'by_tags')  # the draws of 1 % of the labels have changed
TRAINED = {'knn': 1.0, 'linear': 2.0, 'fewshot_1': 3.0, 'by_tags': 4.0}


def words(options):
    return {name: float(value) for name, value in (option.split('=') for option in options)}


def test_a_shorter_mae_is_the_same_schedule_in_proportion():
    whole = load_config(str(MAE), words(lengths.mae_options(12)) | {'max_epochs': 12})
    short = load_config(str(MAE), words(lengths.mae_options(3)) | {'max_epochs': 3})
    assert (whole.train_cfg.max_epochs, whole.param_scheduler.warmup) == (12, 1)
    assert (short.train_cfg.max_epochs, short.param_scheduler.warmup) == (3, 0.25)
    assert Config.fromfile(MAE).param_scheduler.warmup == 1
    fewer = load_config(str(MAE), words(lengths.mae_options(3, 200)) | {'max_epochs': 3, 'num_images': 200})
    assert (short.train_dataloader.dataset.indices, fewer.train_dataloader.dataset.indices) == (10000, 200)


def test_each_length_starts_from_its_own_mae_and_none_from_random_weights(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(lengths, 'train', lambda config, folder, seed, options: trained.append(
        (config.stem, folder.relative_to(tmp_path), seed, options)))
    frozen = {key: TRAINED[key] for key in ('knn', 'linear', 'fewshot_1')}
    monkeypatch.setattr(lengths, 'score_frozen', lambda row: frozen)
    monkeypatch.setattr(lengths, 'score_tags', lambda row: {'by_tags': TRAINED['by_tags']})
    scores = [lengths.score(lengths.row_of(tmp_path, epochs, 5), epochs) for epochs in (0, 3)]
    assert [(config, str(folder), seed) for config, folder, seed, _ in trained] == [
        ('mae2wsp', 'mae_0_epochs/random2wsp_5', 5), ('mae', 'mae_3_epochs/mae_5', 5),
        ('mae2wsp', 'mae_3_epochs/mae2wsp_5', 5)]
    assert 'default_hooks.init.checkpoint=None' in trained[0][3]
    start = tmp_path / 'mae_3_epochs' / 'mae_5' / 'epoch_3.pth'
    assert f'default_hooks.init.checkpoint={start}' in trained[2][3]
    assert [score['mae_epochs'] for score in scores] == [0, 3]
    assert all(score[key] == value for score in scores for key, value in TRAINED.items())
    assert lengths.score(lengths.row_of(tmp_path, 3, 5), 3) == scores[1]  # what is there is not computed again


def test_the_curve_is_the_mean_of_the_seeds_with_a_point_for_each(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, path, **how: (drawn.append(figure.axes[0]),
                                                                        Path(path).write_text('a picture')))
    rows = [{**dict.fromkeys(TRAINED, value), 'mae_epochs': epochs}
            for epochs, values in ((12, (4.0, 6.0)), (0, (1.0, 2.0))) for value in values]
    lengths.draw(rows, tmp_path / 'lengths.png')
    mean, first, last = drawn[0].lines[:3]
    assert mean.get_xydata().tolist() == [[0, 1.5], [12, 5]]
    assert (first.get_xydata().tolist(), last.get_xydata().tolist()) == ([[0, 1], [0, 2]], [[12, 4], [12, 6]])
    assert [text.get_text() for text in drawn[0].get_legend().get_texts()] == list(lengths.SCORES.values())


def test_the_table_has_a_line_a_length_with_mean_and_deviation_over_the_seeds():
    rows = [{**dict.fromkeys(TRAINED, value), 'mae_epochs': epochs} for epochs, value in ((3, 4.0), (3, 6.0), (0, 1.0))]
    assert lengths.table(rows).splitlines()[2:] == [
        '| 0 | 1 | 1.0 | 1.0 | 1.0 | 1.0 |', '| 3 | 2 | 5.0 ± 1.4 | 5.0 ± 1.4 | 5.0 ± 1.4 | 5.0 ± 1.4 |']


def test_the_lengths_begin_at_nothing_and_end_at_the_demos():
    assert lengths.LENGTHS[0] == 0
    assert lengths.LENGTHS[-1] == Config.fromfile(MAE).max_epochs == pytest.approx(12)


def test_the_page_says_what_the_numbers_say_and_ends_with_the_row_of_its_other_table():
    docs = Path(lengths.__file__).parents[2] / 'docs'
    rows = json.loads((docs / 'figures/weak_supervision_lengths.json').read_text())['rows']
    assert lengths.table(rows) in (docs / 'weak_supervision.md').read_text()
    whole = json.loads((docs / 'figures/weak_supervision.json').read_text())['rows']
    for end, method in ((0, 'random2wsp'), (12, 'mae2wsp')):
        here, = (row for row in rows if row['mae_epochs'] == end)
        there, = (row for row in whole if (row['method'], row['seed']) == (method, here['seed']))
        assert {key: here[key] for key in EXACT} == {key: there[key] for key in EXACT}
