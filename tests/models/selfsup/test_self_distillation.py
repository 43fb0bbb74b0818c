import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from mm_graft.depth import depth_map
from mm_graft.models.losses.koleo import koleo
from mm_graft.models.losses.self_distillation import class_cross_entropy, patch_cross_entropy
from mm_graft.models.selfsup.self_distillation import SelfDistillation, TeacherTemperature, warmed_up
from tests.defaults import defaults
from tests.models.selfsup.conmim_builders import TIMM
from tests.tiny import VIT, differ, mae_file, self_distillation, start_from

PLAIN = dict(type='VisionTransformer', **VIT, out_type='raw')
CONMIM = dict(type='mm_graft.ConMIMViT', **VIT)


def build(**changes):
    model = MODELS.build(self_distillation(**changes))
    model.init_weights()
    return model.train()


@pytest.fixture
def views():
    return [torch.randn(4, 3, side, side) for side in (32, 32, 16, 16)]


def fixed_mask(model):
    mask = torch.rand(8, 16) < 0.4
    mask[3] = False
    model.mask_generator = lambda count, device: mask
    return mask


def test_the_terms_are_those_of_the_figure(views):
    model = differ(build(koleo_weight=0.5, patch_weight=2.0))
    mask, whole = fixed_mask(model), torch.cat(views[:2])
    twin = copy.deepcopy(model)
    losses = model.loss(views)

    backbone, head = twin.momentum_encoder.module
    tokens = backbone(whole)[-1].detach()
    targets = (head(tokens[:, 0]) / 0.04).softmax(1).detach()
    patch_targets = (head(tokens[:, 1:][mask]) / 0.04).softmax(1).detach()
    seen = twin.encode(whole, mask)
    local = torch.cat([twin.backbone(view)[-1][:, 0] for view in views[2:]])
    scores = twin.head(torch.cat([seen[:, 0], local]))
    torch.testing.assert_close(losses['loss_class'], class_cross_entropy(
        scores.view(4, 4, -1), targets.view(2, 4, -1), 0.1))
    torch.testing.assert_close(losses['loss_patch'], 2 * patch_cross_entropy(
        twin.head(seen[:, 1:][mask]), patch_targets, mask, 0.1))
    torch.testing.assert_close(losses['loss_koleo'], 0.5 * (koleo(seen[:4, 0]) + koleo(seen[4:, 0])))
    torch.testing.assert_close(losses['teacher_entropy'], -(targets * targets.log()).sum(1).mean())


def test_without_masks_nothing_is_kept_for_patches():
    with_masks, without = build(), build(mask_generator=None)
    assert 'patch_targets.center' in with_masks.state_dict()
    assert without.patch_targets is without.patch_temperature is None
    assert not any(name.startswith('patch_targets') for name in without.state_dict())


def test_student_and_teacher_views_and_masks_cannot_be_exchanged(views):
    model = differ(build())
    fixed_mask(model)
    first = copy.deepcopy(model).loss(views)
    for order in ([1, 0, 2, 3], [0, 1, 2]):  # the masks stay where they are
        assert copy.deepcopy(model).loss([views[i] for i in order])['loss_class'] != first['loss_class']
    exchanged = copy.deepcopy(model)
    student, teacher = dict(exchanged.named_parameters()), exchanged.momentum_encoder.module
    with torch.no_grad():
        for part, copied in zip(('backbone', 'head'), teacher):
            for name, parameter in copied.named_parameters():
                own = student[f'{part}.{name}']
                own.data, parameter.data = parameter.data, own.data
    second = exchanged.loss(views)
    assert first['loss_class'] != second['loss_class']
    assert first['loss_patch'] != second['loss_patch']


@pytest.mark.parametrize('backbone', [{}, PLAIN, TIMM, CONMIM])
@pytest.mark.parametrize('changes', [
    {}, {'mask_generator': None, 'koleo_weight': 0.0}, {'targets': {'type': 'mm_graft.SinkhornKnopp'}},
    {'patch_head': {'type': 'mm_graft.DINOHead', 'out_channels': 12, 'hid_channels': 16, 'bottleneck_channels': 8}},
])
def test_gradients_reach_all_of_the_student_and_nothing_of_the_teacher(backbone, changes):
    if backbone.get('type') == 'mm_graft.ConMIMViT':
        views = [torch.randn(4, 3, 32, 32) for _ in range(3)]
    else:
        views = [torch.randn(4, 3, side, side) for side in (32, 32, 16)]
    model = build(**changes, **({'backbone': backbone} if backbone else {}))
    if model.mask_generator is not None:
        fixed_mask(model)
    losses = model.loss(views)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    untouched = {name for name in trained if not model.get_parameter(name).grad.any()}
    assert not {name for name in untouched if 'attn' not in name}
    assert not any(name.startswith('momentum_encoder') for name in trained)
    assert any('mask_token' in name for name in trained) == (model.mask_generator is not None)
    assert ('patch_head.mlp.0.weight' in trained) == ('patch_head' in changes)


