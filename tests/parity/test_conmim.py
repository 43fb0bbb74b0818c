"""What ConMIM's public code computes, against ours."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmpretrain.registry import MODELS

from mm_graft.checkpoints.conmim import CONMIM
from mm_graft.models.ema import cosine_momentum
from mm_graft.models.losses.denoising_contrast import own_position_loss, patch_logits
from mm_graft.models.masks.random_cells import RandomCellMask

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))


def images_of(pixels: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy((pixels / 255 - MEAN) / STD).permute(0, 3, 1, 2).to(dtype)


def neck_config(width: int, hidden: int, out: int) -> dict:
    return {
        'type': 'NonLinearNeck', 'in_channels': width, 'hid_channels': hidden, 'out_channels': out, 'num_layers': 3,
        'with_avg_pool': False, 'with_last_bn_affine': False, 'norm_cfg': {'type': 'BN1d'}
    }


class Case:
    """The stored step, and our model with the stored weights."""

    def __init__(self, folder):
        self.data = np.load(folder / 'conmim_step_tiny.npz', allow_pickle=False)
        self.config = json.loads(str(self.data['config_json']))

    def state(self, network: str) -> dict[str, torch.Tensor]:
        start = f'{network}/'
        return {k.removeprefix(start): torch.from_numpy(self.data[k]) for k in self.data.files if k.startswith(start)}

    def names(self) -> dict[str, str]:
        """Official name → ours, of every parameter and buffer that we have."""
        official = {name: name for name in self.state('student')}
        return {old: new for new, old in CONMIM.read(official).backbone.items()}

    def model(self, dtype: torch.dtype = torch.float64):
        c = self.config
        arch = {'embed_dims': c['embed_dim'], 'num_layers': c['depth'], 'num_heads': c['num_heads'],
                'feedforward_channels': int(c['embed_dim'] * c['mlp_ratio'])}
        model = MODELS.build({
            'type': 'mm_graft.ConMIM',
            'backbone': {
                'type': 'mm_graft.ConMIMViT', 'arch': arch, 'img_size': c['img_size'], 'patch_size': c['patch_size'],
                'layer_scale_init_value': c['init_values'], 'drop_path_rate': c['drop_path_rate'],
                'use_abs_pos_emb': c['use_abs_pos_emb'], 'use_shared_rel_pos_bias': c['use_shared_rel_pos_bias'],
                'norm_cfg': {'type': 'LN', 'eps': c['ln_eps']}
            },
            'neck': neck_config(c['embed_dim'], c['mlp_dim'], c['dim']),
            'contrast': {'type': 'mm_graft.DenoisingContrastLoss', 'temperature': float(self.data['temp'])},
            'mask_generator': {
                'type': 'mm_graft.RandomCellMask', 'img_size': c['img_size'], 'patch_size': c['patch_size'],
                'cell_size': c['patch_size']
            },
            'teacher': {'momentum': float(self.data['momentum']), 'max_iters': 10**9},
        })
        for network, modules in (('student', (model.backbone, model.neck)), ('teacher', model.momentum_encoder.module)):
            state = self.state(network)
            read = CONMIM.read(state).backbone
            for module, start in zip(modules, ('backbone.', 'neck.')):
                module.load_state_dict({name.removeprefix(start): tensor for name, tensor in read.items()
                                        if name.startswith(start)})
        hidden = torch.from_numpy(self.data['mask']).flatten(1).bool()
        model.mask_generator = lambda batch_size, device: hidden
        return model.train().to(dtype)

    def views(self, dtype: torch.dtype) -> list[torch.Tensor]:
        return [images_of(self.data['weak'], dtype), images_of(self.data['strong'], dtype)]


@pytest.fixture
def case(golden):
    return Case(golden)


def checksum(tensor: torch.Tensor) -> list[float]:
    return [tensor.sum().item(), tensor.norm().item()]


def assert_close(actual, expected, rtol=0.0, atol=0.0):
    actual, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(('dtype', 'rtol'), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_loss_is_the_authors(case, dtype, rtol):
    losses = case.model(dtype).loss(case.views(dtype))
    assert_close(losses['loss_contrast'].item(), case.data['loss'], rtol=rtol)
    top1 = case.data['logit_stats'][list(case.data['logit_stats_names']).index('top1_fraction')]
    assert_close(losses['acc_patch'].item(), top1, atol=1e-6)


def test_tokens_projections_and_logits_are_the_authors(case):
    model, data = case.model(), case.data
    weak, strong = case.views(torch.float64)
    mask = torch.from_numpy(data['mask']).flatten(1).bool()
    assert_close(model.backbone.encode_masked(weak, mask)[-1], data['enc/student'], atol=1e-5)
    assert_close(model.momentum_encoder.module[0](strong)[-1], data['enc/teacher'], atol=1e-5)
    key, (query, used) = model.keys(strong), model.queries(weak)
    torch.testing.assert_close(used, mask)
    assert_close(query, data['proj/student'], atol=1e-5)
    assert_close(key, data['proj/teacher'], atol=1e-5)
    logits = patch_logits(query, key, float(data['temp']))
    assert_close(own_position_loss(logits)[mask], data['row_loss'], atol=2e-5)
    rows = data['logits_rows']
    assert_close(logits[mask][:len(rows)], rows, atol=2e-5)
    own = mask.nonzero()[:len(rows), 1]
    torch.testing.assert_close(own, torch.from_numpy(data['logits_rows_label']).long())
    hidden = logits[mask]
    stats = {
        'mean': hidden.mean(), 'std': hidden.std(correction=0), 'min': hidden.min(), 'max': hidden.max(),
        'positive_mean': logits.diagonal(dim1=1, dim2=2)[mask].mean(), 'logsumexp_mean': hidden.logsumexp(-1).mean()
    }
    for name, value in zip(data['logit_stats_names'], data['logit_stats']):
        if name in stats:
            assert_close(stats[name].item(), value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(('dtype', 'rtol', 'rounding'), [(torch.float64, 1e-7, 1e-6), (torch.float32, 1e-4, 1e-5)])
def test_gradient_norms_are_the_authors(case, dtype, rtol, rounding):
    model, names = case.model(dtype), case.names()
    model.loss(case.views(dtype))['loss_contrast'].backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    official = [key.removeprefix('grad_norm/') for key in case.data.files if key.startswith('grad_norm/')]
    assert {names[name] for name in official} == set(gradients)
    for name in official:
        noise = name == 'norm.bias'  # removed by the batch norm that follows: zero up to rounding
        assert_close(gradients[names[name]].norm().item(), case.data[f'grad_norm/{name}'], rtol=0 if noise else rtol,
                     atol=rounding if noise else 1e-12)
    total = math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients.values()))
    assert_close(total, case.data['grad_norm_total'], rtol=rtol)


def test_both_networks_keep_their_own_batch_statistics(case):
    model = case.model()
    model.loss(case.views(torch.float64))
    networks = {'student': model.neck, 'teacher': model.momentum_encoder.module[1]}
    for key in (key for key in case.data.files if key.startswith('bn_after/')):
        _, network, name = key.split('/')
        ours = CONMIM.names.to_host(name).removeprefix('neck.')
        buffer = dict(networks[network].named_buffers())[ours]
        assert_close(buffer, case.data[key], rtol=1e-7, atol=1e-9)


def assert_checksums(case, start, networks, parameters_only=True):
    names = case.names()
    for key in (key for key in case.data.files if key.startswith(f'{start}/')):
        name = key.removeprefix(f'{start}/')
        if not name.startswith('lm_head.'):
            assert_close(checksum(networks[names[name]]), case.data[key], rtol=1e-7, atol=1e-8)


def teacher_parameters(model) -> dict[str, torch.Tensor]:
    room = {'0': 'backbone', '1': 'neck'}
    return {f'{room[name[0]]}{name[1:]}': p.detach() for name, p in model.momentum_encoder.module.named_parameters()}


def test_teacher_follows_by_the_authors_average(case):
    model = case.model()
    model.update_momentum_encoders()
    assert_checksums(case, 'ema_teacher', teacher_parameters(model))


def conmim_config(name: str = 'conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k.py'):
    from pathlib import Path

    from mmengine.config import Config
    return Config.fromfile(Path(__file__).parents[2] / 'configs' / 'conmim' / name)


def optimizer_of(model, lr: float):
    wrapper = conmim_config().optim_wrapper
    wrapper.optimizer.lr = lr
    wrapper.update(type='OptimWrapper')
    for key in ('dtype', 'loss_scale', 'clip_grad'):
        wrapper.pop(key, None)
    return build_optim_wrapper(model, wrapper)


def test_one_iteration_moves_student_and_teacher_as_the_authors_loop(case):
    model = case.model()
    wrapper = optimizer_of(model, float(case.data['step_lr']))
    losses = model.loss(case.views(torch.float64))
    wrapper.update_params(losses['loss_contrast'])
    assert_checksums(case, 'step_student', {name: p.detach() for name, p in model.named_parameters()})
    assert_checksums(case, 'step_teacher', teacher_parameters(model))


def test_weight_decay_falls_on_the_authors_parameters(case):
    model, names = case.model(), case.names()
    wrapper = optimizer_of(model, 1e-3)
    decay = {id(p): group['weight_decay'] for group in wrapper.optimizer.param_groups for p in group['params']}
    ours = {name: decay[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    for key, expected in (('decay_params', 0.05), ('no_decay_params', 0.0)):
        for name in map(str, case.data[key]):
            if not name.startswith('lm_head.'):
                assert ours.pop(names[name]) == expected, name
    assert not ours


@pytest.mark.parametrize('name', ['', '_copy'])
def test_checkpoints_of_the_authors_give_their_features(golden, name):
    from mm_graft.checkpoints import load_backbone
    data = np.load(golden / 'conmim_checkpoint_features.npz', allow_pickle=False)
    c = json.loads(str(data['config_json']))
    arch = {'embed_dims': c['embed_dim'], 'num_layers': c['depth'], 'num_heads': c['num_heads'],
            'feedforward_channels': int(c['embed_dim'] * c['mlp_ratio'])}
    common = {'type': 'mm_graft.ConMIMViT', 'arch': arch, 'img_size': c['img_size'], 'patch_size': c['patch_size'],
              'layer_scale_init_value': c['init_values'], 'norm_cfg': {'type': 'LN', 'eps': c['ln_eps']}}
    pretrained = MODELS.build(common).eval()
    tuned = MODELS.build({**common, 'use_rel_pos_bias': True, 'use_shared_rel_pos_bias': False, 'final_norm': False,
                          'with_mask_token': False, 'out_type': 'avg_featmap'}).eval()
    path = next(golden.glob(f'conmim_checkpoint{name}-*.pth'))
    load_backbone(pretrained, path)
    load_backbone(tuned, path)
    network = 'teacher' if name else 'student'
    images = images_of(data['images'], torch.float32)

    def check(actual, key):
        expected = torch.from_numpy(data[f'{network}/{key}'])
        torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5 * expected.abs().max().item())

    with torch.no_grad():
        check(pretrained(images)[-1], 'tokens_final_norm')
        check(tuned(images)[-1], 'patch_mean_fc_norm_default')
        tuned.out_type = 'raw'
        check(tuned(images)[-1], 'tokens_last_block')
        check(tuned(images)[-1][:, 1:].mean(1), 'patch_mean')


@pytest.fixture
def schedules(golden):
    return np.load(golden / 'conmim_masks_schedules.npz', allow_pickle=False)


def test_masks_hide_the_authors_numbers_of_patches(schedules):
    for ratio, by_cell, by_patch in zip(schedules['ratio'], schedules['hidden_by_ratio'],
                                        schedules['hidden_by_ratio_16px']):
        for cell_size, expected in ((32, by_cell), (16, by_patch)):
            mask = RandomCellMask(cell_size=cell_size, ratio=float(ratio))(4)
            assert mask.sum(1).tolist() == [expected] * 4
    images = len(schedules['hidden_per_image'])
    assert RandomCellMask()(images).sum(1).tolist() == schedules['hidden_per_image'].tolist()
    count = int(schedules['n_masks'])
    cells = RandomCellMask()(count).view(count, 7, 2, 7, 2)
    assert bool((cells == cells[:, :, :1, :, :1]).all()) == bool(schedules['blocks_constant'])
    hidden = cells.sum((1, 2, 3, 4))
    assert [hidden.min(), hidden.max()] == schedules['hidden_min_max'].tolist()
    frequency = cells[:, :, 0, :, 0].double().mean(0)
    assert (frequency - 37 / 49).abs().max() < 0.034
    assert np.abs(frequency.numpy() - schedules['cell_frequency']).max() < 0.034 * math.sqrt(2)


def test_momentum_is_the_authors(schedules):
    base, final = float(schedules['momentum_base']), float(schedules['momentum_final'])
    for it, total, expected in zip(schedules['momentum_it'], schedules['momentum_N'], schedules['momentum_value']):
        assert_close(cosine_momentum(int(it), int(total), base, final), expected, rtol=1e-9)


def test_learning_rate_of_the_config_is_the_authors(schedules):
    epochs, warmup = int(schedules['lr_epochs']), int(schedules['lr_warmup_epochs'])
    length, base, lowest = int(schedules['lr_iters_per_epoch']), float(schedules['lr_base']), float(schedules['lr_min'])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    warm, cosine = conmim_config().param_scheduler
    warm.update(end=warmup)
    cosine.update(begin=warmup, end=epochs, eta_min=lowest)
    built = [PARAM_SCHEDULERS.build(cfg, default_args={'optimizer': optimizer, 'epoch_length': length})
             for cfg in (warm, cosine)]
    rates = []
    for _ in range(epochs * length):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    for it, expected in zip(schedules['lr_it'], schedules['lr_value']):
        assert_close(rates[int(it)], expected, rtol=1e-9, atol=1e-14)
