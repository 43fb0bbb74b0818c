import numpy as np
import pytest

from mm_graft.analysis.segmentation_figure import color, draw

PALETTE = [[1, 2, 3], [4, 5, 6]]


def test_classes_have_their_colors_and_void_is_white():
    assert color(np.array([[0, 1], [11, 1]]), PALETTE).tolist() == [
        [[1, 2, 3], [4, 5, 6]], [[255, 255, 255], [4, 5, 6]]]


def test_every_image_has_a_row_and_every_model_a_column(tmp_path):
    maps = [np.zeros((6, 8), int), np.ones((6, 8), int)]
    figure = draw([np.zeros((6, 8, 3), np.uint8)] * 2, {'truth': maps, 'random': maps}, ['sky', 'road'], PALETTE)
    assert len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes[:3]] == ['image', 'truth', 'random']
    assert figure.axes[4].images[0].get_array()[0, 0].tolist() == [4, 5, 6]
    figure.savefig(tmp_path / 'a.png')


def test_a_map_per_image_is_asked_for():
    with pytest.raises(ValueError, match="'truth' has 1 entries for 2 images"):
        draw([np.zeros((6, 8, 3), np.uint8)] * 2, {'truth': [np.zeros((6, 8), int)]}, ['sky'], PALETTE)


def test_a_segmentor_predicts_at_the_size_of_the_annotation(tiny_arch):
    import torch
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, init_default_scope
    from mmseg.structures import SegDataSample

    from mm_graft.analysis.segmentation_figure import predict
    init_default_scope('mmseg')
    model = MODELS.build(dict(
        type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', test_cfg=dict(size_divisor=8)),
        backbone=dict(type='mmpretrain.VisionTransformer', arch=tiny_arch, img_size=32, patch_size=8,
                      out_type='featmap'),
        decode_head=dict(type='FCNHead', in_channels=16, channels=8, num_classes=3, in_index=0,
                         norm_cfg=dict(type='BN')),
        train_cfg=dict(), test_cfg=ConfigDict(mode='whole')))
    model.eval()
    sample = SegDataSample(metainfo=dict(ori_shape=(30, 44), img_shape=(30, 44), pad_shape=(32, 48)))
    labels = predict(model, dict(inputs=torch.zeros(3, 30, 44, dtype=torch.uint8), data_samples=sample))
    assert labels.shape == (30, 44)
    assert set(np.unique(labels)) <= {0, 1, 2}
