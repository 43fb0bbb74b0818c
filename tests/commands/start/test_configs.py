from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from mm_graft.commands.configs import content_root
from mm_graft.commands.start.configs import LEAVES, stage_config, write_config
from mm_graft.commands.start.plan import Channels, Encoder, Folder, Machine, make_plan
from mm_graft.commands.start.speed import Speed

PLAN = make_plan(Folder(100, 64), Machine('cpu', cores=2, memory=16, flops=1e11, bfloat16=False))


def config(index, tmp_path, weights=None, plan=PLAN):
    stage = plan.stages[index]
    leaf = Config.fromfile(content_root() / 'configs' / LEAVES[stage.name])
    return stage, stage_config(leaf, plan, stage, '/images', tmp_path / stage.name, 7, weights)


@pytest.mark.parametrize('index', [0, 1])
def test_the_plan_is_what_the_config_says(index, tmp_path):
    stage, cfg = config(index, tmp_path)
    assert cfg.train_cfg.max_epochs == stage.epochs
    assert cfg.param_scheduler.warmup == stage.warmup
    assert cfg.optim_wrapper.optimizer.lr == stage.lr
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == PLAN.batch_size
    assert cfg.train_dataloader.num_workers == PLAN.workers
    assert cfg.train_dataloader.dataset.data_root == '/images'
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert cfg.randomness.seed == 7
    looks = cfg.custom_hooks[-1]
    assert (looks.type, looks.interval, looks.probe.images) == ('mm_graft.OnlineKNNHook', stage.look_every, 48)
    assert cfg.model.backbone.img_size == 64
    assert cfg.model.backbone.patch_size == 8
    sizes = set(scales(cfg.train_dataloader.dataset.pipeline))
    assert sizes == {64}


def scales(node):
    if isinstance(node, list | tuple):
        for part in node:
            yield from scales(part)
    elif isinstance(node, dict):
        if 'scale' in node:
            yield node['scale']
        for value in node.values():
            yield from scales(value)


@pytest.mark.parametrize('index', [0, 1])
def test_it_builds_after_it_was_written_and_says_why(index, tmp_path):
    stage, cfg = config(index, tmp_path)
    path = tmp_path / f'{stage.name}.py'
    write_config(cfg, PLAN, stage, path)
    again = Config.fromfile(path)
    assert again.to_dict() == cfg.to_dict()
    assert 'small enough for a CPU' in path.read_text()
    init_default_scope('mmpretrain')
    settings = dict(again.model)
    settings.setdefault('data_preprocessor', again.get('data_preprocessor'))
    model = MODELS.build(settings)
    assert model.backbone.embed_dims == PLAN.encoder.width


def test_a_list_of_images_is_trained_on_in_the_place_of_a_folder(tmp_path):
    (tmp_path / 'all').mkdir()
    Image.new('RGB', (40, 30)).save(tmp_path / 'all' / 'a b.png')
    (tmp_path / 'list.txt').write_text(f'all/a b.png\n{tmp_path}/all/a b.png\n')
    stage = PLAN.stages[0]
    leaf = Config.fromfile(content_root() / 'configs' / LEAVES[stage.name])
    cfg = stage_config(leaf, PLAN, stage, str(tmp_path / 'list.txt'), tmp_path / 'mae', 7, None)
    init_default_scope('mmpretrain')
    data = DATASETS.build(cfg.train_dataloader.dataset)
    assert [data.get_data_info(index)['img_path'] for index in range(len(data))] == [f'{tmp_path}/all/a b.png'] * 2
    assert data[0]['inputs'].shape == (3, 64, 64)


def test_the_graft_starts_from_the_file_it_is_given(tmp_path):
    init = config(1, tmp_path, 'mae/epoch_9.pth')[1].default_hooks.init
    assert (init.checkpoint, init.resize) == ('mae/epoch_9.pth', True)
    assert 'init' not in config(1, tmp_path)[1].default_hooks
    assert Path(config(1, tmp_path)[1].work_dir) == tmp_path / 'graft'


GIVEN = dict(type='mm_graft.TimmViT', model_name='vit_small_patch14_dinov2', embed_dim=24, num_heads=2, depth=12,
             img_size=518, out_type='cls_token')


@pytest.mark.parametrize(('blocks', 'rates'), [
    (12, [0, 0.1, 1.0]), (32, [0, 0.1, 1.0, 1.0]), (10, [0, 1.0]), (7, [1.0])])