def test_of_several_outputs_the_last_is_compared(views):
    found = []
    for outputs in ([3], [1, 3]):
        torch.manual_seed(1)
        model = build(backbone=dict(type='mm_graft.GraftViT', **VIT, out_type='raw', out_indices=outputs))
        mask = torch.rand(8, 16) < 0.4
        model.mask_generator = lambda count, device, mask=mask: mask
        found.append(differ(model).loss(views))
    assert all(torch.equal(found[0][name], found[1][name]) for name in ('loss_class', 'loss_patch', 'teacher_entropy'))


def test_without_masks_and_koleo_it_is_dino(views):
    assert set(build(mask_generator=None, koleo_weight=0.0).loss(views)) == {'loss_class', 'teacher_entropy'}


def test_local_views_go_to_the_student_alone_and_hidden_patches_are_hidden_from_it_alone(views):
    model = build()
    mask = fixed_mask(model)
    seen = []
    model.momentum_encoder.module[0].register_forward_hook(lambda module, args, output: seen.append(args[0]))
    model.loss(views)
    assert len(seen) == 1
    assert torch.equal(seen[0], torch.cat(views[:2]))
    hidden = mask.view(8, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    images = torch.cat(views[:2])
    torch.testing.assert_close(model.encode(torch.where(hidden, 5.0, images), mask), model.encode(images, mask))
    assert not torch.allclose(model.teach(torch.where(hidden, 5.0, images), None)[0], model.teach(images, None)[0])


def test_the_teacher_has_no_drop_path_and_moves_after_the_step(views):
    model = build(backbone=dict(type='mm_graft.GraftViT', **VIT, out_type='raw', drop_path_rate=0.9), momentum=0.75,
                  end_momentum=0.75)
    assert not any(module.training for module in model.momentum_encoder.modules())
    assert torch.equal(*(model.momentum_encoder.module[0](views[0])[-1] for _ in range(2)))
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.1)))
    expected = 0.75 * model.momentum_encoder.module[1].mlp[0].weight
    losses = model.loss(views)
    torch.testing.assert_close(expected, 0.75 * model.momentum_encoder.module[1].mlp[0].weight)
    wrapper.update_params(losses['loss_class'] + losses['loss_patch'])
    torch.testing.assert_close(model.momentum_encoder.module[1].mlp[0].weight,
                               expected + 0.25 * model.head.mlp[0].weight)


def test_it_starts_from_mae_in_student_and_teacher_with_the_mask_token_in_the_stem(tmp_path):
    model = start_from(build(), mae_file(tmp_path / 'mae.pth'))
    assert torch.equal(model.momentum_encoder.module[0].cls_token, model.backbone.cls_token)
    depths = depth_map(model).depths
    assert depths['mask_token'] == 0
    assert depths['head.last_layer.weight_v'] == depths['momentum_encoder.module.1.mlp.0.weight'] == 5


def test_a_frozen_prefix_gets_no_gradient(views):
    model = build(backbone=dict(type='mm_graft.GraftViT', **VIT, out_type='raw', frozen_stages=2), mask_generator=None)
    model.loss(views)['loss_class'].backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith(('backbone.cls', 'backbone.layers.0', 'backbone.layers.1.')) for name in reached)
    assert 'backbone.layers.2.attn.qkv.weight' in reached


def test_centers_are_of_class_tokens_and_of_hidden_patches_and_are_resumed(views):
    model = build()
    mask = fixed_mask(model)
    backbone, head = model.momentum_encoder.module
    tokens = backbone(torch.cat(views[:2]))[-1]
    model.loss(views)
    torch.testing.assert_close(model.targets.center, 0.1 * head(tokens[:, 0]).mean(0).detach())
    torch.testing.assert_close(model.patch_targets.center, 0.1 * head(tokens[:, 1:][mask]).mean(0).detach())
    other = build()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.targets.center, model.targets.center)


