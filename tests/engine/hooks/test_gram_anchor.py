from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from torch.nn import functional as F

from mm_graft.checkpoints import CheckpointError
from mm_graft.engine.hooks.gram_anchor import GramAnchor, gram_distance
from tests.defaults import defaults
from tests.tiny import grafted_mocov3, mae, mae_file, settings


def test_the_distance_is_the_mean_squared_difference_of_cosines():
    own = torch.tensor([[[3.0, 0.0], [0.0, 5.0]]])
    start = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    # cosines 0 and √½ off the diagonal, which has two of four entries
    assert gram_distance(own, start) == pytest.approx(0.25)


def test_turning_and_scaling_the_features_costs_nothing_and_exchanging_patches_does():
    tokens = torch.randn(2, 5, 4)
    rotation = torch.linalg.qr(torch.randn(4, 4))[0]
    assert gram_distance(3 * tokens @ rotation, tokens) < 1e-10
    assert gram_distance(tokens[:, [1, 0, 2, 3, 4]], tokens) > 1e-3
    assert gram_distance(tokens.flip(0), tokens) > 1e-3


def start(tmp_path, model_config=None, **kwargs):
    torch.manual_seed(0)
    model = MODELS.build(model_config or grafted_mocov3()).train()
    model.init_weights()
    for average in (module for module in model.modules() if hasattr(module, 'max_iters')):
        average.max_iters = 10
    hook = HOOKS.build(dict(type='mm_graft.GramAnchor', checkpoint=mae_file(tmp_path / 'mae.pth'), **kwargs))
    hook.before_train(SimpleNamespace(model=model, iter=0, cfg={}))
    return model, hook


def views():
    return [torch.randn(3, 3, 32, 32) for _ in range(2)]


def test_the_term_is_zero_at_the_start_and_grows_when_the_encoder_leaves_it(tmp_path):
    model, hook = start(tmp_path)
    model.backbone.load_state_dict(hook.start.state_dict())
    model.loss(views())
    assert hook.loss().item() == pytest.approx(0.0, abs=1e-10)
    with torch.no_grad():
        model.backbone.layers[1].attn.qkv.weight.add_(torch.randn(48, 16))
    model.loss(views())
    assert hook.loss() > 1e-3


def test_it_compares_the_patches_of_the_depths_asked_for_of_both_views(tmp_path):
    model, hook = start(tmp_path, depths=[2], weight=3.0)
    images = views()
    model.loss(images)
    tokens = []
    for vit in (model.backbone, hook.start):
        x = vit.embed(torch.cat(images))[0]
        for block in vit.layers[:2]:
            x = block(x)
        tokens.append(F.normalize(x[:, 1:], dim=-1))
    own, anchor = (part @ part.transpose(1, 2) for part in tokens)
    torch.testing.assert_close(hook.loss(), 3 * (own - anchor).square().mean())


def test_its_gradient_reaches_the_blocks_below_and_no_other(tmp_path):
    model, hook = start(tmp_path, depths=[2])
    model.loss(views())
    hook.loss().backward()
    reached = {name for name, param in model.named_parameters() if param.grad is not None and param.grad.any()}
    assert any(name.startswith('backbone.layers.1.') for name in reached)
    assert not any(name.startswith(('backbone.layers.2.', 'neck', 'head', 'momentum_encoder')) for name in reached)
    assert not any(parameter.requires_grad for parameter in hook.start.parameters())


def test_it_joins_the_losses_of_a_run_and_leaves_the_model_as_it_was(tmp_path):
    (tmp_path / 'run').mkdir()
    seen = []
    config = settings(grafted_mocov3(), tmp_path / 'run', custom_hooks=[
        dict(type='mm_graft.GramAnchor', checkpoint=mae_file(tmp_path / 'mae.pth'), depths=[2, 4])])
    runner = Runner(**config)
    original = runner.train_loop.run_iter

    def run_iter(index, batch):
        original(index, batch)
        seen.append(set(runner.message_hub.log_scalars))

    runner.train_loop.run_iter = run_iter
    runner.train()
    assert 'train/loss_gram' in seen[-1]
    assert {'train/loss_task', 'train/loss'} <= seen[-1]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in runner.model.modules())
    assert not any('start' in name for name in runner.model.state_dict())


def test_methods_that_encode_visible_patches_only_are_refused(tmp_path):
    model, hook = start(tmp_path, mae())
    model.loss(torch.randn(2, 3, 32, 32), None)
    with pytest.raises(ValueError, match='gave 5 tokens for 16 patches, the starting one 17'):
        hook.loss()


def test_patches_of_wide_images_are_counted_by_rows_and_columns(tmp_path):
    _, hook = start(tmp_path, depths=[1])
    own, anchor = torch.randn(2, 2, 1 + 2 * 4, 16)
    first, second = hook._patches(own, anchor, torch.zeros(2, 3, 16, 32))
    assert torch.equal(first, own[:, 1:])
    assert torch.equal(second, anchor[:, 1:])
    hook.after_train(None)


def test_positions_of_the_file_are_resized_only_if_asked(tmp_path):
    config = grafted_mocov3(img_size=48)
    with pytest.raises(CheckpointError, match='resize'):
        start(tmp_path, config)
    model, hook = start(tmp_path, config, resize=True)
    assert hook.start.pos_embed.shape == model.backbone.pos_embed.shape


def test_sharded_parameters_are_refused_and_a_step_without_the_backbone_too(tmp_path):
    model, hook = start(tmp_path)
    with pytest.raises(ValueError, match=r'no block of `model\.backbone` ran'):
        hook.loss()
    with pytest.raises(ValueError, match='GramAnchor needs full parameters, but DeepSpeedStrategy'):
        hook.before_train(SimpleNamespace(model=model, iter=0, strategy=type('DeepSpeedStrategy', (), {})()))


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(depths=[5]), r'depths=\[5\].*1 to 4'), (dict(depths=[0]), r'depths=\[0\]'), (dict(depths=[]), r'depths=\[\]'),
    (dict(weight=0.0), 'weight=0.0'), (dict(weight=float('inf')), 'weight=inf')])
def test_settings_that_cannot_work_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        start(tmp_path, **settings)


def test_it_works_on_timms_vits(tmp_path):
    vit = dict(type='mm_graft.TimmViT', model_name='vit_small_patch14_reg4_dinov2', depth=4, embed_dim=16, num_heads=2,
               img_size=32, patch_size=8, out_type='cls_token')
    backbone = MODELS.build(vit)
    torch.save(backbone.state_dict(), tmp_path / 'start.pth')
    model = MODELS.build(grafted_mocov3() | dict(backbone=vit))
    hook = HOOKS.build(dict(type='mm_graft.GramAnchor', checkpoint=tmp_path / 'start.pth'))
    try:
        hook.before_train(SimpleNamespace(model=model, iter=0, cfg={}))
    except ValueError as error:  # read once the loader knows registers
        pytest.skip(str(error)[:80])
    model.loss(views())
    assert hook.loss().isfinite()


def test_the_last_block_is_anchored_with_weight_1_unless_told_otherwise():
    assert defaults(GramAnchor) == {'depths': None, 'weight': 1.0, 'resize': False}