def test_given_weights_continue_by_the_config_for_that(blocks, rates, tmp_path):
    given = Encoder('given', 24, blocks, 2, 518, 14, {**GIVEN, 'depth': blocks},
                    {'mean': [1.0, 2.0, 3.0], 'std': [4.0, 5.0, 6.0]})
    plan = make_plan(Folder(100, 64), Machine('cpu', cores=2, memory=16, flops=1e11, bfloat16=False), given=given)
    leaf = Config.fromfile(content_root() / 'configs' / LEAVES['continue'])
    cfg = stage_config(leaf, plan, plan.stages[0], '/images', tmp_path, 7, 'dinov2.pth')
    assert cfg.model.backbone.to_dict() == {**GIVEN, 'depth': blocks, 'img_size': 56}
    assert cfg.optim_wrapper.paramwise_cfg.stage_lr_mult == rates
    assert (cfg.data_preprocessor.mean, cfg.data_preprocessor.std) == ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert set(scales(cfg.train_dataloader.dataset.pipeline)) == {56}
    assert (cfg.default_hooks.init.checkpoint, cfg.default_hooks.init.resize) == ('dinov2.pth', True)
    init_default_scope('mmpretrain')
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    assert build_optim_wrapper(model, cfg.optim_wrapper)
    write_config(cfg, plan, plan.stages[0], tmp_path / 'continue.py')
    assert 'resampled' in (tmp_path / 'continue.py').read_text()


@pytest.mark.parametrize('index', [0, 1])
def test_images_of_five_channels_are_loaded_normalized_and_learned_from(index, tmp_path):
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 4096, (70, 64, 5)).astype(np.uint16)
        np.save(tmp_path / f'{number}.npy', values)
    channels = Channels((8.0, ) * 5, (4.0, ) * 5, None, ('.npy', ))
    plan = replace(PLAN, channels=channels, batch_size=2)
    stage = plan.stages[index]
    leaf = Config.fromfile(content_root() / 'configs' / LEAVES[stage.name])
    cfg = stage_config(leaf, plan, stage, str(tmp_path), tmp_path / 'run', 7, 'rgb.pth')
    assert (cfg.default_hooks.init.resize, cfg.default_hooks.init.channels) == (True, True)
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = default_collate([dataset[row] for row in range(2)])
    assert batch['inputs'].shape == (2, 5, 64, 64)
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    model.init_weights()
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    stem = model.backbone.patch_embed.projection.weight
    assert stem.shape[1] == 5
    if index == 0:  # the graft's stem is fixed, as in MoCo v3
        assert all(stem.grad[:, channel].abs().sum() > 0 for channel in range(5))


@pytest.mark.parametrize('speed', [Speed('opencv', True, True, True), Speed('device', True, True, True), Speed()])
@pytest.mark.parametrize('index', [0, 1])
def test_the_fast_path_of_a_plan_is_in_its_configs_and_takes_a_step(index, speed, tmp_path):
    for number in range(2):
        Image.fromarray(np.full((70, 90, 3), 90 * number + 20, np.uint8)).save(tmp_path / f'{number}.png')
    cfg = config(index, tmp_path, plan=replace(PLAN, speed=speed))[1]
    kinds = str(cfg.train_dataloader.dataset.pipeline)
    assert ('FastCrop' in kinds) == (speed.reader(PLAN.stages[index].name) == 'opencv')
    assert ('FastPhotometric' in kinds) == (speed.views == 'opencv' and index == 1)
    assert ('TwoViewPreprocessor' in cfg.data_preprocessor.type) == (speed.views == 'device' and index == 1)
    assert ('CompileBlocksHook' in str(cfg.custom_hooks)) == speed.compiled
    assert cfg.model.backbone.get('class_token_only', False) == (speed.class_token_only and index == 1)
    init_default_scope('mmpretrain')
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    model.init_weights()
    data = model.data_preprocessor(default_collate([dataset[0], dataset[1]]), True)
    views = data['inputs'] if index else [data['inputs']]
    assert {tuple(view.shape) for view in views} == {(2, 3, 64, 64)}
    losses = model(**data, mode='loss')
    assert all(value.isfinite().all() for value in losses.values())


def test_a_step_that_is_not_fused_says_so(tmp_path):
    assert 'fused' not in config(1, tmp_path)[1].optim_wrapper.optimizer
    cfg = config(1, tmp_path, plan=replace(PLAN, speed=Speed(fused=False)))[1]
    init_default_scope('mmpretrain')
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    assert build_optim_wrapper(model, cfg.optim_wrapper).optimizer.defaults['fused'] is False
