import os

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mm_graft.commands.start import facts
from mm_graft.commands.start.facts import busy, look_at_folder, look_at_machine, matrix_rate


def picture(path, size=(40, 30), mode='RGB'):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0]), np.uint8)).convert(mode).save(path)


def test_the_folder_is_counted_as_training_counts_it_and_described(tmp_path):
    for index in range(3):
        picture(tmp_path / 'a' / f'{index}.jpg')
    picture(tmp_path / 'b' / 'ü.webp', (64, 100))
    picture(tmp_path / 'b' / 'gray.png', mode='L')
    Image.fromarray(np.full((30, 30), 4000, np.uint16)).save(tmp_path / 'deep.png')
    picture(tmp_path / '.hidden' / 'x.jpg')
    (tmp_path / 'notes.txt').write_text('no image')
    (tmp_path / 'broken.jpg').write_bytes(b'not a jpeg')
    folder, images, lines = look_at_folder(tmp_path)
    assert len(images.names) == 7
    assert folder.images == 6
    assert folder.side == 30
    text = '\n'.join(lines)
    for part in ('7 images', '.txt 1', 'hidden', '1 of more than 8 bits', 'broken.jpg', 'shorter side 30 to 64'):
        assert part in text, part


def test_a_list_is_looked_at_like_a_folder(tmp_path):
    for index in range(3):
        picture(tmp_path / 'all' / f'{index}.jpg')
    (tmp_path / 'list.txt').write_text('all/2.jpg\nall/0.jpg\n')
    folder, images, lines = look_at_folder(tmp_path / 'list.txt')
    assert (folder.images, folder.side, images.names) == (2, 30, ['all/2.jpg', 'all/0.jpg'])
    assert '2 images' in lines[0]


def test_a_folder_without_a_readable_image_is_refused(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'')
    with pytest.raises(ValueError, match=r'no readable image.*a\.jpg: the file is empty'):
        look_at_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        look_at_folder(tmp_path / 'nowhere')


def test_the_machine_has_cores_memory_and_a_speed():
    machine = look_at_machine('cpu')
    assert machine.device == 'cpu'
    assert 1 <= machine.cores <= os.cpu_count()
    assert machine.memory >= 1
    assert machine.flops > 1e8
    assert look_at_machine().device == ('cuda' if torch.cuda.is_available() else 'cpu')
    assert matrix_rate('cpu', False, seconds=0.01) > 1e8


def test_the_speed_is_that_of_the_fastest_product_and_not_of_a_busy_moment(monkeypatch):
    clock = iter([0.0, 0.0, 0.5, 0.5, 0.5, 0.6, 0.6, 0.6, 1.0, 1.0])  # the end of all; start, end, now of each product
    monkeypatch.setattr(facts.time, 'perf_counter', lambda: next(clock))
    assert matrix_rate('cpu', False, seconds=1.0) == pytest.approx(2 * facts.MATRIX['cpu'] ** 3 / 0.1)


def test_a_plan_says_that_others_compute_here(monkeypatch):
    monkeypatch.setattr(facts.os, 'getloadavg', lambda: (3.9, 0.0, 0.0))
    assert busy(4) is None
    assert 'load 4 on 2 cores' in busy(2)


def save_channels(folder, image, ending='npy'):
    for index in range(3):
        if ending == 'npy':
            np.save(folder / f'{index}.npy', image + index)
        else:
            cv2.imwrite(str(folder / f'{index}.{ending}'), image)


@pytest.mark.parametrize(('dtype', 'mean', 'value_range'), [
    (np.uint8, [101, 101], None), (np.uint16, [101 / 257] * 2, None), (np.int32, [127.5] * 2, (100, 102))])
def test_arrays_are_recognized_with_their_channels_and_normalization(tmp_path, dtype, mean, value_range):
    save_channels(tmp_path, np.full((30, 40, 2), 100, dtype))
    (tmp_path / 'one.jpg').write_bytes(b'not what most files are')
    folder, images, lines = look_at_folder(tmp_path)
    assert (folder.images, folder.side, len(images.names)) == (3, 30, 3)
    assert folder.channels.mean == pytest.approx(mean, rel=1e-4)
    assert folder.channels.value_range == value_range
    assert any('2 channels at their full depth' in line for line in lines)


def test_deep_gray_and_four_bands_keep_their_depth_and_photographs_do_not(tmp_path):
    for name in ('gray', 'bands', 'photo', 'mixed'):
        (tmp_path / name).mkdir()
    save_channels(tmp_path / 'gray', np.full((30, 40), 5000, np.uint16), 'png')
    save_channels(tmp_path / 'bands', np.full((30, 40, 4), 5000, np.uint16), 'tif')
    save_channels(tmp_path / 'photo', np.full((30, 40, 3), 50, np.uint8), 'tif')
    save_channels(tmp_path / 'mixed', np.full((30, 40, 3), 50, np.uint8), 'jpg')
    save_channels(tmp_path / 'mixed', np.full((30, 40), 5000, np.uint16), 'png')
    found = {path.name: look_at_folder(path)[0].channels for path in tmp_path.iterdir()}
    assert len(found['gray'].mean) == 1
    assert len(found['bands'].mean) == 4
    assert found['photo'] is found['mixed'] is None
