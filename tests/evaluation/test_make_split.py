import pytest
from mmengine.config import Config

from mm_graft.evaluation.make_split import make_split


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


def test_public_list_gets_its_labels_from_the_data(folder, tmp_path):
    (tmp_path / 'public.txt').write_text('b3.jpg\na1.jpg\n')
    make_split(folder, tmp_path / 'out.txt', from_list=str(tmp_path / 'public.txt'))
    assert (tmp_path / 'out.txt').read_text() == 'a/a1.jpg 0\nb/b3.jpg 1\n'


def test_exactly_one_way_must_be_given(folder, tmp_path):
    with pytest.raises(ValueError, match='exactly one'):
        make_split(folder, tmp_path / 'out.txt', share=0.1, per_class=2)
    with pytest.raises(ValueError, match='exactly one'):
        make_split(folder, tmp_path / 'out.txt')
