"""The bookkeeping of the experiment: what is trained on what, once, and the page's table."""

import json
import shutil

import pytest
from mmengine.config import Config

from benchmarks.page import put
from experiments.camvid import __main__ as tool
from experiments.camvid import report


def log(folder, *rows, time='1'):
    path = folder / time / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, rows)))


@pytest.fixture
def trained(monkeypatch):
    """Instead of trainings, their commands by folder."""
    asked = {}

    def train(command, path, title, length):
        folder = path.with_suffix('')
        assert folder.name not in asked
        (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{length}.pth'))
        if 'upernet' in title:
            log(folder, {'loss': 1.0}, {'mIoU': 25.0, 'mAcc': 30.0, 'aAcc': 70.0, 'step': 300})
        asked[folder.name] = [*command, str(length)]

    monkeypatch.setattr(tool, 'run_training', train)
    return asked


def run(monkeypatch, tmp_path, *words):
    """The experiment without its picture."""
    (tmp_path / 'img_dir' / 'train').mkdir(parents=True, exist_ok=True)
    (tmp_path / 'img_dir' / 'train' / '1.jpg').touch()
    monkeypatch.setattr(tool, 'draw', lambda *_: None)
    monkeypatch.setattr('sys.argv', ['camvid', '--data', str(tmp_path), '--out', str(tmp_path / 'out'), *words])
    tool.main()


def test_each_seed_trains_its_encoders_once_each_on_the_one_before(monkeypatch, tmp_path, trained):
    run(monkeypatch, tmp_path, '--seeds', '0', '3')
    run(monkeypatch, tmp_path, '--seeds', '0', '3')
    out = tmp_path / 'out'
    names = ['mae100', 'mae130', 'graft30', 'heads10', 'refined20', *(f'upernet_{name}' for name in tool.ENCODERS)]
    assert sorted(trained) == sorted(f'{name}_{seed}' for name in names for seed in (0, 3))
    starts = {'graft30': out / 'mae100_3/epoch_100.pth', 'heads10': out / 'mae100_3/epoch_100.pth',
              'refined20': out / 'heads10_3/epoch_10.pth', 'upernet_random': None,
              'upernet_mae': out / 'mae100_3/epoch_100.pth', 'upernet_graft': out / 'graft30_3/epoch_30.pth',
              'upernet_refined': out / 'refined20_3/epoch_20.pth', 'upernet_mae_images': out / 'mae130_3/epoch_130.pth'}
    for name, start in starts.items():
        assert f'default_hooks.init.checkpoint={start}' in trained[f'{name}_3']
        assert 'randomness.seed=3' in trained[f'{name}_3']
    assert not any('init.checkpoint' in word for word in trained['mae100_3'])
    assert (trained['upernet_graft_3'][-1], trained['graft30_3'][-1]) == ('300', '30')
    found = json.loads((out / 'results.json').read_text())['rows']
    assert (list(found), list(found['mae'])) == (list(report.TITLES), ['0', '3'])


def test_the_encoders_are_one_vit_and_graft_and_refiner_see_as_many_images():
    configs = {name: Config.fromfile(tool.CONFIGS / f'{name}_camvid-half.py') for name in
               ('mae', 'graft', 'heads', 'refined', 'vit-tiny_upernet')}
    assert len({str(sorted(cfg.model.backbone.arch.items())) for cfg in configs.values()}) == 1
    added = {name: sum(epochs for config, epochs in steps if config != 'mae') + steps[0][1]
             for name, steps in tool.ENCODERS.items() if steps}
    assert added['graft'] == added['refined'] == added['mae_images'] > added['mae']
    assert configs['graft'].train_dataloader == configs['refined'].train_dataloader == configs['heads'].train_dataloader


def test_a_stranger_is_told_where_the_images_are(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr('sys.argv', ['camvid', '--data', str(tmp_path)])
    with pytest.raises(SystemExit):
        tool.main()
    assert 'docs/segmentation.md says where' in capsys.readouterr().err


def test_scores_are_the_last_ones_that_were_logged(tmp_path):
    assert report.read_scores(tmp_path) is None
    log(tmp_path, {'loss': 1.0}, time='1')
    assert report.read_scores(tmp_path) is None
    log(tmp_path, {'mIoU': 1.0, 'mAcc': 2.0, 'aAcc': 3.0, 'step': 3},
        {'mIoU': 4.0, 'mAcc': 5.0, 'aAcc': 6.0, 'step': 3}, {'loss': 1},
        time='2')
    assert report.read_scores(tmp_path) == {'mIoU': 4.0, 'mAcc': 5.0, 'aAcc': 6.0}


def test_the_page_is_what_the_committed_results_make_of_it(monkeypatch, tmp_path):
    (tmp_path / 'results').mkdir()
    for name in (report.RESULTS, 'segmentation.md'):
        shutil.copy(report.DOCS / name, tmp_path / name)
    before = (tmp_path / 'segmentation.md').read_text()
    for name in ('camvid', 'camvid-run'):
        put(tmp_path / 'segmentation.md', name, 'gone')
    assert (tmp_path / 'segmentation.md').read_text() != before
    monkeypatch.setattr(report, 'DOCS', tmp_path)
    report.main([])
    assert (tmp_path / 'segmentation.md').read_text() == before
    seeds = {'10': {'mIoU': 26.0, 'mAcc': 30.0, 'aAcc': 70.0}, '2': {'mIoU': 24.0, 'mAcc': 30.0, 'aAcc': 71.0}}
    row = '| graft | 2 | 25.0 ± 1.4 | 30.0 ± 0.0 | 70.5 ± 0.7 | 24.0, 26.0 |'
    assert row in report.table({'rows': {'graft': seeds}})
