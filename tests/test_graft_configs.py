"""The variants of layer grafting: gradients are where the method says, and nowhere else."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.model import BaseAveragedModel
from mmengine.registry import HOOKS, MODELS

from mm_graft.analysis.schedule_plot import simulate
from mm_graft.depth import depth_map
from mm_graft.engine.freezing.frozen_prefix import prefix_parameters
from mm_graft.gradients import terms_conflict, undisturbed
from tests.shrink import TINY_WIDTH, shrink
from tests.test_configs import build, make_batch

ROOT = Path(__file__).parents[1]
GRAFT = ROOT / 'configs' / 'graft'
STEM = ('backbone.patch_embed.', 'backbone.pos_embed')


def step(name, **changes):
    """A model of a config with small widths after one backward, and the names that a gradient reached."""
    torch.manual_seed(0)
    cfg = Config.fromfile(GRAFT / name)
    cfg.merge_from_dict(changes)
    cfg, model, optim_wrapper = build(cfg)
    backward(cfg, model)
    return cfg, model, optim_wrapper, reached(model)


def backward(cfg, model):
    data = model.data_preprocessor(make_batch(cfg, model), True)
    model.parse_losses(model(**data, mode='loss'))[0].backward()


def reached(model):
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def names(model, *starts):
    return {name for name, _ in model.named_parameters() if name.startswith(starts)}


def upper_third(model):
    return names(model, *(f'backbone.layers.{index}.' for index in (8, 9, 10, 11)), 'backbone.ln1.')


def test_joint_training_reaches_everything_but_the_position_table_and_the_slow_encoder():
    cfg, model, _, found = step('vit-b_joint-mae-mocov3.py')
    assert found == names(model, 'backbone.', 'neck.', 'head.', 'decoder.') - {
        'backbone.pos_embed', 'decoder.decoder_pos_embed'}
    hook = HOOKS.build(cfg.custom_hooks[0])
    data = model.data_preprocessor(make_batch(cfg, model), True)
    with undisturbed(model):
        cosine = terms_conflict(model, lambda: model(**data, mode='loss'), hook.losses).cosine
    assert torch.isfinite(cosine).all()
    assert len(cosine) == 12


def start(cfg, model, path):
    """Load initial weights as the config does, from another file."""
    HOOKS.build({**cfg.default_hooks.init, 'checkpoint': str(path)}).before_train(SimpleNamespace(iter=0, model=model))


def test_mae_over_frozen_moco_v3_reaches_the_upper_third_and_the_decoder_only(tmp_path):
    cfg, model, _, found = step('vit-b_mocov32mae_frozen.py')
    assert found == (upper_third(model) | names(model, 'neck.')) - {'neck.decoder_pos_embed'}
    _, moco, _ = build(GRAFT / 'vit-b_mae2mocov3.py')
    torch.save({'state_dict': moco.state_dict()}, tmp_path / 'moco.pth')
    start(cfg, model, tmp_path / 'moco.pth')
    for name, tensor in moco.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor), name


def test_moco_v3_over_frozen_mae_reaches_the_upper_third_and_its_heads_only():
    _, model, _, found = step('vit-b_mae2mocov3.py', **{'optim_wrapper.paramwise_cfg.stage_lr_mult': [0, 0, 1]})
    assert found == upper_third(model) | names(model, 'neck.', 'head.')


HOSTS = [f'vit-b_mae2{name}.py' for name in ('simsiam', 'byol', 'simclr', 'barlowtwins')]


@pytest.mark.parametrize('name', ['vit-b_mae2mocov3.py', 'vit-b_mae2mocov3_freezeout.py', *HOSTS])
def test_a_graft_reaches_all_but_the_embeddings_and_learns_slowly_below(name):
    cfg, model, optim_wrapper, found = step(name)
    assert found == names(model, 'backbone.', 'neck.', 'head.') - names(model, *STEM)
    depths = depth_map(model)
    for group in optim_wrapper.optimizer.param_groups:
        for parameter in group['param_names']:
            slow = depths.stage(parameter, 3) < 3
            assert group['lr'] == pytest.approx(cfg.optim_wrapper.optimizer.lr * (0.1 if slow else 1)), parameter


@pytest.mark.parametrize('name', HOSTS)
def test_a_host_method_starts_from_the_checkpoint_below(name, tmp_path):
    _, mae, _ = build(GRAFT / 'vit-b_mae.py')
    torch.save({'state_dict': mae.state_dict()}, tmp_path / 'mae.pth')
    cfg, model, _ = build(GRAFT / name)
    start(cfg, model, tmp_path / 'mae.pth')
    expected = {key: tensor for key, tensor in mae.backbone.state_dict().items() if key in model.backbone.state_dict()}
    assert len(expected) > 100
    for key, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, expected[key]), key
    backward(cfg, model)
    for average in (module for module in model.modules() if isinstance(module, BaseAveragedModel)):  # BYOL's target
        for key, parameter in average.module[0].named_parameters():
            assert torch.equal(parameter, model.backbone.get_parameter(key)), key


@pytest.mark.parametrize('name', ['vit-b_mocov3.py', 'vit-s_mocov3_own-images.py'])
def test_moco_v3_from_random_weights_has_one_rate_and_decays_every_parameter(name):
    cfg, model, optim_wrapper, found = step(name)
    assert found == names(model, 'backbone.', 'neck.', 'head.') - names(model, *STEM)
    groups = optim_wrapper.optimizer.param_groups
    assert {name for group in groups for name in group['param_names']} == found
    assert {(group['lr'], group['weight_decay']) for group in groups} == {(cfg.optim_wrapper.optimizer.lr, 0.1)}


def test_grafted_vicreg_has_neither_predictor_nor_slow_encoder_and_reaches_the_rest():
    cfg, model, _, found = step('vit-b_mae2vicreg.py')
    assert found == names(model, '') - names(model, *STEM)
    assert {name.split('.')[0] for name, _ in model.named_parameters()} == {'backbone', 'neck'}
    assert (cfg.model.neck.hid_channels, cfg.model.neck.out_channels, cfg.model.neck.num_layers) == (8192, 8192, 3)


def test_a_graft_on_localmim_takes_over_its_encoder_and_the_norm_of_its_last_tap(tmp_path):
    localmim = Config.fromfile(ROOT / 'configs/localmim/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k.py')
    source = MODELS.build(shrink(localmim.model.to_dict()))
    torch.nn.init.normal_(source.backbone.tap_norms[-1].weight)
    torch.save({'state_dict': source.state_dict()}, tmp_path / 'localmim.pth')
    cfg = Config.fromfile(GRAFT / 'vit-b_mae2mocov3.py')
    model = MODELS.build(shrink(cfg.model.to_dict()))
    start(cfg, model, tmp_path / 'localmim.pth')
    assert model.backbone.embed_dims == TINY_WIDTH
    for encoder in (model.backbone, model.momentum_encoder.module[0]):
        assert torch.equal(encoder.layers[11].attn.qkv.weight, source.backbone.layers[11].attn.qkv.weight)
        assert torch.equal(encoder.pos_embed, source.backbone.pos_embed)
        assert torch.equal(encoder.ln1.weight, source.backbone.tap_norms[-1].weight)


def test_a_graft_with_freezeout_stops_from_below_while_the_upper_stage_learns_on():
    cfg = Config.fromfile(GRAFT / 'vit-b_mae2mocov3_freezeout.py')
    cfg.model = shrink(cfg.model.to_dict())
    run = simulate(cfg, iters_per_epoch=4)
    assert sorted(run.frozen_at) == list(range(12))
    assert [round(run.frozen_at[depth]) for depth in (0, 4, 8)] == [82, 135, 207]
    assert list(run.frozen_at.values()) == sorted(run.frozen_at.values())
    _, model, _, _ = step('vit-b_mae2mocov3_freezeout.py')
    for parameter in prefix_parameters(model, depth_map(model), 8):
        parameter.requires_grad_(False)
    model.zero_grad()
    backward(cfg, model)
    assert reached(model) == upper_third(model) | names(model, 'neck.', 'head.')


def test_a_graft_on_conmim_reaches_all_but_the_patch_projection_and_moves_the_shared_table_with_the_last_stage():
    _, model, optim_wrapper, found = step('vit-b_conmim2mocov3.py')
    assert found == names(model, 'backbone.', 'neck.', 'head.') - names(model, 'backbone.patch_embed.')
    rates = {name: group['lr_mult'] for group in optim_wrapper.optimizer.param_groups for name in group['param_names']}
    assert {rates[name] for name in names(model, 'backbone.rel_pos_bias')} == {1.0}
    assert {rates[name] for name in names(model, 'backbone.layers.0.', 'backbone.layers.7.')} == {0.1}


def test_the_anchored_graft_pulls_the_lower_half_and_nothing_else(tmp_path):
    cfg, model, _, found = step('vit-l_mae2mocov3.py')
    assert found == names(model, 'backbone.', 'neck.', 'head.') - names(model, *STEM)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'start.pth')
    hook = HOOKS.build({**cfg.custom_hooks[-1], 'checkpoint': str(tmp_path / 'start.pth')})
    hook.before_train(SimpleNamespace(model=model, iter=0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model.zero_grad()
    hook.loss().backward()
    pulled = {f'backbone.layers.{index}.' for index in range(12)}
    assert reached(model) == names(model, 'backbone.cls_token', *pulled)


def test_a_weight_of_zero_takes_the_anchor_away(tmp_path):
    cfg, model, _, _ = step('vit-l_mae2mocov3.py', **{'custom_hooks.1.weight': 0})
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'start.pth')
    hook = HOOKS.build({**cfg.custom_hooks[1], 'checkpoint': str(tmp_path / 'start.pth')})
    hook.before_train(SimpleNamespace(model=model, iter=0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model.zero_grad()
    loss = hook.loss()
    loss.backward()
    assert loss == 0
    assert all(not model.get_parameter(name).grad.any() for name in reached(model))


def test_readme_has_every_config_and_the_metafile_every_variant():
    readme = (GRAFT / 'README.md').read_text()
    models = {model['Config'] for model in load(GRAFT / 'metafile.yml')['Models']}
    for path in GRAFT.glob('*.py'):
        assert f'({path.name})' in readme, path.name
    assert {f'configs/graft/{path.name}' for path in GRAFT.glob('vit-[blh]_*2*.py')} <= models
