import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Four images in each of two classes."""
    for index in range(8):
        place = tmp_path / 'data' / f'class{index % 2}'
        place.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(place / f'{index}.png')
    return tmp_path / 'data'


@pytest.mark.parametrize(('how', 'images'), [(('--per-class', 1), 2), (('--share', 0.5), 4)])
def test_a_list_is_drawn_of_each_class(run, folder, tmp_path, how, images):
    told = run('split', folder, tmp_path / 'list.txt', *how)
    assert f'{images} images of 2 classes, ' in told
    labels = [line.split()[-1] for line in (tmp_path / 'list.txt').read_text().splitlines()]
    assert sorted(labels) == sorted(['0', '1'] * (images // 2))


def test_the_draw_follows_the_seed(run, folder, tmp_path):
    lists = []
    for seed in (0, 0, 1):
        run('split', folder, tmp_path / 'list.txt', '--per-class', 2, '--seed', seed)
        lists.append((tmp_path / 'list.txt').read_text())
    assert lists[0] == lists[1] != lists[2]
