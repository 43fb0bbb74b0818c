import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

import mm_graft
from mm_graft.checkpoints import CheckpointError
from tests.tiny import grafted_mocov3, mae_file, settings


@pytest.fixture
def timm_file(tmp_path):
    """A ViT of timm with one head of width 64, and its file."""
    model = timm.create_model('vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=64, depth=3, num_heads=1,
                              num_classes=0).eval()
    torch.save(model.state_dict(), tmp_path / 'timm.pth')
    return model, str(tmp_path / 'timm.pth')


MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def test_a_file_of_timm_gives_timms_tokens(timm_file):
    model, path = timm_file
    images = torch.rand(2, 3, 32, 32)
    tokens = mm_graft.load_encoder(path)(images)
    expected = model.forward_features((images - MEAN) / STD)
    torch.testing.assert_close(tokens.class_token, expected[:, 0])
    torch.testing.assert_close(tokens.patch_tokens, expected[:, 1:])


def test_tokens_of_a_block_are_those_before_any_norm(timm_file):
    model, path = timm_file
    images = torch.rand(2, 3, 32, 32)
    expected = model.forward_intermediates((images - MEAN) / STD, indices=[1], output_fmt='NLC', norm=False,
                                           intermediates_only=True)[0]
    encoder = mm_graft.load_encoder(path)
    torch.testing.assert_close(encoder(images, block=2).patch_tokens, expected)
    with pytest.raises(ValueError, match=r'no block 4; .* blocks 1 to 3'):
        encoder(images, block=4)


def test_a_checkpoint_of_a_run_says_how_it_was_made(tmp_path):
    (tmp_path / 'run').mkdir()
    runner = Runner(**settings(grafted_mocov3(), tmp_path / 'run'), cfg=Config(dict(model=grafted_mocov3())))
    runner.train()
    encoder = mm_graft.load_encoder(tmp_path / 'run' / 'epoch_1.pth')
    assert (encoder.image_size, encoder.width) == ((32, 32), 16)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    images = torch.rand(2, 3, 32, 32)
    expected = runner.model.eval().backbone(255 * images)[-1]
    torch.testing.assert_close(encoder(images).class_token, expected)
    average = mm_graft.load_encoder(tmp_path / 'run' / 'epoch_1.pth', branch='momentum')
    assert not torch.equal(average(images).class_token, expected)


def test_a_config_that_is_given_counts(tmp_path):
    path = mae_file(tmp_path / 'mae.pth')
    vit = dict(type='mm_graft.GraftViT', arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
               img_size=32, patch_size=8)
    given = mm_graft.load_encoder(path, Config(dict(model=dict(
        backbone=vit, data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3)))))
    images = torch.rand(1, 3, 32, 32)
    plain = MODELS.build(vit)
    plain.load_state_dict(given.encoder.backbone.state_dict())
    torch.testing.assert_close(given(images).class_token, plain.eval()(images)[0])


def test_other_images_and_other_files_are_refused(tmp_path, timm_file):
    encoder = mm_graft.load_encoder(timm_file[1])
    for shape in ((1, 3, 40, 32), (1, 1, 32, 32), (3, 32, 32)):
        with pytest.raises(ValueError, match=r'takes \(B, 3, 32, 32\)'):
            encoder(torch.rand(shape))
    state = timm_file[0].state_dict()
    state['pos_embed'] = state['pos_embed'][:, :13]
    torch.save(state, tmp_path / 'odd.pth')
    with pytest.raises(CheckpointError, match='is of no square grid of patches'):
        mm_graft.load_encoder(tmp_path / 'odd.pth')


@pytest.mark.parametrize(('images', 'said'), [
    (torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8), r'torch\.uint8; .* floating point, in 0…1'),
    (torch.full((1, 3, 32, 32), 200.0), 'from 200 to 200; .* divide by 255'),
    (torch.linspace(-2.1, 2.6, 3072).view(1, 3, 32, 32), r'from -2\.1 to 2\.6; .* leave out a normalization'),
    (torch.full((1, 3, 32, 32), float('nan')), 'from nan to nan')])
def test_images_of_another_range_are_refused(timm_file, images, said):
    encoder = mm_graft.load_encoder(timm_file[1])
    with pytest.raises(ValueError, match=said):
        encoder(images)
    assert not encoder.looked
    encoder(torch.rand(1, 3, 32, 32) * 1.4 - 0.2)  # as bicubic resizing makes them
    assert encoder.looked


def test_it_evaluates_and_can_be_exported(timm_file):
    encoder = mm_graft.load_encoder(timm_file[1])
    assert not any(module.training for module in encoder.modules())
    images = torch.rand(2, 3, 32, 32)
    exported = torch.export.export(encoder, (images, )).module()
    for ours, theirs in zip(encoder(images), exported(images)):
        torch.testing.assert_close(theirs, ours)