def test_every_number_matters(views):
    def terms(**changes):
        torch.manual_seed(1)
        model = build(**changes)
        fixed_mask(model)
        return model.loss(views)
    first = terms()
    for changes, name in (({'student_temperature': 0.2}, 'loss_class'), ({'student_temperature': 0.2}, 'loss_patch'),
                          ({'patch_weight': 2.0}, 'loss_patch'),
                          ({'koleo_weight': 0.2}, 'loss_koleo'), ({'num_global_views': 1}, 'loss_class'),
                          ({'teacher_temperature': dict(start=0.1, end=0.1)}, 'loss_class'),
                          ({'patch_temperature': dict(start=0.1, end=0.1)}, 'loss_patch')):
        if 'num_global_views' in changes:
            model = build(mask_generator=None, koleo_weight=0.0)
            two = copy.deepcopy(model).loss(views)['loss_class']
            model.num_global_views = 1
            assert model.loss(views)['loss_class'] != two
        else:
            assert terms(**changes)[name] != first[name], name
    assert terms(patch_temperature=dict(start=0.1, end=0.1))['loss_class'] == first['loss_class']


def test_the_temperature_warms_up_over_a_share_of_the_run(monkeypatch):
    assert [warmed_up(i, 4, 1.0, 2.0) for i in range(6)] == [1.0, 1.25, 1.5, 1.75, 2.0, 2.0]
    hub = MessageHub.get_instance('temperature')
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: hub)
    schedule = TeacherTemperature(0.04, 0.07, warmup=0.3)
    assert TeacherTemperature(0.04, 0.04)() == 0.04
    assert TeacherTemperature(0.04, 0.07, warmup=0.0)() == 0.07
    with pytest.raises(RuntimeError, match='give max_iters'):
        schedule()
    hub.update_info('max_iters', 100)
    for iteration, value in ((0, 0.04), (15, 0.055), (30, 0.07), (99, 0.07)):
        hub.update_info('iter', iteration)
        assert schedule() == pytest.approx(value)


def test_what_cannot_work_is_said(views):
    model = build()
    with pytest.raises(ValueError, match='1 view'):
        model.loss(views[:1])
    with pytest.raises(ValueError, match='one Tensor'):
        model.loss(views[0])
    with pytest.raises(ValueError, match=r'2 view\(s\).*3 of them global'):
        build(num_global_views=3).loss(views[:2])
    with pytest.raises(ValueError, match='must be of one size'):
        model.loss(views[1:])
    head = dict(type='mm_graft.DINOHead')
    for changes, message in (
            ({'mask_generator': None, 'patch_head': head}, 'there is no mask_generator'),
            ({'mask_generator': None, 'patch_temperature': dict(start=0.1)}, 'there is no mask_generator'),
            ({'koleo_weight': -1.0}, 'must be ≥ 0'), ({'patch_weight': -1.0}, 'must be ≥ 0'),
            ({'student_temperature': 0.0}, '> 0'),
            ({'teacher_temperature': dict(start=0.0)}, 'must be positive'),
            ({'teacher_temperature': dict(end=0.0)}, 'must be positive'),
            ({'teacher_temperature': dict(warmup=30)}, 'share of the run'),
            ({'backbone': dict(type='mm_graft.GraftViT', **VIT)}, "set out_type='raw'"),
            ({'mask_generator': dict(type='mm_graft.SpreadBlockMask')}, 'do not fit an encoder of 4 × 4')):
        with pytest.raises(ValueError, match=message):
            MODELS.build(self_distillation(**changes))


def test_the_preprocessor_makes_its_views():
    model = MODELS.build(self_distillation(data_preprocessor=dict(
        type='mm_graft.MultiCropPreprocessor', num_local=3, local_size=(16, 16), mean=[0.] * 3, std=[1.] * 3)))
    data = model.data_preprocessor({'inputs': torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)}, True)
    assert [view.shape[-1] for view in data['inputs']] == [32, 32, 16, 16, 16]
    assert torch.isfinite(model.train().loss(**data)['loss_class'])


def test_what_is_not_given_is_the_authors():
    assert defaults(TeacherTemperature) == {'start': 0.04, 'end': 0.07, 'warmup': 0.3, 'max_iters': None}
    usual = defaults(SelfDistillation)
    assert usual.pop('targets') == {'type': 'mm_graft.Centering', 'momentum': 0.9}
    assert {name: value for name, value in usual.items() if value is not None} == {
        'student_temperature': 0.1, 'patch_weight': 1.0, 'koleo_weight': 0.0, 'num_global_views': 2, 'momentum': 0.996,
        'end_momentum': 1.0}
