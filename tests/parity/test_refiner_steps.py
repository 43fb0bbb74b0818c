"""Both stages of MIM-Refiner against its authors' numbers: optimizer steps, rates, averaged encoder."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mm_graft.analysis.param_table import build_on_meta, parameter_table
from mm_graft.checkpoints import load_backbone
from mm_graft.checkpoints.names import VIT, NameMap
from mm_graft.commands.configs import load_config
from mm_graft.engine.schedulers.warmup_cosine import WarmupCosineLR, warmup_cosine
from tests.parity.builders import MEAN, STD, vit_arch
from tests.parity.refiner_data import AFTER, assert_head, assert_near, below, fill_head, head_config, play, read
from tests.tiny import start_from

CONFIG = Path(__file__).parents[2] / 'configs' / 'refiner' / 'vit-l_mae_refined.py'
# the bias of the final norm has a zero gradient; here it does not train
ZERO_GRADIENT = {'norm.bias'}


@pytest.fixture(scope='module')
def steps(golden):
    return read(golden, 'refiner_step.npz')


def build_model(data, stage, checkpoint):
    taps, last = data['cfg_tap_blocks'].tolist(), int(data['cfg_depth']) - 1
    topk = 1 if stage == 2 else int(data['cfg_topk_stage3'])
    backbone = dict(
        type='mm_graft.GraftViT', img_size=int(data['cfg_image']), patch_size=int(data['cfg_patch']),
        arch=vit_arch({**data, 'cfg_embed_dim': data['cfg_width'], 'cfg_mlp_ratio': 4}),
        out_indices=[*taps, last], out_type='cls_token', stop_grad_conv1=False,
        frozen_stages=int(data['cfg_frozen_blocks']) or -1)
    model = MODELS.build(dict(
        type='mm_graft.MIMRefiner', backbone=backbone, head=head_config(data, int(data['cfg_queue']), topk),
        momentum=None if stage == 2 else float(data['cfg_ema_decay']), train_encoder=stage == 3,
        num_global_views=data['global_views'].shape[2]))
    model.init_weights()
    return start_from(model, checkpoint).double().train()


def their_name(block, data):
    return 'main' if block == int(data['cfg_depth']) - 1 else f'cls{block}'


def views_of(data, step):
    views = []
    for name in ('global_views', 'local_views'):
        pixels = data[name][step].double().div(255).permute(1, 0, 4, 2, 3)  # (B, V, H, W, 3) → (V, B, 3, H, W)
        views += list((pixels - MEAN) / STD)
    return views


def run_stage(data, stage, checkpoint):
    model = build_model(data, stage, checkpoint)
    theirs = below(data, f's{stage}.')
    for block in model.blocks:
        name = their_name(block, data)
        fill_head(model.heads[f'block{block}'], below(theirs, f'init.{name}.'))
        play(model.heads[f'block{block}'].queue, theirs[f'{name}.choice'])
    per_epoch, epochs = int(data['cfg_updates_per_epoch']), int(data['cfg_epochs'])
    peak = float(data['cfg_base_lr_stage3']) * int(data['cfg_batch']) / 256 / (2 if stage == 2 else 1)
    decay = 1e-5 if stage == 2 else 0.05
    optim_wrapper = build_optim_wrapper(model, dict(
        constructor='mm_graft.GraftOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=peak, betas=(0.9, 0.95), weight_decay=decay),
        paramwise_cfg=dict(
            layer_decay_rate=float(data['cfg_layer_decay']),
            custom_keys={'backbone.cls_token': dict(decay_mult=0.), 'heads': dict(decay_mult=1e-5 / decay)})))
    scheduler = WarmupCosineLR.build_iter_from_epoch(
        optim_wrapper, warmup=int(data['cfg_warmup_epochs']), end=epochs, epoch_length=per_epoch,
        min_ratio=1e-6 / peak, from_zero=False)
    seen = {'losses': [], 'groups': [], 'gradients': []}
    for step in range(per_epoch * epochs):
        samples = [DataSample(metainfo=dict(sample_idx=int(index))) for index in data['ids'][step]]
        losses = model.loss(views_of(data, step), samples)
        optim_wrapper.zero_grad()
        sum(value for name, value in losses.items() if name.startswith('loss')).backward()
        seen['gradients'].append({name: parameter.grad.norm().item() for name, parameter in model.named_parameters()
                                  if parameter.grad is not None})
        seen['groups'].append({name: (group['lr'], group['weight_decay'])
                               for group in optim_wrapper.optimizer.param_groups for name in group['param_names']})
        optim_wrapper.step()
        scheduler.step()
        seen['losses'].append({name: value.item() for name, value in losses.items()})
    return model, seen


@pytest.fixture(scope='module')
def stages(steps, golden):
    torch.manual_seed(0)
    init_default_scope('mmpretrain')
    return {stage: run_stage(steps, stage, str(golden / 'refiner_encoder.pth')) for stage in (2, 3)}


@pytest.mark.parametrize('stage', [2, 3])
def test_losses_and_rates_of_a_stage(stages, steps, stage):
    model, seen = stages[stage]
    for block in model.blocks:
        theirs = below(steps, f's{stage}.{their_name(block, steps)}.')
        assert_near(torch.tensor([losses[f'loss_block{block}'] for losses in seen['losses']], dtype=torch.float64),
                    theirs['total'])
        for groups, rate in zip(seen['groups'], theirs['head_lr'].tolist()):
            heads = {name: group for name, group in groups.items() if name.startswith(f'heads.block{block}.')}
            for name, (lr, decay) in heads.items():
                flat = model.get_parameter(name).ndim == 1
                assert lr == pytest.approx(rate, rel=1e-12), name
                assert decay == pytest.approx(0. if flat else 1e-5, rel=1e-12), name


@pytest.mark.parametrize('stage', [2, 3])
def test_heads_and_queues_after_a_stage(stages, steps, stage):
    model, _ = stages[stage]
    for block in model.blocks:
        assert_head(model.heads[f'block{block}'], below(steps, f's{stage}.after.{their_name(block, steps)}.'), AFTER)


def encoder_name(theirs):
    return NameMap(VIT).to_host({'cls_tokens.tokens': 'cls_token'}.get(theirs, theirs))


def test_a_frozen_encoder_gets_no_gradient_and_stays(stages, steps, golden):
    model, seen = stages[2]
    assert all(name.startswith('heads.') for step in seen['gradients'] for name in step)
    weights = torch.load(golden / 'refiner_encoder.pth', weights_only=True)['model']
    assert torch.equal(model.backbone.cls_token, weights['cls_token'].double())


def test_rates_decay_and_gradients_of_the_encoder(stages, steps):
    model, seen = stages[3]
    names, trained = steps['s3.encoder_names'], steps['s3.encoder_trained']
    scale = steps['s3.grad_norms'].max().item()
    for index, name in enumerate(names):
        ours = f'backbone.{encoder_name(name)}'
        if not trained[index] or name in ZERO_GRADIENT:
            assert not model.get_parameter(ours).requires_grad
            assert steps['s3.grad_norms'][:, index].nan_to_num().max() <= 1e-9 * scale
            continue
        for step, groups in enumerate(seen['groups']):
            lr, decay = groups[ours]
            assert lr == pytest.approx(steps['s3.encoder_lr'][step, index].item(), rel=1e-12)
            assert decay == pytest.approx(steps['s3.encoder_weight_decay'][index].item(), rel=1e-12)
            norm = steps['s3.grad_norms'][step, index].item()
            assert abs(seen['gradients'][step][ours] - norm) <= 1e-8 * scale, (step, name)


def test_encoder_and_its_average_after_refinement(stages, steps):
    model, _ = stages[3]
    average = model.momentum_encoder.module
    for prefix, encoder in (('after', model.backbone), ('ema', average)):
        for name, value in below(steps, f's3.{prefix}.encoder.').items():
            if not name.endswith('pos_embed.embed'):
                assert_near(encoder.get_parameter(encoder_name(name)), value, AFTER)


def test_features_after_refinement(stages, steps):
    backbone = stages[3][0].backbone.eval()
    depth = int(steps['cfg_depth'])
    view = views_of(steps, 0)[0]
    with torch.no_grad():
        assert_near(backbone(view)[-1], steps['s3.cls_after_norm'], AFTER)
        backbone.out_indices, backbone.final_norm = range(depth), False
        assert_near(torch.stack(backbone(view)), steps['s3.cls_of_blocks'], AFTER)


def test_the_layout_that_the_authors_release_is_read(steps, golden, tmp_path):
    encoder = below(steps, 's3.after.encoder.')
    weights = torch.load(golden / 'refiner_encoder.pth', weights_only=True)['model']
    side = int(steps['cfg_image']) // int(steps['cfg_patch'])
    grid = weights['pos_embed'][:, 1:].unflatten(1, (side, side))
    torch.save({'state_dict': {**encoder, 'pos_embed.embed': grid}}, tmp_path / 'maerefined.th')
    backbone = build_model(steps, 3, None).backbone.eval()
    assert load_backbone(backbone, str(tmp_path / 'maerefined.th')).layout == 'refiner'
    with torch.no_grad():
        assert_near(backbone(views_of(steps, 0)[0])[-1], steps['s3.cls_after_norm'], AFTER)


def tables(golden):
    paths = sorted(golden.glob('refiner_lr_table_vit_*.json'))
    assert paths, f'{golden} has no refiner_lr_table_vit_*.json'
    return [json.loads(path.read_text()) for path in paths]


def test_every_parameter_of_the_published_sizes_is_treated_as_by_the_authors(golden):
    for table in tables(golden):
        cfg = load_config(str(CONFIG))
        cfg.model.backbone.arch = table['arch'].removeprefix('vit_')
        cfg.model.backbone.out_indices = [table['depth'] - 1]
        cfg.optim_wrapper.optimizer.lr = table['schedule']['peak']
        cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = table['layer_decay']
        for key, rows in table.items():
            if key.startswith('frozen_blocks='):
                cfg.model.backbone.frozen_stages = int(key.partition('=')[2]) or -1
                check_table({row['name']: row for row in parameter_table(*build_on_meta(cfg))}, rows)


def check_table(ours, rows):
    assert len([name for name in ours if name.startswith('backbone.')]) == len(rows) + 1  # the position table
    for row in rows:
        our = ours[f'backbone.{encoder_name(row["name"])}']
        assert our['trained'] == (row['requires_grad'] and row['name'] not in ZERO_GRADIENT)
        if our['trained']:
            assert our['lr'] == pytest.approx(row['peak_lr'], rel=1e-12)
            assert our['lr_mult'] == pytest.approx(row['lr_scale'], rel=1e-12)
            assert our['weight_decay'] == pytest.approx(row['weight_decay'], rel=1e-12)


def test_schedule_of_the_published_sizes(golden):
    for table in tables(golden):
        schedule = table['schedule']
        per_epoch, peak = schedule['updates_per_epoch'], schedule['peak']
        for step, lr in zip(schedule['steps'], schedule['lr']):
            factor = warmup_cosine(step, schedule['warmup_epochs'] * per_epoch, schedule['epochs'] * per_epoch,
                                   schedule['end_value'] / peak, from_zero=False)
            assert peak * factor == pytest.approx(lr, rel=1e-12)
