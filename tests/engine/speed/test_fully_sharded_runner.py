import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, RUNNERS
from mmpretrain.structures import DataSample
from torch.distributed.tensor import DTensor, Shard

from mm_graft.checkpoints import load_backbone
from mm_graft.engine.hooks.load_backbone_hook import LoadBackboneHook
from mm_graft.engine.speed.checkpoint_blocks_hook import CheckpointBlocksHook
from mm_graft.engine.speed.fully_sharded_runner import FullyShardedRunner, blocks_to_shard, even_shard, shard_model
from mm_graft.engine.speed.model_hook import apply_configured
from mm_graft.sharding import FULLY_SHARD, full_state_dict, local_shard, sharding_of
from tests.own_process import one_of_one
from tests.test_configs import build as build_config
from tests.test_configs import make_batch
from tests.tiny import classifier, grafted_mocov3, mae, mae_file, settings

ROOT = Path(__file__).parents[3]
KEY = dict(runner_type='mm_graft.FullyShardedRunner')


def build(config):
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(config))
    model.init_weights()
    return model


def runner_of(model, folder, cfg=None, launcher='pytorch', **kwargs):
    return FullyShardedRunner(**settings(model, folder, launcher=launcher, **kwargs), cfg={**KEY, **(cfg or {})})


def test_the_key_names_it_in_any_config():
    assert RUNNERS.get(KEY['runner_type']) is FullyShardedRunner


def test_blocks_are_those_of_encoder_copies_and_decoder():
    assert len(blocks_to_shard(build(mae()))) == 4 + 1
    assert len(blocks_to_shard(build(grafted_mocov3()))) == 4 + 4
    assert len(blocks_to_shard(build(grafted_mocov3(class_token_only=True)))) == 3 + 3


def test_a_parameter_is_cut_where_it_divides_evenly():
    shapes = {(8, 3): 0, (1, 1, 16): 2, (3, 4): 1, (5, ): 0, (1, 17, 16): 2, (0, 4): 1}
    for shape, dim in shapes.items():
        assert even_shard(torch.nn.Parameter(torch.zeros(shape)), 4) == Shard(dim)


@one_of_one
def test_names_shapes_values_and_outputs_stay():
    whole, model = build(mae()), build(mae())
    shard_model(model)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert [(name, value.shape) for name, value in model.named_parameters()] == \
        [(name, value.shape) for name, value in whole.named_parameters()]
    state = full_state_dict(model.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
    images = torch.randn(2, 3, 32, 32)
    losses = []
    for kind in (whole, model):
        torch.manual_seed(1)
        losses.append(kind(images, [], mode='loss')['loss'].item())
    assert losses[0] == losses[1]
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())  # cut again


@one_of_one
def test_blocks_may_compute_in_bf16_while_shards_and_gradients_stay():
    whole, model = build(mae()), build(mae())
    shard_model(model, 'bfloat16')
    seen = []
    model.backbone.layers[1].ffn.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    images, losses = torch.randn(2, 3, 32, 32), []
    for kind in (whole, model):
        torch.manual_seed(1)
        losses.append(kind(images, [], mode='loss')['loss'])
        losses[-1].backward()
    assert seen == [torch.bfloat16]
    assert losses[0].item() != losses[1].item()
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-2, atol=0)
    assert {value.dtype for parameter in model.parameters() for value in (parameter, parameter.grad)
            if value is not None} == {torch.float32}


