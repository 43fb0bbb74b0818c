import json

import pytest

from mm_graft.analysis.training_curves import draw_curves, draw_measures, rate_keys, read_scalars


def write(folder, start, lines):
    file = folder / start / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(json.dumps(line) for line in lines) + '\n')


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path):
    write(tmp_path, '20260101_000000', [dict(step=s, loss=10.0 + s, lr=0.1) for s in (1, 2, 3, 4)])
    write(tmp_path, '20260102_000000', [dict(step=s, loss=20.0 + s, lr=0.1) for s in (3, 5)])
    write(tmp_path, '20260103_000000', [dict(step=1, rank_me=3.0)])  # stopped before it logged a loss
    write(tmp_path, '20260104_000000', [])
    assert [(line['step'], line['loss']) for line in read_scalars(tmp_path)] == [(1, 11), (2, 12), (3, 23), (5, 25)]


def test_validation_lines_are_no_part_of_the_curve(tmp_path):
    write(tmp_path, 'a', [dict(step=1, loss=1.0), {'accuracy/top1': 50.0, 'step': 1}, dict(step=2, loss=0.5)])
    assert [line['loss'] for line in read_scalars(tmp_path)] == [1.0, 0.5]


def test_measures_are_read_apart_from_the_curve_and_drawn_where_they_are_known(tmp_path):
    write(tmp_path, 'a', [dict(step=0, rank_me=3.0), dict(step=7, loss=1.0), dict(step=1, rank_me=4.0, alpha_req=1.0)])
    lines = read_scalars(tmp_path, 'rank_me')
    assert [line['rank_me'] for line in lines] == [3.0, 4.0]
    rank, alpha = draw_measures({'mae': lines}, {'rank_me': 'RankMe', 'alpha_req': 'α-ReQ'}).axes
    assert rank.get_title() == 'RankMe'
    assert rank.lines[0].get_xydata().tolist() == [[0, 3], [1, 4]]
    assert alpha.lines[0].get_xydata().tolist() == [[1, 1]]


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'{tmp_path} has no'):
        read_scalars(tmp_path)


def test_stages_are_drawn_where_they_were_logged():
    lines = [{'step': s, 'loss': 1.0 / s, 'lr': 0.1, 'stage1_lr': 0.01 * s, 'stage2_lr': 0.1 * s} for s in (1, 2)]
    assert rate_keys(lines) == ['stage1_lr', 'stage2_lr']
    assert rate_keys([dict(step=1, loss=1.0, lr=0.1, stage1_frozen=1.0)]) == ['lr']
    assert rate_keys([{'lr': 0.1, 'depth03_lr': 0.2}]) == ['depth03_lr']
    loss, rates = draw_curves({'graft': lines}).axes
    assert list(loss.lines[0].get_ydata()) == [1.0, 0.5]
    assert [list(line.get_ydata()) for line in rates.lines] == [[0.01, 0.02], [0.1, 0.2]]
    assert [text.get_text() for text in rates.get_legend().get_texts()] == ['stage1', 'stage2']


def test_each_run_has_a_column_or_line_of_its_own():
    runs = {name: [{'step': step, 'loss': start - step, 'lr': start * step} for step in (1, 2)]
            for name, start in (('mae', 10), ('graft', 20))}
    axes = draw_curves(runs).axes
    assert [panel.get_title() for panel in axes[:2]] == ['mae', 'graft']
    assert [panel.lines[0].get_xydata().tolist() for panel in axes] == [
        [[1, 9], [2, 8]], [[1, 19], [2, 18]], [[1, 10], [2, 20]], [[1, 20], [2, 40]]]
    assert [panel.get_ylabel() for panel in axes] == ['loss', '', 'learning rate', '']
    assert [panel.get_xlabel() for panel in axes[2:]] == ['iteration'] * 2
    panel, = draw_measures(runs, {'lr': 'rate'}).axes
    assert {line.get_label(): line.get_ydata().tolist() for line in panel.lines} == {'mae': [10, 20], 'graft': [20, 40]}
    assert (panel.get_xlabel(), [text.get_text() for text in panel.get_legend().get_texts()]) == (
        'epoch', ['mae', 'graft'])
