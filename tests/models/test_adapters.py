import copy
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.models.peft.lora import LoRALinear
from torch import nn

from mm_graft.checkpoints import Origin, convert_file, load_backbone, publish_file
from mm_graft.depth import depth_map
from mm_graft.encoders import load_encoder
from mm_graft.engine.hooks.load_backbone_hook import LoadBackboneHook
from mm_graft.models.adapters import AdaptedLinear, add_adapters, merge_adapters_
from mm_graft.pretrained import load_pretrained
from tests.tiny import VIT, grafted_mocov3, mae_file, self_distillation, settings

GRAFT = dict(type='mm_graft.GraftViT', **VIT)
TIMM = dict(type='mm_graft.TimmViT', model_name='vit_small_patch14_reg4_dinov2', depth=4, embed_dim=16, num_heads=2,
            img_size=32, patch_size=8, out_type='cls_token')
LORA = dict(rank=2, alpha=6)


def build(config):
    backbone = MODELS.build(config)
    backbone.init_weights()
    return backbone


def disturb(model):
    """Adapters that do something."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'lora_' in name:
                parameter.normal_()
    return model


def adapted_layers(model):
    return {name for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def test_an_adapted_layer_is_the_hosts_with_the_names_of_a_plain_one():
    layer = nn.Linear(5, 3)
    ours = disturb(AdaptedLinear(copy.deepcopy(layer), rank=2, alpha=6))
    host = LoRALinear(layer, alpha=6, rank=2)
    host.lora_down.weight, host.lora_up.weight = ours.lora_down, ours.lora_up
    x = torch.randn(4, 5)
    torch.testing.assert_close(ours(x), host(x))
    assert set(ours.state_dict()) == {'weight', 'bias', 'lora_down', 'lora_up', 'lora_scale'}
    torch.testing.assert_close(ours.merge()(x), ours(x))
    assert AdaptedLinear(nn.Linear(5, 3, bias=False), 2, 6).merge().bias is None


@pytest.mark.parametrize('config', [GRAFT, TIMM])
def test_at_the_start_nothing_changes_and_then_only_the_adapters_do(config):
    plain = build(config)
    model = build({**config, 'adapters': LORA})
    model.load_state_dict(plain.state_dict(), strict=False)
    plain.eval()
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images)[-1], plain(images)[-1])
    assert not torch.allclose(disturb(model)(images)[-1], plain(images)[-1])
    model.train()
    model(images)[-1].square().sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {f'{layer}.lora_{part}' for layer in adapted_layers(model) for part in ('down', 'up')}
    assert len(adapted_layers(model)) == 8


@pytest.mark.parametrize('config', [GRAFT, TIMM])
def test_layers_are_chosen_by_depth_and_projection(config):
    for projection, ends in (('qkv', 'attn.qkv'), ('proj', 'attn.proj'), ('fc1', ('layers.0.0', 'fc1')),
                             ('fc2', ('ffn.layers.1', 'fc2'))):
        model = build({**config, 'adapters': dict(rank=1, projections=[projection], depths=[2, 4])})
        names = adapted_layers(model)
        assert len(names) == 2
        assert all(name.endswith(ends) for name in names)
        assert {depth_map(model).depths[f'{name}.lora_up'] for name in names} == {2, 4}


def test_blocks_below_the_adapters_leave_autograd():
    model = build({**GRAFT, 'adapters': dict(rank=1, depths=[3, 4])}).train()
    assert model.frozen_depth == 2
    assert not model.run_lower(torch.randn(2, 3, 32, 32), 2)[0].requires_grad


def test_rank_scale_and_dropout_matter():
    layer, x = nn.Linear(5, 3), torch.ones(4, 5)
    model = disturb(AdaptedLinear(layer, rank=2, alpha=2))
    twice = AdaptedLinear(layer, rank=2, alpha=4)
    twice.lora_down, twice.lora_up = model.lora_down, model.lora_up
    torch.testing.assert_close(twice(x) - layer(x), 2 * (model(x) - layer(x)))
    assert AdaptedLinear(layer, rank=3, alpha=1).lora_down.shape == (3, 5)
    dropped = disturb(AdaptedLinear(layer, 2, 2, drop_rate=0.5))
    assert not torch.equal(dropped(x), dropped(x))
    assert torch.equal(dropped.eval()(x), dropped(x))
    assert build({**GRAFT, 'adapters': dict(rank=4)}).layers[0].attn.qkv.scale == 1


def test_merging_in_place_keeps_the_output():
    model = disturb(build({**GRAFT, 'adapters': {**LORA, 'projections': ['qkv', 'proj', 'fc1', 'fc2']}}))
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    before = model(images)[-1]
    torch.testing.assert_close(merge_adapters_(model)(images)[-1], before, rtol=1e-5, atol=1e-5)
    assert not adapted_layers(model)
    assert set(model.state_dict()) == set(build(GRAFT).state_dict())


@pytest.fixture
def checkpoint(tmp_path):
    """A file as a run writes it, with the encoder that is in it, and the student's and teacher's features."""
    torch.manual_seed(2)
    backbone = {**GRAFT, 'adapters': LORA}
    model = MODELS.build(grafted_mocov3() | dict(backbone=backbone))
    model.init_weights()
    disturb(model)
    model.eval()
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'run.pth')
    images = torch.randn(2, 3, 32, 32)
    features = [encoder(images)[-1] for encoder in (model.backbone, model.momentum_encoder.module[0])]
    return str(tmp_path / 'run.pth'), Config(dict(model=dict(backbone=backbone))), images, features


@pytest.mark.parametrize('branch', ['base', 'momentum'])
def test_encoders_and_conversions_hold_merged_weights(checkpoint, tmp_path, branch):
    path, cfg, images, features = checkpoint
    expected = features[branch == 'momentum']
    assert not torch.allclose(*features)
    encoder = load_encoder(cfg, path, branch)
    assert not adapted_layers(encoder)
    torch.testing.assert_close(encoder(images), expected, rtol=1e-5, atol=1e-5)
    plain = MODELS.build(GRAFT)
    plain.eval()
    load_backbone(plain, path, branch=branch)
    torch.testing.assert_close(plain(images)[-1], expected, rtol=1e-5, atol=1e-5)
    convert_file(Origin(path, branch=branch), tmp_path / 'timm.pth', 'timm')
    for written in (tmp_path / 'timm.pth', publish_file(Origin(path, branch=branch), tmp_path, 'encoder')):
        other = MODELS.build(GRAFT)
        other.eval()
        load_backbone(other, written)
        torch.testing.assert_close(other(images)[-1], expected, rtol=1e-5, atol=1e-5)
    tokens = load_pretrained(path, cfg, branch)
    torch.testing.assert_close(tokens.encoder(images), expected, rtol=1e-5, atol=1e-5)


def test_a_run_on_adapters_starts_from_any_file_and_from_another_such_run(checkpoint, tmp_path):
    path, cfg, images, features = checkpoint
    plain, model = MODELS.build(GRAFT), MODELS.build(cfg.model.backbone)
    mae = mae_file(tmp_path / 'mae.pth')
    for backbone in (plain, model):
        backbone.eval()
        load_backbone(backbone, mae)
    torch.testing.assert_close(model(images)[-1], plain(images)[-1])
    load_backbone(model, path)
    torch.testing.assert_close(model(images)[-1], features[0], rtol=1e-5, atol=1e-5)  # merged; the adapters are new
    assert not model.layers[0].attn.qkv.lora_up.any()


def run(folder, start, epochs, model, **kwargs):
    runner = Runner(**settings(model, folder, epochs=epochs, **kwargs))
    runner.register_hook(LoadBackboneHook(start))
    runner.train()
    return runner


@pytest.mark.parametrize('config', [grafted_mocov3(), self_distillation(mask_generator=None)])
def test_training_moves_adapters_and_heads_alone_and_resumes_with_the_same_bits(tmp_path, config):
    start = mae_file(tmp_path / 'mae.pth')
    config = {**config, 'backbone': {**config['backbone'], 'adapters': dict(rank=2, depths=[3, 4])}}
    common = dict(paramwise_cfg=dict(stage_lr_mult=[0.0, 1.0]),
                  default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)))
    whole = run(tmp_path / 'whole', start, 2, config, **common)
    optimizer, model = whole.optim_wrapper.optimizer, whole.model
    moved = {id(parameter) for parameter in optimizer.state}
    assert {name for name, parameter in model.named_parameters() if id(parameter) in moved} == {
        name for name, parameter in model.named_parameters() if parameter.requires_grad}
    reference = MODELS.build(GRAFT)
    load_backbone(reference, start)
    for name, tensor in reference.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor), name
    assert model.backbone.layers[3].attn.qkv.lora_up.any()
    teacher = model.momentum_encoder.module[0]
    assert teacher.layers[3].attn.qkv.lora_up.any()
    assert not torch.equal(teacher.layers[3].attn.qkv.lora_up, model.backbone.layers[3].attn.qkv.lora_up)

    (tmp_path / 'parts').mkdir()
    shutil.copy(tmp_path / 'whole' / 'epoch_1.pth', tmp_path / 'parts')
    (tmp_path / 'parts' / 'last_checkpoint').write_text(str(tmp_path / 'parts' / 'epoch_1.pth'))
    resumed = run(tmp_path / 'parts', start, 2, config, resume=True, **common)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_stages_and_decay_apply_to_adapters_by_their_depth():
    model = MODELS.build(grafted_mocov3() | dict(backbone={**GRAFT, 'adapters': LORA}))
    wrapper = build_optim_wrapper(model, dict(
        constructor='mm_graft.GraftOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=1.0),
        paramwise_cfg=dict(stage_lr_mult=[0.1, 1.0])))
    rates = {name: group['lr'] for group in wrapper.optimizer.param_groups for name in group['param_names']}
    assert rates['backbone.layers.0.attn.qkv.lora_up'] == 0.1
    assert rates['backbone.layers.3.attn.qkv.lora_up'] == 1.0
    assert 'backbone.layers.0.attn.qkv.weight' not in rates


def test_a_mask_token_of_the_encoder_goes_on_learning():
    model = build({**TIMM, 'with_mask_token': True, 'adapters': LORA})
    assert model.timm_model.mask_token.requires_grad


def test_adapters_of_another_scale_are_refused():
    state = build({**GRAFT, 'adapters': dict(rank=2, alpha=2)}).state_dict()
    with pytest.raises(ValueError, match='of scale alpha / rank = 1, the config of 2'):
        build({**GRAFT, 'adapters': dict(rank=2, alpha=4)}).load_state_dict(state)


@pytest.mark.parametrize(('settings', 'message'), [
    ({'rank': 0}, 'rank is at least 1'), ({'projections': ['query']}, "of \\['qkv', 'proj', 'fc1', 'fc2'\\]"),
    ({'depths': [0]}, 'depths of 1 to 4'), ({'depths': [5]}, 'depths of 1 to 4'), ({'depths': []}, 'depths of 1 to 4'),
    ({'projections': []}, 'projections are of')])
def test_what_cannot_be_adapted_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build({**GRAFT, 'adapters': {**LORA, **settings}})


def test_layers_that_are_read_past_are_refused():
    with pytest.raises(ValueError, match='class_token_only'):
        build({**GRAFT, 'class_token_only': True, 'out_type': 'cls_token', 'adapters': LORA})
    eva = dict(type='mm_graft.TimmViT', model_name='beit_base_patch16_224', depth=2, embed_dim=16, num_heads=2)
    with pytest.raises(ValueError, match="choose of 'proj', 'fc1', 'fc2'"):
        build({**eva, 'adapters': LORA})
    assert len(adapted_layers(build({**eva, 'adapters': {**LORA, 'projections': ['proj']}}))) == 2
    with pytest.raises(ValueError, match="is its 'fc1'"):
        add_adapters(nn.ModuleDict({'layers': nn.ModuleList([nn.ModuleDict({'attn': nn.ModuleDict()})])}), 1,
                     projections=['fc1'])
