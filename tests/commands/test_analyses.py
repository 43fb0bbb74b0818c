import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image

from mm_graft.commands import analyses
from tests.models.selfsup.test_joint_mim_cl import config

CONFIG = """
default_scope = 'mmpretrain'
model = {model!r}
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, to_rgb=True)
view = [dict(type='RandomFlip', prob=0.5), dict(type='ColorJitter', brightness=0.4)]
pipeline = [dict(type='LoadImageFromFile'),
            dict(type='MultiView', num_views=[1, 1, 1], transforms=[view, view, view[:1]]), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='CustomDataset', data_root={root!r}, data_prefix='train', pipeline=pipeline))
"""


@pytest.fixture
def folder(tmp_path):
    """A config, two of its checkpoints, and a few pictures in two classes."""
    random = np.random.default_rng(0)
    for split in ('train', 'test'):
        for index in range(8):
            place = tmp_path / split / f'class{index % 2}'
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / f'{index}.png')
    model = config()
    model.pop('data_preprocessor')
    (tmp_path / 'joint.py').write_text(CONFIG.format(model=model, root=str(tmp_path)))
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(MODELS.build(config()).state_dict(), tmp_path / f'epoch_{seed}.pth')
    return tmp_path


@pytest.fixture
def analyze(folder, run):
    """Run an analysis on both checkpoints; gives what it wrote as JSON."""

    def call(command: str, *options: str, both: bool = True) -> dict:
        entries = [folder / 'joint.py', folder / 'epoch_0.pth']
        entries += ['--also', folder / 'joint.py', folder / 'epoch_1.pth'] if both else []
        out = folder / 'new' / 'out'
        arguments = [command, *entries, '--out', out, '--batch-size', 2, '--device', 'cpu', *options]
        run('analyze', *arguments)
        return json.loads((out / f'{command}.json').read_text())

    return call


def picture(folder, name):
    return Image.open(folder / 'new' / 'out' / f'{name}.png').format == 'PNG'


def test_conflict_of_both_checkpoints_stands_in_one_figure(analyze, folder):
    report = analyze('conflict', '--batches', '3')
    assert list(report['models']) == ['joint epoch_0', 'joint epoch_1']
    cosines = np.array(report['models']['joint epoch_0']['cosine'])
    assert cosines.shape == (3, 4)
    assert np.abs(cosines).max() <= 1
    assert analyze('conflict', '--batches', '3') == report
    assert picture(folder, 'conflict')


def test_a_term_that_the_algorithm_lacks_is_one_line_of_error(analyze, capsys):
    with pytest.raises(SystemExit):
        analyze('conflict', '--losses', 'loss_pixels', 'loss_other')
    assert "'loss_other' is no scalar with a gradient" in capsys.readouterr().err


def test_layers_are_measured_and_blocks_proposed(analyze, folder):
    report = analyze('layers', '--train-images', '6', '--test-images', '4')
    assert (report['train_images'], report['test_images']) == (6, 4)
    model = report['models']['joint epoch_0']
    assert {pool: sorted(curve) for pool, curve in model['curves'].items()} == {
        pool: ['knn', 'linear', 'rankme'] for pool in ('class token', 'mean of patches')}
    assert all(len(values) == 4 for curve in model['curves'].values() for values in curve.values())
    assert model['proposal']['out_indices'][-1] == 3
    assert 'kNN of the' in report['models']['joint epoch_1']['proposal']['reason']
    assert picture(folder, 'layers')


def test_attention_distance_of_the_test_set_or_of_files(analyze, folder):
    report = analyze('attention-distance', '--names', 'a', 'b')
    assert list(report['models']) == ['a', 'b']
    assert report['images'] == 8
    assert np.array(report['models']['a']['per_head']).shape == (4, 2)
    files = [str(path) for path in sorted((folder / 'test').rglob('*.png'))]
    again = analyze('attention-distance', '--names', 'a', 'b', '--images', *files)
    assert again['images'] == 8
    np.testing.assert_allclose(  # the test set is scaled and cropped, files are covered
        again['models']['b']['per_block'], report['models']['b']['per_block'], rtol=0.05)
    assert picture(folder, 'attention-distance')


def test_vic_is_measured_on_two_training_views(analyze, folder):
    report = analyze('vic', '--batches', '2')
    assert report['images'] == 4
    assert {name: len(values) for name, values in report['models']['joint epoch_1'].items()} == dict.fromkeys(
        ('norm', 'invariance', 'variance', 'covariance'), 4)
    assert picture(folder, 'vic')


def test_tsne_shows_the_chosen_classes(analyze, folder):
    report = analyze('tsne', '--per-class', '3', '--perplexity', '2')
    assert report['labels'] == [0, 0, 0, 1, 1, 1]
    assert np.array(report['models']['joint epoch_0']['points']).shape == (6, 2)
    assert picture(folder, 'tsne')


def test_attention_maps_and_neighbors_become_pictures(analyze, folder):
    report = analyze('attention-map', '--count', '3')
    assert np.array(report['models']['joint epoch_0']['maps']).shape == (3, 4, 4)
    assert picture(folder, 'attention-map')
    report = analyze('patch-retrieval', '--query', '1', '5', '--neighbors', '4', '--count', '4')
    assert len(report['models']['joint epoch_0']['patches']) == 4
    assert picture(folder, 'patch-retrieval-2')
    analyze('patch-retrieval', '--count', '4', both=False)
    assert picture(folder, 'patch-retrieval')


@pytest.mark.parametrize('name', ['conflict', 'reconstruction', 'segmentation'])
def test_what_runs_the_whole_model_refuses_a_branch(name):
    function = getattr(analyses, name)
    with pytest.raises(ValueError, match=f'--branch momentum picks an encoder .* {name} runs the whole model'):
        function(Namespace(analysis=name, branch='momentum', out=Path('nowhere')), [])
    assert not Path('nowhere').exists()