@one_of_one
def test_whatever_loads_weights_loads_them_into_shards(tmp_path):
    path = mae_file(tmp_path / 'mae.pth')
    whole, model = build(grafted_mocov3()), shard_model(build(grafted_mocov3()))
    for kind in (whole, model):
        load_backbone(kind.backbone, path)
        kind.start_momentum_encoders()
    state = full_state_dict(model.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
    assert torch.equal(state['momentum_encoder.module.0.cls_token'], state['backbone.cls_token'])


@one_of_one
def test_a_run_trains_with_shards_and_another_fine_tunes_from_its_checkpoint(tmp_path):
    runner = runner_of(grafted_mocov3(), tmp_path / 'graft')
    runner.train()
    assert sharding_of(runner) == FULLY_SHARD
    path = tmp_path / 'graft' / 'epoch_1.pth'
    saved = torch.load(path, weights_only=False)
    assert not any(isinstance(value, DTensor) for value in saved['state_dict'].values())
    projection = dict(type='mm_graft.FirstProjection', in_channels=16, out_channels=16)
    tuned = shard_model(build({**classifier(), 'neck': projection}))
    LoadBackboneHook(str(path), projection='neck.layer').before_train(SimpleNamespace(model=tuned, iter=0))
    for name, value in full_state_dict(tuned.backbone.state_dict()).items():
        assert torch.equal(value, saved['state_dict'][f'backbone.{name}'])
    assert torch.equal(local_shard(tuned.neck.layer.weight), saved['state_dict']['neck.fc0.weight'])


@one_of_one
def test_the_config_for_large_models_makes_a_step_with_shards():
    cfg, model, _ = build_config(ROOT / 'configs' / 'graft' / 'vit-h_mae2mocov3_fsdp.py')
    assert RUNNERS.get(cfg.runner_type) is FullyShardedRunner
    model = revert_sync_batchnorm(model)  # it refuses CPUs
    shard_model(model, **cfg.model_wrapper_cfg)
    assert apply_configured(model, cfg.custom_hooks, CheckpointBlocksHook) == 32
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    data = model.data_preprocessor(make_batch(cfg, model), True)
    before = {name: value.clone() for name, value in full_state_dict(model.state_dict()).items()}
    with optim_wrapper.optim_context(model):
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    optim_wrapper.update_params(loss)
    after = full_state_dict(model.state_dict())
    moved = [name for name, value in after.items() if not torch.equal(value, before[name])]
    assert torch.isfinite(loss)
    assert {name.split('.')[0] for name in moved} == {'backbone', 'neck', 'head', 'momentum_encoder'}


@one_of_one
def test_a_test_run_has_shards_too(tmp_path):
    whole = build(classifier()).eval()
    torch.save({'state_dict': whole.state_dict()}, tmp_path / 'weights.pth')
    runner = runner_of(classifier(), tmp_path / 'test', load_from=str(tmp_path / 'weights.pth'))
    runner.load_or_resume()
    runner.model.eval()
    data = {'inputs': torch.rand(2, 3, 32, 32), 'data_samples': [DataSample(), DataSample()]}
    expected, found = (kind.test_step(copy.deepcopy(data)) for kind in (whole, runner.model))
    assert sharding_of(runner) == FULLY_SHARD
    torch.testing.assert_close(found[0].pred_score, expected[0].pred_score)


def test_without_a_launcher_it_is_the_hosts_runner(tmp_path):
    runner = runner_of(grafted_mocov3(), tmp_path / 'alone', cfg=dict(model_wrapper_cfg=dict(param_dtype='bfloat16')),
                       launcher='none')
    runner.train()
    assert sharding_of(runner) is None
    assert (tmp_path / 'alone' / 'epoch_1.pth').is_file()


def test_recomputing_around_a_cast_is_refused():
    with pytest.raises(ValueError, match=r'with_cp=True recomputes.*use mm_graft\.CheckpointBlocksHook'):
        shard_model(build(grafted_mocov3(with_cp=True)), 'bfloat16')


@pytest.mark.parametrize(('options', 'message'), [
    (dict(param_dtype='int8'), "param_dtype='int8' is unknown; choose"),
    (dict(type='MMDistributedDataParallel'), r"model_wrapper_cfg has \['type'\]")])
def test_unknown_options_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        runner_of(mae(), tmp_path / 'wrong', cfg=dict(model_wrapper_cfg=options), launcher='none')


@one_of_one
def test_what_cannot_work_says_so_at_the_start(tmp_path):
    scaled = dict(type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=.1))
    hosts = {**grafted_mocov3(), 'type': 'MoCoV3', 'base_momentum': 0.01}
    hosts.pop('momentum')
    for number, (kind, message, model, kwargs) in enumerate([
            (ValueError, 'AmpOptimWrapper has a gradient scaler', grafted_mocov3(), dict(optim_wrapper=scaled)),
            (ValueError, 'EMAHook needs full parameters', grafted_mocov3(), dict(custom_hooks=[dict(type='EMAHook')])),
            (ValueError, 'OnlineKNNHook.* needs full', grafted_mocov3(), dict(
                custom_hooks=[dict(type='mm_graft.OnlineKNNHook')])),
            (ValueError, r'CosineEMA \(`momentum_encoder`\) needs full parameters', hosts, {})]):
        runner = runner_of(model, tmp_path / str(number), **kwargs)
        with pytest.raises(kind, match=message):
            runner.train()
        assert runner.iter == 0


