from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmseg.datasets import BaseSegDataset
from PIL import Image
from torch import nn

from mm_graft.commands.first_masks import check_masks

CLASSES = ('sky', 'road', 'car')


def model(num_classes=3, auxiliary=None, ignore_index=255):
    def head(number):
        return SimpleNamespace(num_classes=number, ignore_index=ignore_index)
    return SimpleNamespace(decode_head=head(num_classes), auxiliary_head=auxiliary and head(auxiliary))


@pytest.fixture
def masks(tmp_path):
    """A data set of masks that hold given values, each in a row of its own."""
    def make(*values, classes=CLASSES, **settings):
        for index, those in enumerate(values):
            mask = those if isinstance(those, np.ndarray) else np.tile(np.uint8([those]).T, (2, 4))
            for folder, image in (('images', np.zeros((*mask.shape[:2], 3), np.uint8)), ('masks', mask)):
                (tmp_path / folder).mkdir(exist_ok=True)
                cv2.imwrite(str(tmp_path / folder / f'{index}.png'), image)
        return BaseSegDataset(
            metainfo=classes and dict(classes=classes), img_suffix='.png', data_root=str(tmp_path),
            data_prefix=dict(img_path='images', seg_map_path='masks'),
            pipeline=[dict(type='mmseg.LoadImageFromFile'), dict(type='mmseg.LoadAnnotations')], **settings)
    return make


def test_masks_of_the_classes_pass(masks):
    check_masks('train_dataloader.dataset', model(auxiliary=3), masks([0, 1, 255], [2]))
    check_masks('train_dataloader.dataset', model(), masks([0, 1, 2, 3], reduce_zero_label=True))
    check_masks('train_dataloader.dataset', model(150), masks([0, 149], classes=None))


def refused(message, net, data):
    with pytest.raises(ValueError, match=message):
        check_masks('val_dataloader.dataset', net, data)


def test_heads_have_the_classes_of_the_data(masks):
    refused(r'val_dataloader\.dataset has 3 classes \(sky, road, car\), but model\.decode_head\.num_classes=150; '
            r'--cfg-options model\.decode_head\.num_classes=3', model(150), masks([0]))
    refused(r'model\.auxiliary_head\.num_classes=4', model(auxiliary=4), masks([0]))
    several = model()
    several.auxiliary_head = nn.ModuleList([nn.Identity(), nn.Identity()])
    several.auxiliary_head[1].num_classes = 5
    several.auxiliary_head[1].ignore_index = 255
    refused(r'model\.auxiliary_head\.1\.num_classes=5', several, masks([0]))


def test_a_value_that_no_head_knows_is_named_with_its_file(masks):
    refused(r'mask .*masks/1\.png has the values \[4, 7\], but model\.decode_head\.num_classes=3 knows 0 to 2 and 255',
            model(), masks([0, 1], [4, 7]))


def test_a_value_too_many_beside_zero_speaks_of_the_zero_label(masks):
    refused(r'values \[3\].*if 0 is no class, set val_dataloader\.dataset\.reduce_zero_label=True',
            model(), masks([0, 1, 3]))
    refused(r'values \[3\].*correct num_classes', model(), masks([1, 3]))


def test_a_class_that_is_taken_for_nothing_is_named(masks):
    refused(r'reduce_zero_label=True takes the value 0 for nothing and 3 for the last of 3 classes \(car\).*'
            r'0 is a class \(sky\); --cfg-options val_dataloader\.dataset\.reduce_zero_label=False',
            model(), masks([0, 1], [2], reduce_zero_label=True))
    check_masks('val_dataloader.dataset', model(), masks([1, 2], reduce_zero_label=True))  # 0 does not occur
    check_masks('val_dataloader.dataset', model(), masks([0, 2], [0], reduce_zero_label=True))  # nor does 1


def test_masks_that_are_right_without_the_last_class_pass_by_the_key_that_the_refusal_names(masks):
    data = masks([0, 1], [2], reduce_zero_label=True)
    refused(r'right and have no car, val_dataloader\.dataset\.metainfo\.zero_label_checked=True', model(), data)
    data._metainfo['zero_label_checked'] = True
    check_masks('val_dataloader.dataset', model(), data)


def test_masks_of_three_channels_are_named(masks):
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 1] = 1
    refused(r'mask .*0\.png has 3 channels', model(), masks(image))


def test_what_is_ignored_has_one_number(masks):
    refused(r'val_dataloader\.dataset\.ignore_index=254, but model\.decode_head\.ignore_index=255',
            model(), masks([0], ignore_index=254))
    check_masks('val_dataloader.dataset', model(ignore_index=254), masks([0, 254], ignore_index=254))
    check_masks('val_dataloader.dataset', model(ignore_index=None), masks([0, 255]))


def test_a_mask_that_cannot_be_read_is_named(masks, tmp_path):
    data = masks([0], [1])
    (tmp_path / 'masks' / '1.png').write_bytes(b'no image')
    refused(r'mask .*1\.png of image .*1\.png cannot be read', model(), data)


def test_data_without_masks_is_left_alone():
    check_masks('val_dataloader.dataset', model(), SimpleNamespace(pipeline=None))
    check_masks('val_dataloader.dataset', SimpleNamespace(decode_head=nn.Identity()), SimpleNamespace())


def test_a_second_class_in_the_color_of_what_is_ignored_is_refused(masks):
    message = r'nothing but 0 and 255, which is ignored.*write 1 instead of 255, or.*val_dataloader\.dataset\.metainfo'
    two = CLASSES[:2]
    refused(message, model(2), masks([0, 255], [0], classes=two))
    right = masks([0, 255], [0], classes=two)
    right._metainfo['zero_label_checked'] = True
    check_masks('val_dataloader.dataset', model(2), right)
    check_masks('val_dataloader.dataset', model(2), masks([0, 255], [1], classes=two))
    check_masks('val_dataloader.dataset', model(), masks([0, 255], [0]))  # of three classes two may be rare


def test_numbers_of_which_mmseg_would_keep_the_lower_bits_are_refused(masks):
    many = model(300)
    refused(r'mask .*1\.png has values up to 257, of which mmseg keeps the lower eight bits', many,
            masks([0], np.full((4, 4), 257, np.uint16), classes=None))
    check_masks('val_dataloader.dataset', many, masks([0], np.full((4, 4), 250, np.uint16), classes=None))


@pytest.mark.parametrize(('orientation', 'size', 'passes'), [
    (1, (8, 12), True), (1, (12, 8), False), (1, (4, 6), True), (1, (8, 11), False), (6, (12, 8), True),
    (6, (8, 12), False), (3, (8, 12), True)])
def test_a_mask_has_the_shape_of_its_image_as_it_is_shown(masks, tmp_path, orientation, size, passes):
    data = masks(np.zeros(size, np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (12, 8)).save(tmp_path / 'images' / '0.png', exif=exif)
    if passes:
        check_masks('val_dataloader.dataset', model(), data)
    else:
        refused(rf'mask .*0\.png has {size[0]}×{size[1]} pixels, its image .*0\.png .*turn or crop', model(), data)
