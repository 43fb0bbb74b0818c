import numpy as np
import pytest
from PIL import Image

from mm_graft.datasets.masks_to_coco import masks_to_coco, run_lengths


@pytest.fixture
def labels(tmp_path):
    """A map of 4×6: class 2 in two regions, one joined at a corner only, class 5 of one pixel."""
    array = np.array([[0, 2, 2, 0, 0, 0],
                      [0, 2, 0, 0, 2, 0],
                      [0, 0, 0, 2, 0, 0],
                      [5, 0, 0, 0, 0, 0]], np.uint8)
    Image.fromarray(array).save(tmp_path / 'labels.png')
    return array, tmp_path / 'labels.png'


def decode(segmentation):
    flat = np.concatenate([np.full(count, index % 2) for index, count in enumerate(segmentation['counts'])])
    return flat.reshape(segmentation['size'][::-1]).T.astype(bool)


def test_each_region_is_an_object_with_box_area_and_mask(labels):
    array, path = labels
    coco = masks_to_coco({'a.jpg': path}, {'car': 2, 'person': 5})
    assert coco['images'] == [{'id': 1, 'file_name': 'a.jpg', 'height': 4, 'width': 6}]
    assert coco['categories'] == [{'id': 1, 'name': 'car'}, {'id': 2, 'name': 'person'}]
    first, second, third = coco['annotations']
    assert [entry['bbox'] for entry in coco['annotations']] == [[1, 0, 2, 2], [3, 1, 2, 2], [0, 3, 1, 1]]
    assert [entry['area'] for entry in coco['annotations']] == [3, 2, 1]
    assert [entry['category_id'] for entry in coco['annotations']] == [1, 1, 2]
    np.testing.assert_array_equal(decode(first['segmentation']) | decode(second['segmentation']), array == 2)
    np.testing.assert_array_equal(decode(third['segmentation']), array == 5)


def test_run_lengths_go_down_the_columns_and_start_with_zeros():
    assert run_lengths(np.array([[True, False], [True, True]])) == {'size': [2, 2], 'counts': [0, 2, 1, 1]}
    assert run_lengths(np.array([[False, True, True]])) == {'size': [1, 3], 'counts': [1, 2]}
    assert run_lengths(np.zeros((2, 3), bool)) == {'size': [2, 3], 'counts': [6]}


def test_small_regions_and_other_classes_are_left_out(labels):
    coco = masks_to_coco({'a.jpg': labels[1], 'b.jpg': labels[1]}, {'car': 2}, min_area=3)
    assert [(entry['image_id'], entry['area'], entry['id']) for entry in coco['annotations']] == [(1, 3, 1), (2, 3, 2)]


def test_what_makes_no_data_set_is_said(tmp_path, labels):
    with pytest.raises(ValueError, match='1 images and 0 classes'):
        masks_to_coco({'a.jpg': labels[1]}, {})
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / 'rgb.png')
    with pytest.raises(ValueError, match=r'rgb.png has shape \(4, 4, 3\)'):
        masks_to_coco({'a.jpg': tmp_path / 'rgb.png'}, {'car': 1})
