"""Every command reads images as the training of its checkpoint did: channels, range, background."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mm_graft.checkpoints import Origin, convert_file
from mm_graft.commands.main import main
from mm_graft.evaluation.datasets import reading_of
from mm_graft.evaluation.online_probe import OnlineProbe
from mm_graft.pretrained import load_pretrained
from tests.tiny import VIT, mae, recorded_checkpoint

RANGE = (-500, 500)
CHANNELS = dict(type='mm_graft.LoadChannels', channels=5, value_range=RANGE)


@pytest.fixture
def five(tmp_path, monkeypatch):
    """Arrays of signed integers in five channels, two classes in `train` and `val`, and a checkpoint that read such."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for level, name in enumerate('ab'):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(4):
                image = rng.integers(-500, 0, (32, 32, 5), dtype=np.int16)
                image[..., 4] += 500 * level
                np.save(tmp_path / split / name / f'{index}.npy', image)
    data = dict(type='mm_graft.ImageFolder', data_root='train', extensions=['.npy'], with_label=True,
                pipeline=[CHANNELS, dict(type='mm_graft.FastCrop', scale=32), dict(type='PackInputs')])
    model = mae(patch_cfg=dict(in_channels=5))
    model['neck']['in_chans'] = model['head']['in_channels'] = 5
    model['data_preprocessor'] = dict(type='mm_graft.ChannelPreprocessor', mean=[100.] * 5, std=[50.] * 5)
    return recorded_checkpoint(tmp_path / 'a.pth', model, train_dataloader=dict(batch_size=2, dataset=data))


def expected(path, names):
    """Features of arrays of 32 × 32 pixels, of which nothing is cut."""
    images = np.stack([np.load(name) for name in names]).astype(np.float32)
    pixels = torch.from_numpy((images - RANGE[0]) / (RANGE[1] - RANGE[0])).permute(0, 3, 1, 2)
    return load_pretrained(path)(pixels)


def test_features_are_those_of_the_values_that_training_saw(five, tmp_path):
    main(arguments=['embed', five, 'val', '--out', 'f.npz'])
    found = np.load('f.npz')
    class_token, _ = expected(five, [tmp_path / 'val' / name for name in found['path']])
    assert len(found['path']) == 8
    np.testing.assert_allclose(found['features'], class_token.numpy(), atol=1e-4)


@pytest.mark.parametrize('data', [['--labels', '.'], []])
def test_evaluations_learn_from_labeled_arrays_and_score_on_those_beside_them(five, data, tmp_path):
    main(arguments=['evaluate', five, *data, '--protocols', 'knn', 'linear-augmented', '--linear-epochs', '1', '--ks',
                    '3', '--workers', '0', '--out', 'report', '--cache', 'cache', '--crop-share', '1'])
    results = json.loads((tmp_path / 'report/report.json').read_text())['protocols']
    assert results['knn']['top1'] == 100
    assert set(results) == {'knn', 'linear-augmented'}


def test_a_probe_during_training_reads_a_folder_of_its_own_so_too(five, tmp_path):
    from mm_graft.checkpoints.recorded_config import recorded_config
    probe = OnlineProbe(recorded_config(five), train=dict(type='mm_graft.ImageFolder', data_root='train'), k=3,
                        workers=0, linear_epochs=0)
    assert probe.evaluate(load_pretrained(five).encoder.backbone)['knn_top1'] == 100


@pytest.mark.parametrize('analysis', ['attention-map', 'patch-retrieval', 'reconstruction'])
def test_pictures_show_three_of_the_channels(five, analysis):
    main(arguments=['analyze', analysis, five, '--images', 'val/a/0.npy', 'val/b/1.npy', '--out', 'out'])
    assert Image.open(f'out/{analysis}.png').size[0] > 100


def test_a_list_of_few_labels_names_arrays(five, tmp_path):
    main(arguments=['split', 'train', 'list.txt', '--per-class', '1'])
    assert all(line.split()[0].endswith('.npy') for line in (tmp_path / 'list.txt').read_text().splitlines())


def test_a_converted_file_starts_a_training_on_them(five, tmp_path):
    """Its record says by what its images are normalized."""
    convert_file(Origin(five), tmp_path / 'b.pth', 'timm')
    np.testing.assert_allclose(load_pretrained(tmp_path / 'b.pth')(torch.ones(1, 5, 32, 32))[1],
                               load_pretrained(five)(torch.ones(1, 5, 32, 32))[1], atol=1e-5)


def test_rgb_of_twelve_bits_keeps_its_range_where_labels_and_pictures_are_given(tmp_path, monkeypatch):
    """The range of the loading reaches the images of a folder; without it they would be black."""
    from mm_graft.checkpoints.recorded_config import recorded_config
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    Image.fromarray(np.full((32, 32), 2048, np.uint16)).save(tmp_path / 'images/a.png')
    load = dict(type='mm_graft.TolerantLoadImageFromFile', value_range=(0, 4095))
    model = dict(type='ImageClassifier', backbone=dict(type='mm_graft.GraftViT', **VIT))
    data = dict(type='mm_graft.ImageFolder', data_root='images', pipeline=[load, dict(type='PackInputs')])
    path = recorded_checkpoint(tmp_path / 'a.pth', model, train_dataloader=dict(dataset=data))
    assert reading_of(recorded_config(path)) == {'value_range': (0, 4095)}
    main(arguments=['embed', path, 'images', '--out', 'f.npz'])
    class_token, _ = load_pretrained(path)(torch.full((1, 3, 32, 32), 128 / 255))
    np.testing.assert_allclose(np.load('f.npz')['features'], class_token.numpy(), atol=2e-2)
