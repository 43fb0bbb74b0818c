import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mm_graft.depth import depth_map

DEEP = {'embed_dims': 16, 'num_layers': 6, 'num_heads': 2, 'feedforward_channels': 32}
NECK = {'type': 'mm_graft.LocalMIMNeck', 'in_channels': 16, 'grids': 8, 'embed_dims': 8, 'num_heads': 2}
HEAD = {'type': 'mm_graft.LocalMIMHead'}


def build(**parts) -> torch.nn.Module:
    backbone = {'type': 'mm_graft.VisiblePatchViT', 'arch': DEEP, 'img_size': 32, 'patch_size': 4, 'taps': (1, 3, 5, 6)}
    target = {'type': 'mm_graft.HOGTarget', 'cells': (1, 2, 4, 8)}
    config = {'type': 'mm_graft.LocalMIM', 'backbone': backbone, 'neck': NECK, 'target_generator': target, 'head': HEAD}
    model = MODELS.build({**config, **parts})
    model.init_weights()
    return model


def gradients(model: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    total, _ = model.parse_losses(model.loss(images))
    total.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_the_optimized_loss_is_the_plain_sum_of_the_terms_in_the_log():
    model = build()
    losses = model.loss(torch.randn(2, 3, 32, 32))
    total, log = model.parse_losses(losses)
    assert sorted(losses) == [f'loss_scale{k}' for k in range(4)]
    assert total.item() == pytest.approx(sum(term.item() for term in losses.values()))
    assert total.item() == pytest.approx(log['loss'].item())


def test_every_trained_parameter_gets_a_gradient():
    model = build()
    expected = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert gradients(model, torch.randn(1, 3, 32, 32)).keys() == expected


def test_tap_norms_and_decoders_share_the_depth_of_their_block():
    depths = depth_map(build()).depths
    for k, tap in enumerate((1, 3, 5, 6)):
        assert depths[f'backbone.tap_norms.{k}.weight'] == tap
        assert depths[f'neck.decoders.{k}.mask_token'] == tap
    twelve = {'type': 'mm_graft.VisiblePatchViT', 'arch': {**DEEP, 'num_layers': 12}, 'img_size': 32, 'patch_size': 4}
    assert set(build(backbone=twelve).depth_overrides().values()) == {2, 4, 10, 12}


def test_more_than_ten_taps_are_told_apart():
    arch = {**DEEP, 'num_layers': 12}
    model = build(
        backbone={'type': 'mm_graft.VisiblePatchViT', 'arch': arch, 'img_size': 32, 'patch_size': 4,
                  'taps': range(1, 13)},
        neck={**NECK, 'scales': [1] * 12}, target_generator={'type': 'mm_graft.HOGTarget', 'cells': [4] * 12})
    depths = depth_map(model).depths
    assert [depths[f'neck.decoders.{k}.mask_token'] for k in range(12)] == list(range(1, 13))


def test_a_frozen_tap_switches_its_scale_off_and_leaves_the_others_as_they_were(monkeypatch):
    model, images = build(), torch.randn(1, 3, 32, 32)
    wanted = []
    forward = model.target_generator.forward
    monkeypatch.setattr(model.target_generator, 'forward', lambda x, scales: wanted.append(set(scales)) or forward(
        x, scales))
    keys = list(model.state_dict())
    torch.manual_seed(1)
    before = model.loss(images)
    model.on_freeze(3)
    torch.manual_seed(1)
    after = model.loss(images)
    assert wanted == [{0, 1, 2, 3}, {2, 3}]
    assert [after[f'loss_scale{k}'].item() for k in (0, 1)] == [0, 0]
    for name in ('loss_scale2', 'loss_scale3'):
        assert after[name].item() == pytest.approx(before[name].item(), rel=1e-6)
    assert list(model.state_dict()) == keys
    grads = gradients(model, images)
    assert not any('decoders.0' in name or 'decoders.1' in name or 'tap_norms.1' in name for name in grads)
    assert 'neck.decoders.2.mask_token' in grads


def test_decoders_of_dropped_scales_are_not_run():
    model = build()
    model.on_freeze(1)
    for module in (model.neck.decoders[0], model.backbone.tap_norms[0]):
        module.register_forward_hook(lambda *_: pytest.fail('it was run'))
    model.loss(torch.randn(1, 3, 32, 32))


def test_which_scales_live_follows_from_the_frozen_depth_alone():
    model = build()
    for depth, live in ((4, {2, 3}), (4, {2, 3}), (-1, {0, 1, 2, 3}), (0, {0, 1, 2, 3}), (1, {1, 2, 3}), (5, {3})):
        model.on_freeze(depth)
        assert model.live_scales == live
    with pytest.raises(ValueError, match='nothing would be left to learn'):
        model.on_freeze(6)


def test_under_autocast_the_terms_stay_close_and_the_targets_exact():
    model, images = build(), torch.randn(2, 3, 32, 32)
    torch.manual_seed(1)
    exact = model.reconstruct(images)
    torch.manual_seed(1)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = model.reconstruct(images)
    for k in range(4):
        assert mixed[0][k].dtype == torch.bfloat16
        assert torch.equal(exact[1][k], mixed[1][k])
        torch.testing.assert_close(mixed[0][k].float(), exact[0][k], atol=0.1, rtol=0.1)
    assert torch.equal(exact[2], mixed[2])


def test_whole_images_are_encoded_without_a_mask():
    assert build().extract_feat(torch.randn(1, 3, 32, 32))[0].shape == (1, 65, 16)


def test_an_encoder_without_taps_feeds_the_live_decoders_alone():
    model = build(backbone={'type': 'MAEViT', 'arch': DEEP, 'img_size': 32, 'patch_size': 4})
    model.live_scales = frozenset({1})
    preds = model.reconstruct(torch.randn(1, 3, 32, 32))[0]
    assert [pred is None for pred in preds] == [True, False, True, True]


def test_pixels_are_a_target_too():
    model = build(target_generator={'type': 'mm_graft.PixelTarget', 'cells': (1, 2, 4, 8)},
                  neck={**NECK, 'out_channels': [3, 12, 48, 192]})
    assert all(term.item() > 0 for name, term in model.loss(torch.randn(1, 3, 32, 32)).items() if name[-1] != '0')


def test_all_decoders_read_the_last_layer_of_the_hosts_mae_encoder():
    encoder = {'type': 'MAEViT', 'arch': DEEP, 'img_size': 32, 'patch_size': 4}
    model, images = build(backbone=encoder), torch.randn(2, 3, 32, 32)
    preds, targets, mask = model.reconstruct(images)
    assert mask.shape == (2, 8, 8)
    assert mask.sum().item() == 2 * 48
    assert [pred.shape for pred in preds] == [target.shape for target in targets]
    assert {'backbone.ln1.weight', 'neck.decoders.0.mask_token'} <= gradients(model, images).keys()
    assert {depth_map(model).depths[f'neck.decoders.{k}.mask_token'] for k in range(4)} == {7}
    assert model.extract_feat(images)[0].shape == (2, 65, 16)
    model.on_freeze(3)
    assert len(model.live_scales) == 4


def swin() -> torch.nn.Module:
    arch = {'embed_dims': 8, 'depths': [1, 1, 2, 1], 'num_heads': [1, 1, 2, 2]}
    return build(
        type='mm_graft.DenseLocalMIM',
        backbone={'type': 'mm_graft.LocalMIMSwin', 'arch': arch, 'img_size': 64, 'drop_path_rate': 0.,
                  'stage_cfgs': {'block_cfgs': {'window_size': 2}}},
        neck={'type': 'mm_graft.LocalMIMDenseNeck', 'in_channels': [16, 32, 64, 64], 'grids': [8, 4, 2, 2],
              'scales': (1, 1, 1, 1), 'embed_dims': 8, 'num_heads': 2},
        target_generator={'type': 'mm_graft.HOGTarget', 'cells': (8, 16, 32, 32)})


def masked_samples(batch: int) -> list[DataSample]:
    mask = torch.zeros(16, 16)
    mask[:8, :8] = 1  # one cell of 32 pixels in patches of 4
    return [DataSample(mask=mask) for _ in range(batch)]


def test_a_swin_that_keeps_masked_tokens_has_its_own_scales():
    model, images = swin(), torch.randn(2, 3, 64, 64)
    losses = model.loss(images, masked_samples(2))
    assert all(term.item() > 0 for term in losses.values())
    preds, targets, mask = model.reconstruct(images, masked_samples(2))
    assert [pred.shape for pred in preds] == [(2, n, 27) for n in (64, 16, 4, 4)]
    assert [target.shape for target in targets] == [pred.shape for pred in preds]
    assert mask.float().mean().item() == 0.25
    assert len(model.extract_feat(images)) == 4


def test_targets_are_those_of_the_image_itself():
    images = torch.randn(2, 3, 32, 32)
    model = build()
    for target, expected in zip(model.reconstruct(images)[1], model.target_generator(images)):
        torch.testing.assert_close(target, expected)


def test_the_mask_of_a_wide_image_has_its_rows_and_columns():
    model = build(backbone={'type': 'mm_graft.VisiblePatchViT', 'arch': DEEP, 'img_size': (16, 32), 'patch_size': 4,
                            'taps': (1, 3, 5, 6)}, neck={**NECK, 'grids': [(4, 8)] * 4})
    images, mask = torch.randn(1, 3, 16, 32), model.reconstruct(torch.randn(1, 3, 16, 32))[2]
    assert mask.shape == (1, 4, 8)
    torch.manual_seed(1)
    preds, _, mask = model.reconstruct(images)
    hidden = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    torch.manual_seed(1)
    others = model.reconstruct(torch.where(hidden, 9.0, images))[0]
    assert all(torch.equal(*pair) for pair in zip(preds, others))


def test_swin_sees_what_the_mask_leaves_and_all_of_a_whole_image():
    model, images, samples = swin().eval(), torch.randn(2, 3, 64, 64), masked_samples(2)
    torch.nn.init.normal_(model.backbone.mask_token)
    hidden = torch.zeros(64, 64, dtype=torch.bool)
    hidden[:32, :32] = True

    def predicted(pixels):
        return torch.cat(model.reconstruct(pixels, samples)[0], 1)

    torch.testing.assert_close(predicted(torch.where(hidden, 7.0, images)), predicted(images))
    assert not torch.allclose(predicted(torch.where(hidden, images, 7.0)), predicted(images))
    for pixels in (torch.where(hidden, 7.0, images), torch.where(hidden, images, 7.0)):
        assert not torch.allclose(model.extract_feat(pixels)[0], model.extract_feat(images)[0])


def test_swins_decoders_are_as_deep_as_the_last_block_of_their_stage():
    model = swin()
    depths = depth_map(model).depths
    assert [depths[f'neck.decoders.{k}.embed.weight'] for k in range(4)] == [1, 2, 4, 5]
    assert [depths[f'backbone.norm{k}.weight'] for k in range(4)] == [1, 2, 4, 5]
    model.on_freeze(2)
    losses = model.loss(torch.randn(1, 3, 64, 64), masked_samples(1))
    assert [losses[f'loss_scale{k}'].item() > 0 for k in range(4)] == [False, False, True, True]


def test_swins_decoders_of_dropped_scales_are_not_run():
    model = swin()
    model.on_freeze(2)
    preds, targets, _ = model.reconstruct(torch.randn(1, 3, 64, 64), masked_samples(1))
    assert [pred is None for pred in preds] == [target is None for target in targets] == [True, True, False, False]


def test_swin_needs_the_pipelines_mask():
    with pytest.raises(ValueError, match='SimMIMMaskGenerator'):
        swin().loss(torch.randn(1, 3, 64, 64), [DataSample()])
    with pytest.raises(ValueError, match='SimMIMMaskGenerator'):
        swin().loss(torch.randn(2, 3, 64, 64), [*masked_samples(1), DataSample()])


def test_parts_that_disagree_about_the_scales_are_refused():
    with pytest.raises(ValueError, match=r"'target_generator.cells': 2"):
        build(target_generator={'type': 'mm_graft.HOGTarget', 'cells': (4, 8)})
    with pytest.raises(ValueError, match=r"'head.weights': 3"):
        build(head={**HEAD, 'weights': (1, 1, 1)})
    with pytest.raises(ValueError, match="'taps of the encoder': 2"):
        build(backbone={'type': 'mm_graft.VisiblePatchViT', 'arch': DEEP, 'img_size': 32, 'patch_size': 4,
                        'taps': (1, 6)})


def test_cells_that_do_not_match_the_scales_are_refused():
    with pytest.raises(ValueError, match='scale 0: prediction'):
        build(target_generator={'type': 'mm_graft.HOGTarget', 'cells': (8, 4, 2, 1)}).loss(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize('target', ['HOGTarget', 'PixelTarget'])
def test_images_of_five_channels_are_predicted(target):
    backbone = {'type': 'mm_graft.VisiblePatchViT', 'arch': DEEP, 'img_size': 32, 'patch_size': 4, 'taps': (1, 3, 5, 6),
                'patch_cfg': dict(in_channels=5)}
    generator = {'type': f'mm_graft.{target}', 'cells': (1, 2, 4, 8)}
    sizes = MODELS.build(generator)(torch.rand(1, 5, 32, 32))
    model = build(backbone=backbone, target_generator=generator,
                  neck={**NECK, 'out_channels': [tokens.shape[-1] for tokens in sizes]})
    stem = gradients(model, torch.randn(2, 5, 32, 32))['backbone.patch_embed.projection.weight']
    assert all(stem[:, channel].abs().sum() > 0 for channel in range(5))
