"""Data that users have and evaluations that they repeat: what is passed over is said, what is kept is looked at."""

import argparse
import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.faulty_runs import MAE, NET, ROOT, accuracy, pictures
from tests.test_faults import commands, images, save  # noqa: F401 (fixtures)
from tests.tiny import vit_state


def test_one_bad_image_is_one_however_often_it_is_met(commands, images, tmp_path):  # noqa: F811
    (tmp_path / 'own/a/broken.jpg').write_bytes(b'not a jpeg!')
    config = commands.config(MAE, images, epochs=6, load=dict(max_bad=2))
    text = commands.train(config, 'run')
    assert text.count('broken.jpg') >= 1
    (tmp_path / 'own/b/other.jpg').write_bytes(b'')
    commands.train(config, 'run', '--resume', '--cfg-options', 'train_cfg.max_epochs=8')
    (tmp_path / 'own/c/third.jpg').write_bytes(b'')
    status, text = commands('train', config, '--work-dir', tmp_path / 'run', '--resume', '--cfg-options',
                            'train_cfg.max_epochs=10')
    assert status == 1
    assert '3 images cannot be used' in text
    assert 'of at most 2' in text


def test_a_class_of_another_format_is_named_and_read_by_the_remedy(commands, tmp_path):  # noqa: F811
    pictures(tmp_path / 'own', 'ac')
    own = pictures(tmp_path / 'own', 'b', 'webp')
    config = commands.config(NET, own, pictures(tmp_path / 'val', n=6), epochs=10, lr=4e-3)
    line = commands.stopped(config, 'run')
    assert 'b (left out: .webp 12)' in line
    remedy = line.split('--cfg-options ')[1].split()[0]
    assert accuracy(commands.train(config, 'run', '--cfg-options', remedy)) == 100


@pytest.mark.parametrize('name', ['2024', 'a,b', '1e3'])
def test_a_folder_that_looks_like_a_number_or_a_list_is_a_folder(commands, tmp_path, name):  # noqa: F811
    pictures(tmp_path / name, n=4)
    config = commands.config(MAE, 'nowhere', epochs=1)
    commands.train(config, 'run', '--cfg-options', f'train_dataloader.dataset.data_root={name}')


def test_workers_that_persist_need_workers(commands, images):  # noqa: F811
    pinned = "train_dataloader['persistent_workers'] = True\n"
    commands.train(commands.config(MAE, images, epochs=1, more=pinned), 'run')


SAID = {
    'mask of nothing': (dict(), 'model["backbone"]["mask_ratio"] = 0\n', 'mask_ratio=0'),
    'patches': (dict(), 'model["head"]["patch_size"] = 4\n', 'model.head.patch_size=4'),
    'size': (dict(), 'train_dataloader["dataset"]["pipeline"][1]["scale"] = (64, 96)\n', 'images of 64×96'),
    'no epochs': (dict(epochs=0), '', 'max_epochs'),
    'warm-up': (dict(epochs=2), 'param_scheduler["warmup"] = 3\n', 'param_scheduler.warmup=3 epochs'),
    'channels': (dict(), 'train_dataloader["dataset"]["pipeline"][0]["color_type"] = "grayscale"\n', '1 channels'),
}


@pytest.mark.parametrize('name', SAID)
def test_a_known_misuse_is_one_line_with_key_and_value(commands, images, name):  # noqa: F811
    settings, more, said = SAID[name]
    assert said in commands.stopped(commands.config(MAE, images, **{'epochs': 1, **settings}, more=more), 'run')


def test_a_training_file_of_the_authors_opens_with_what_their_savers_write(commands, images, tmp_path):  # noqa: F811
    content = {'model': vit_state(), 'args': argparse.Namespace(lr=1.0, output_dir=tmp_path), 'epoch': np.int64(3),
               'step': torch.tensor(5)}
    save(tmp_path / 'checkpoint-1.pth', content)
    text = commands.train(commands.config(NET, images, epochs=1), 'run', '--init', tmp_path / 'checkpoint-1.pth')
    assert 'loaded all' in text


