"""Analyses that read whole models, and the names of what is looked at."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mm_graft.commands import analyses
from mm_graft.commands.analyze import COMMANDS
from tests.tiny import mae, mae_file, recorded_checkpoint

CAMVID = """
default_scope = 'mmseg'
classes = ('sky', 'road')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True),
    backbone=dict(type='mmpretrain.VisionTransformer', img_size=32, patch_size=8, out_type='featmap', out_indices=[3],
                  arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)),
    decode_head=dict(type='FCNHead', in_channels=16, in_index=0, channels=8, num_convs=1, num_classes=2),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
test_dataloader = dict(dataset=dict(
    type='BaseSegDataset', metainfo=dict(classes=classes, palette=[[0, 0, 255], [99, 99, 99]]), data_root={root!r},
    data_prefix=dict(img_path='images', seg_map_path='masks'), img_suffix='.png', seg_map_suffix='.png',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
"""
LOCALMIM = """
default_scope = 'mmpretrain'
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, to_rgb=True)
arch = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
model = dict(
    type='mm_graft.LocalMIM',
    backbone=dict(type='mm_graft.VisiblePatchViT', arch=arch, img_size=32, patch_size=8, taps=[2, 4]),
    neck=dict(type='mm_graft.LocalMIMNeck', in_channels=16, grids=4, scales=[2, 1], embed_dims=8, num_heads=2),
    target_generator=dict(type='mm_graft.HOGTarget', cells=[4, 8]),
    head=dict(type='mm_graft.LocalMIMHead'))
"""


def picture(path, shape=(32, 32, 3), end=256):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(zlib.crc32(path.name.encode()))
    Image.fromarray(generator.integers(0, end, shape, dtype=np.uint8)).save(path)
    return path


def checkpoint(cfg, path):
    init_default_scope(cfg.default_scope)
    model = {**cfg.model, **({'data_preprocessor': cfg.data_preprocessor} if 'data_preprocessor' in cfg else {})}
    torch.save({'state_dict': MODELS.build(model).state_dict()}, path)
    return path


@pytest.fixture
def localmim(tmp_path):
    """A config, its checkpoint and a picture."""
    (tmp_path / 'config.py').write_text(LOCALMIM)
    checkpoint(Config.fromfile(tmp_path / 'config.py'), tmp_path / 'model.pth')
    return [tmp_path / 'config.py', tmp_path / 'model.pth', '--images', picture(tmp_path / 'a.png', (40, 50, 3))]


def test_a_reconstruction_follows_the_seed(run, localmim, tmp_path):
    drawn = []
    for seed in (0, 0, 1):
        run('analyze', 'reconstruction', *localmim, '--out', tmp_path / 'out', '--dpi', 40, '--seed', seed)
        drawn.append((tmp_path / 'out' / 'reconstruction.png').read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_missing_picture_is_one_line(refused, localmim):
    assert 'picture no/where.png does not exist' in refused('analyze', 'reconstruction', *localmim, 'no/where.png')
    Path('a.txt').write_text('no picture')
    assert 'a.txt is not a readable picture' in refused('analyze', 'reconstruction', *localmim, 'a.txt')


def test_reconstruction_needs_the_file_alone(run, tmp_path):
    words = 'analyze', 'reconstruction', recorded_checkpoint(tmp_path / 'a.pth', mae(), work_dir='work_dirs/mine'), \
        '--images', picture(tmp_path / 'a.png', (40, 50, 3)), '--out', tmp_path / 'out', '--dpi', 40
    assert 'mine' in run(*words)
    assert 'mine a, mine b' in run(*words, '--also', recorded_checkpoint(
        tmp_path / 'b.pth', mae(), work_dir='work_dirs/mine'))


def test_a_foreign_file_has_an_encoder_and_no_algorithm(refused, tmp_path):
    line = refused('analyze', 'reconstruction', mae_file(tmp_path / 'mae.pth'), '--images', picture(tmp_path / 'a.png'))
    assert 'does not say of which algorithm it is; give the config' in line


def test_features_of_labeled_folders_are_placed_without_a_config(run, tmp_path):
    for split in ('train', 'val'):
        for index in range(4):
            picture(tmp_path / 'data' / split / f'{index % 2}' / f'{index}.png')
    run('analyze', 'tsne', mae_file(tmp_path / 'mae.pth'), '--labels', tmp_path / 'data', '--perplexity', 2,
        '--out', tmp_path / 'out')
    found = json.loads((tmp_path / 'out' / 'tsne.json').read_text())
    assert found['labels'] == [0, 0, 1, 1]
    assert np.array(found['models']['mae']['points']).shape == (4, 2)


def test_also_takes_one_or_two_files(refused, localmim):
    assert '--also a b c: give one checkpoint, or a config' in refused('analyze', 'tsne', *localmim[:2], '--also',
                                                                       'a', 'b', 'c')


@pytest.fixture
def camvid(tmp_path):
    """A config of segmentation, and its checkpoint."""
    for index in range(2):
        picture(tmp_path / 'data' / 'images' / f'{index}.png')
        picture(tmp_path / 'data' / 'masks' / f'{index}.png', (32, 32), 2)
    (tmp_path / 'config.py').write_text(CAMVID.format(root=str(tmp_path / 'data')))
    return tmp_path / 'config.py', checkpoint(Config.fromfile(tmp_path / 'config.py'), tmp_path / 'a.pth')


def test_segmentations_are_drawn_in_columns(run, camvid, tmp_path):
    words = 'analyze', 'segmentation', *camvid, '--device', 'cpu', '--indices', 0, 1, '--out', tmp_path / 'new'
    run(*words)
    with Image.open(tmp_path / 'new' / 'segmentation.png') as one:
        run(*words, '--also', *camvid, '--names', 'once', 'again')
        with Image.open(tmp_path / 'new' / 'segmentation.png') as two:
            assert two.width > one.width


def test_what_cannot_be_drawn_is_one_line(refused, camvid, tmp_path):
    config, _ = camvid
    torch.save({'state_dict': {'a': torch.zeros(1)}, 'path': tmp_path}, tmp_path / 'code.pth')
    words = 'analyze', 'segmentation', '--device', 'cpu', '--out', tmp_path / 'new'
    assert 'does not exist' in refused(*words, config, tmp_path / 'b.pth')
    assert 'give a checkpoint of this config' in refused(*words, config, tmp_path / 'code.pth')
    assert 'the images 0 to 1' in refused(*words, *camvid, '--indices', 0, 9999)
    assert 'data folder /nope' in refused(
        *words, *camvid, '--cfg-options', 'test_dataloader.dataset.data_root=/nope')
    assert 'has no test_dataloader' in refused(*words, mae_file(tmp_path / 'mae.pth'))
    assert not (tmp_path / 'new').exists()


def test_blocks_of_one_class_are_not_compared(refused, tmp_path):
    for split in ('train', 'val'):
        picture(tmp_path / 'data' / split / 'a/0.png')
    assert 'are of one class; give at least two' in refused(
        'analyze', 'layers', recorded_checkpoint(tmp_path / 'a.pth'), '--labels', tmp_path / 'data', '--device', 'cpu')


@pytest.mark.parametrize('labels', [('a', 'a'), ('a', )])
def test_names_must_differ(refused, localmim, labels):
    line = refused('analyze', 'tsne', *localmim[:2], '--also', *localmim[:2], '--names', *labels)
    assert '2 checkpoints need as many different names' in line


def test_every_analysis_is_computed_by_the_function_of_its_name():
    assert all(callable(getattr(analyses, name.replace('-', '_'))) for name in COMMANDS)


@pytest.mark.parametrize('option', [['--count', '3'], ['--labels', '.'], ['--val', '.']])
def test_options_about_the_test_set_do_not_stand_beside_files(refused, localmim, option):
    args = ['attention-map', *localmim, '--images', __file__, *option]
    assert refused('analyze', *args).startswith(f'error: {option[0]} says which images of a test set')
