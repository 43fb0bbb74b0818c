import numpy as np
import pytest
from mmengine.config import Config

from mm_graft.evaluation.splits import (
    at_most,
    make_split,
    pick_per_class,
    pick_share,
    read_list,
    sha256_of_list,
    write_list,
)

LABELS = np.array([0] * 100 + [1] * 30 + [2] * 10)


def test_draws_are_balanced_seeded_and_without_repeats():
    rows = pick_per_class(LABELS, 5, seed=0)
    assert np.bincount(LABELS[rows]).tolist() == [5, 5, 5]
    assert len(set(rows)) == 15
    assert (rows == pick_per_class(LABELS, 5, seed=0)).all()
    assert (rows != pick_per_class(LABELS, 5, seed=1)).any()


def test_share_is_taken_of_each_class_and_is_at_least_one_image():
    assert np.bincount(LABELS[pick_share(LABELS, 0.1, 0)]).tolist() == [10, 3, 1]
    assert np.bincount(LABELS[pick_share(LABELS, 0.01, 0)]).tolist() == [1, 1, 1]
    assert len(pick_share(LABELS, 1.0, 0)) == len(LABELS)


def test_a_draw_may_be_one_image_or_all_of_the_smallest_class():
    assert np.bincount(LABELS[pick_per_class(LABELS, 1, 0)]).tolist() == [1, 1, 1]
    assert np.bincount(LABELS[pick_per_class(LABELS, 10, 0)]).tolist() == [10, 10, 10]
    assert np.bincount(LABELS[LABELS != 1][pick_per_class(LABELS[LABELS != 1], 3, 0)]).tolist() == [3, 0, 3]


@pytest.mark.parametrize(('call', 'word'), [
    (lambda: pick_per_class(LABELS, 11, 0), 'class 2 has 10 images'),
    (lambda: pick_per_class(LABELS, 11, 0, 'abc'), "class 'c' has 10 images"),
    (lambda: pick_per_class(LABELS, 0, 0), 'per_class=0'),
    (lambda: pick_share(LABELS, 0.0, 0), 'share=0.0'), (lambda: pick_share(LABELS, 1.1, 0), 'share=1.1'),
])
def test_impossible_draws_name_the_value(call, word):
    with pytest.raises(ValueError, match=word):
        call()


def test_list_is_read_back_and_bare_file_names_will_do(tmp_path):
    names = ['a/x 1.jpg', 'a/y.jpg', 'b/z.jpg']
    sha256 = write_list(tmp_path / 'list.txt', [names[2], names[0]], [1, 0])
    assert (tmp_path / 'list.txt').read_text() == 'b/z.jpg 1\na/x 1.jpg 0\n'
    assert read_list(tmp_path / 'list.txt', names).tolist() == [0, 2]
    (tmp_path / 'public.txt').write_text('z.jpg\n  \ny.jpg\n\nx 1.jpg\n')
    assert read_list(tmp_path / 'public.txt', names).tolist() == [0, 1, 2]
    assert sha256 == sha256_of_list([names[0], names[2]])
    assert sha256 != sha256_of_list(names)


def test_list_of_another_data_set_is_refused(tmp_path):
    (tmp_path / 'l.txt').write_text('q.jpg\n')
    with pytest.raises(ValueError, match=r'1 of 1 images are not in the data set or not unique, first q\.jpg'):
        read_list(tmp_path / 'l.txt', ['a/y.jpg'])
    (tmp_path / 'l.txt').write_text('y.jpg\n')
    with pytest.raises(ValueError, match='not unique'):
        read_list(tmp_path / 'l.txt', ['a/y.jpg', 'b/y.jpg'])
    (tmp_path / 'l.txt').write_text('\n')
    with pytest.raises(ValueError, match='empty'):
        read_list(tmp_path / 'l.txt', ['a/y.jpg'])
    with pytest.raises(ValueError, match='does not exist'):
        read_list(tmp_path / 'none.txt', [])


def test_at_most_so_many_rows_are_a_share_of_every_class():
    labels = np.repeat([0, 1], [80, 20])
    rows = at_most(labels, 10)
    assert np.bincount(labels[rows]).tolist() == [8, 2]
    assert at_most(labels, 10, seed=1) != rows == at_most(labels, 10)
    assert at_most(labels, 100) == list(range(100))


@pytest.fixture
def folder(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / 'images' / name).mkdir(parents=True)
        for index in range(10):
            (tmp_path / 'images' / name / f'{name}{index}.jpg').touch()
    return tmp_path / 'images'


def test_folder_and_config_give_the_same_list(folder, tmp_path):
    first = make_split(folder, tmp_path / 'one.txt', share=0.2)
    train = dict(type='CustomDataset', data_root=str(folder), pipeline=[])
    loader = {'dataset': train}
    cfg = Config({'model': {'backbone': {}}, 'train_dataloader': loader, 'test_dataloader': loader})
    second = make_split(cfg, tmp_path / 'two.txt', share=0.2)
    assert first == second
    assert first['images'] == 4
    assert first['classes'] == 2
    assert (tmp_path / 'one.txt').read_text() == (tmp_path / 'two.txt').read_text()
    assert first == make_split(folder, tmp_path / 'one.txt', share=0.2, seed=0)
    assert first != make_split(folder, tmp_path / 'one.txt', share=0.2, seed=1)


def test_public_list_gets_its_labels_from_the_data(folder, tmp_path):
    (tmp_path / 'public.txt').write_text('b3.jpg\na1.jpg\n')
    make_split(folder, tmp_path / 'out.txt', from_list=str(tmp_path / 'public.txt'))
    assert (tmp_path / 'out.txt').read_text() == 'a/a1.jpg 0\nb/b3.jpg 1\n'


def test_exactly_one_way_must_be_given(folder, tmp_path):
    with pytest.raises(ValueError, match='exactly one'):
        make_split(folder, tmp_path / 'out.txt', share=0.1, per_class=2)
    with pytest.raises(ValueError, match='exactly one'):
        make_split(folder, tmp_path / 'out.txt')
