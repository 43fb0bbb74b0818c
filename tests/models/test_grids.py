import pytest
from mmengine.registry import MODELS

from mm_graft.models.grids import check_divides, check_grids, grid_of
from tests.tiny import VIT, grafted_mocov3, mae

WIDE = dict(img_size=(16, 64))  # 2×8 patches of 8: as many as the 4×4 of a square


def ours(grid=(2, 8), **backbone):
    settings = mae(type='mm_graft.MAEViT', **backbone)
    neck = {key: value for key, value in settings['neck'].items() if key not in ('type', 'num_patches')}
    return settings | dict(neck=dict(type='mm_graft.MAEPretrainDecoder', grid=grid, **neck),
                           head=settings['head'] | dict(type='mm_graft.MAEPretrainHead'))


@pytest.mark.parametrize(('size', 'patch', 'fits'), [
    ((32, 48), 16, True), ((32, 40), 16, False), ((40, 32), 16, False), ((32, 48), (16, 24), True),
    ((48, 32), (16, 24), False)])
def test_patches_fit_or_are_refused(size, patch, fits):
    if fits:
        check_divides(size, patch)
    else:
        with pytest.raises(ValueError, match=f'do not divide an image of {size[0]}×{size[1]}'):
            check_divides(size, patch)


def test_square_models_of_the_host_are_as_good_as_ours():
    for settings in (mae(), ours(grid=4), grafted_mocov3() | dict(backbone=dict(type='MoCoV3ViT', **VIT)),
                     dict(type='VisionTransformer', **VIT)):
        check_grids(MODELS.build(settings))


@pytest.mark.parametrize(('settings', 'named'), [
    (mae(**WIDE), r"backbone \(MAEViT\) .* 2×8 patches; use type='mm_graft.MAEViT'"),
    (ours(**WIDE) | dict(head=mae()['head']), r"head \(MAEPretrainHead\) .*use type='mm_graft.MAEPretrainHead'"),
    (ours(**WIDE) | dict(neck=mae()['neck']), r"neck \(MAEPretrainDecoder\) .*'mm_graft.MAEPretrainDecoder'"),
    (grafted_mocov3() | dict(backbone=dict(type='MoCoV3ViT', **VIT | WIDE)), r"backbone \(MoCoV3ViT\) .*mm_graft.Gr")])
def test_what_the_host_builds_for_squares_is_refused_on_wide_images(settings, named):
    with pytest.raises(ValueError, match=named):
        check_grids(MODELS.build(settings))


def test_parts_of_ours_are_right_on_wide_images():
    check_grids(MODELS.build(ours(**WIDE)))
    check_grids(MODELS.build(grafted_mocov3(**WIDE)))


@pytest.mark.parametrize('grid', [(8, 2), 4])
def test_a_decoder_of_another_grid_with_as_many_patches_is_refused(grid):
    with pytest.raises(ValueError, match=r'neck .*is built for (8×2|4×4) patches, but the encoder has 2×8'):
        check_grids(MODELS.build(ours(grid=grid, **WIDE)))


def test_localmims_decoders_are_compared_with_the_encoder_too():
    settings = dict(
        type='mm_graft.LocalMIM', backbone=dict(type='mm_graft.VisiblePatchViT', taps=(2, 4), **VIT | WIDE),
        neck=dict(type='mm_graft.LocalMIMNeck', in_channels=16, grids=[(2, 8), (4, 4)], scales=[2, 1],
                  out_channels=27, embed_dims=16, num_heads=2),
        head=dict(type='mm_graft.LocalMIMHead'),
        target_generator=dict(type='mm_graft.HOGTarget', nbins=9, cells=[4, 8]))
    with pytest.raises(ValueError, match=r'neck.decoders.1 .*built for 4×4 patches, but the encoder has 2×8'):
        check_grids(MODELS.build(settings))
    settings['neck']['grids'] = [(2, 8)] * 2
    check_grids(MODELS.build(settings))


def test_the_grid_of_a_timm_encoder_is_known():
    timm = MODELS.build(dict(type='TIMMBackbone', model_name='vit_tiny_patch16_224', img_size=(32, 64)))
    assert grid_of(timm.timm_model) == (2, 4)
    check_grids(timm)