def test_names_that_only_begin_like_ours_are_not_converted(commands, tmp_path):  # noqa: F811
    names = 'stem.0.weight', 'stages.0.blocks.0.conv_dw.weight', 'stages.0.blocks.0.norm.weight', 'head.norm.weight'
    save(tmp_path / 'convnext.pth', {name: torch.ones(2, 2) for name in names})  # as timm calls them
    line = commands.refused('convert', 'layout', tmp_path / 'convnext.pth', tmp_path / 'out.pth', '--to', 'mmpretrain')
    assert 'stages.0.blocks.0' in line or 'stem.' in line
    assert not (tmp_path / 'out.pth').exists()


def scores(text):
    return [word for line in text.splitlines() if line.startswith('knn') for word in line.split()][1:]


def test_kept_features_that_are_not_as_they_were_written_make_no_score(commands, images, tmp_path):  # noqa: F811
    save(tmp_path / 'mae.pth', {'model': vit_state()})
    config = commands.config(NET, images)
    pictures(tmp_path / 'val', n=6)
    words = ['evaluate', config, tmp_path / 'mae.pth', '--protocols', 'knn', '--workers', 0, '--cache',
             tmp_path / 'cache', '--cfg-options', f'val_dataloader.dataset.data_root={tmp_path / "val"}']
    words = [*words[:-2], '--device', 'cpu']
    (tmp_path / 'own').rename(tmp_path / 'train')
    config.write_text(config.read_text().replace(images, str(tmp_path / 'train')))
    status, first = commands(*words)
    assert status == 0, first
    shutil.rmtree(tmp_path / 'cache/results')
    for file in (tmp_path / 'cache').rglob('features.npy'):
        array = np.full_like(np.load(file), np.nan)
        file.unlink()
        np.save(file, array)
    status, second = commands(*words)
    assert status == 0
    assert 'extracting the features cached in' not in first
    assert 'extracting the features cached in' in second
    assert scores(first) == scores(second) != []


def test_another_image_size_is_evaluated_by_the_option_that_the_refusal_names(commands, images, tmp_path):  # noqa: F811
    save(tmp_path / 'mae.pth', {'model': vit_state()})
    (tmp_path / 'own').rename(tmp_path / 'train')
    pictures(tmp_path / 'val', n=6)
    config = commands.config(NET | dict(backbone=dict(NET['backbone'], img_size=48)), str(tmp_path / 'train'))
    words = ['evaluate', config, tmp_path / 'mae.pth', '--protocols', 'knn', '--workers', 0, '--cache', tmp_path / 'c']
    assert '--resize' in commands.refused(*words)
    status, text = commands(*words, '--resize')
    assert status == 0, text
    assert scores(text)


def test_a_model_of_one_channel_is_drawn(commands, tmp_path):  # noqa: F811
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope
    init_default_scope('mmpretrain')
    demo = ROOT / 'experiments/demo/configs/mae.py'
    save(tmp_path / 'demo.pth', {'state_dict': MODELS.build(Config.fromfile(demo).model).state_dict(), 'meta': {}})
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / 'gray.png')
    status, text = commands('analyze', 'reconstruction', demo, tmp_path / 'demo.pth', '--images', tmp_path / 'gray.png',
                            '--out', tmp_path / 'out')
    assert status == 0, text
    assert list((tmp_path / 'out').glob('*.png'))


@pytest.mark.parametrize('content', [b'{', b'[]', b'{"protocols": []}', b'{"protocols": {"knn": 5}}', b'5',
                                     b'{"protocols": {"knn": {"top1": "a"}}}', b'\xff'])
def test_reports_that_are_none_are_named(commands, tmp_path, content):  # noqa: F811
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/report.json').write_bytes(content)
    assert 'a/report.json' in commands.refused('compare', tmp_path / 'a', '--plot', tmp_path / 'plot.png')


def test_a_picture_that_would_fill_the_memory_is_named(commands, images, tmp_path):  # noqa: F811
    file = io.BytesIO()
    Image.new('1', (1, 65000)).save(file, 'png')
    (tmp_path / 'thin.png').write_bytes(file.getvalue())
    model = commands.config(MAE, images)
    from mmengine.registry import MODELS, init_default_scope
    init_default_scope('mmpretrain')
    save(tmp_path / 'mae.pth', {'state_dict': MODELS.build(MAE).state_dict(), 'meta': {}})
    line = commands.refused('analyze', 'reconstruction', model, tmp_path / 'mae.pth', '--images', tmp_path / 'thin.png',
                            '--out', tmp_path / 'out')
    assert 'thin.png' in line
