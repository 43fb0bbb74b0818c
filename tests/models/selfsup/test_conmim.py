from copy import deepcopy

import pytest
import torch
from mmpretrain.registry import MODELS

from mm_graft.depth import depth_map
from mm_graft.models.ema import cosine_momentum
from mm_graft.models.masked_input import encode_masked
from mm_graft.models.selfsup.conmim import ConMIM
from tests.defaults import defaults
from tests.models.selfsup.conmim_builders import PLAIN, TIMM, build, config
from tests.tiny import PREPROCESSOR


@pytest.fixture
def views() -> list[torch.Tensor]:
    return [torch.randn(4, 3, 32, 32) for _ in range(2)]


def step(model, views, optimizer):
    optimizer.zero_grad()
    model.loss(views)['loss_contrast'].backward()
    optimizer.step()


def teacher_of(model) -> list[torch.Tensor]:
    return [p.clone() for p in model.momentum_encoder.module.parameters()]


def student_of(model) -> list[torch.Tensor]:
    return [p.detach().clone() for network in (model.backbone, model.neck) for p in network.parameters()]


def average(teacher, student, momentum):
    return [momentum * t + (1 - momentum) * s for t, s in zip(teacher, student)]


def test_only_the_student_is_trained_and_every_parameter_of_it(views):
    model = build()
    losses = model.loss(views)
    losses['loss_contrast'].backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if not name.startswith('momentum_encoder.')}
    assert [name for name in losses if 'loss' in name] == ['loss_contrast']


def test_loss_and_teacher_are_the_published_ones_unless_told_otherwise():
    cfg = config()
    del cfg['contrast'], cfg['teacher']
    model = MODELS.build(cfg)
    assert (type(model.contrast).__name__, model.contrast.temperature) == ('DenoisingContrastLoss', 0.1)
    assert (model.momentum_encoder.momentum, model.momentum_encoder.end_momentum) == (0.996, 1.0)


def test_its_parts_are_optional_and_the_preprocessor_is_its_own():
    without = {**config()['backbone'], 'with_mask_token': False}
    model = build(backbone=without, mask_generator=None, data_preprocessor=PREPROCESSOR)
    assert model.backbone.mask_token is None
    assert model.data_preprocessor.mean.flatten().tolist() == PREPROCESSOR['mean']


def test_a_mask_token_of_the_models_own_is_drawn_within_one_standard_deviation():
    token = MODELS.build(config(backbone={**PLAIN, 'arch': {**PLAIN['arch'], 'embed_dims': 512}},
                                neck={**config()['neck'], 'in_channels': 512})).mask_token
    assert token.abs().max() <= 0.02
    assert token.min() < -0.015
    assert token.max() > 0.015
    assert token.std().item() == pytest.approx(0.02 * 0.54, rel=0.1)  # of a normal cut off at one σ


def test_the_teacher_starts_as_the_student():
    model = build()
    torch.testing.assert_close(teacher_of(model), student_of(model), rtol=0, atol=0)


@pytest.mark.parametrize('optimizer', [
    lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True), lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    lambda p: torch.optim.SGD(p, lr=0.1)])
def test_the_teacher_follows_after_every_step_with_a_rising_momentum(views, optimizer):
    model = build()
    optimizer = optimizer([p for p in model.parameters() if p.requires_grad])
    expected = teacher_of(model)
    for iteration in range(3):
        step(model, views, optimizer)
        expected = average(expected, student_of(model), cosine_momentum(iteration, 10, 0.9))
        torch.testing.assert_close(teacher_of(model), expected)
    assert model.momentum_encoder.steps == 3


def test_accumulated_gradients_are_one_step(views):
    model = build()
    before = teacher_of(model)
    for _ in range(3):
        model.loss(views)['loss_contrast'].backward()
    torch.testing.assert_close(teacher_of(model), before, rtol=0, atol=0)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    torch.testing.assert_close(teacher_of(model), average(before, student_of(model), 0.9))


def test_a_loaded_state_goes_on_as_if_nothing_had_happened(views):
    straight, resumed = build(mask_generator=None), build(mask_generator=None)
    step(straight, views, torch.optim.SGD(straight.parameters(), lr=0.5))
    resumed.load_state_dict(deepcopy(straight.state_dict()))
    for model in (straight, resumed):
        step(model, views, torch.optim.SGD(model.parameters(), lr=0.5))
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)
    assert resumed.momentum_encoder.steps == 2


def test_each_network_sees_the_view_that_is_meant_for_it(views):
    weak, strong = views

    def loss(views, **changes):
        model = build(**changes)
        torch.manual_seed(1)
        return model.loss(views)['loss_contrast']

    usual = loss(views)
    torch.testing.assert_close(loss([strong, weak], student_view=1, teacher_view=0), usual)
    torch.testing.assert_close(loss([weak, weak]), loss(views, teacher_view=0))
    assert not torch.isclose(loss(views, teacher_view=0), usual)
    assert not torch.isclose(loss(views, student_view=1), usual)


@pytest.mark.parametrize('student', [0, 1])
def test_the_student_encodes_its_view_and_the_teacher_the_other(student, views):
    model, seen = build(student_view=student, teacher_view=1 - student), {}
    for name, encoder in (('student', model.backbone), ('teacher', model.momentum_encoder.module[0])):
        encoder.patch_embed.register_forward_pre_hook(lambda module, args, name=name: seen.__setitem__(name, args[0]))
    model.loss(views)
    assert torch.equal(seen['student'], views[student])
    assert torch.equal(seen['teacher'], views[1 - student])


def test_the_teacher_is_never_in_eval_mode_and_keeps_its_own_statistics(views):
    model = build()
    before = model.momentum_encoder.module[1].bn0.running_mean.clone()
    model.loss(views)
    assert model.momentum_encoder.module.training
    assert not torch.equal(model.momentum_encoder.module[1].bn0.running_mean, before)
    assert not torch.equal(model.momentum_encoder.module[1].bn0.running_mean, model.neck.bn0.running_mean)


def test_batch_statistics_include_the_class_token(views):
    model = build()
    rows = []
    model.neck.register_forward_hook(lambda module, inputs, output: rows.append(len(output[0])))
    query, mask = model.queries(views[0])
    assert rows == [4 * 17]
    assert query.shape == (4, 16, 8)
    assert mask.shape == (4, 16)


@pytest.mark.parametrize(('backbone', 'prefix'), [({}, 1), ({'backbone': {**TIMM, 'reg_tokens': 2}}, 3)])
def test_patches_are_projected_with_the_class_token_and_keep_their_places(backbone, prefix):
    model, tokens = build(**backbone), torch.randn(4, prefix + 16, 16)
    rows = model.neck((tokens.flatten(0, 1), ))[0]
    for image in range(4):
        first = image * (prefix + 16) + prefix
        torch.testing.assert_close(model.project(tokens, model.neck)[image], rows[first:first + 16])


def test_without_a_teacher_the_student_makes_the_keys(views):
    model = build(teacher=None)
    torch.testing.assert_close(model.keys(views[1]), model.project(model.backbone(views[1])[-1], model.neck))
    assert not model.keys(views[1]).requires_grad
    assert all(p.requires_grad for p in model.parameters())


def test_without_masks_every_patch_is_asked_for_and_no_parameter_is_idle(views):
    model = build(mask_generator=None)
    _, mask = model.queries(views[0])
    assert mask.all()
    model.loss(views)['loss_contrast'].backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('changes', [
    {'contrast': {'type': 'mm_graft.BatchDictionaryContrastLoss'}},
    {'contrast': {'type': 'mm_graft.FilteredContrastLoss', 'max_similarity': 0.5}},
    {'contrast': {'type': 'mm_graft.InstanceContrastLoss'}, 'mask_generator': None},
    {'mask_generator': {'type': 'mm_graft.BlockMask', 'img_size': 32, 'patch_size': 8, 'min_patches': 2}},
    {'backbone': PLAIN},
    {'backbone': PLAIN, 'mask_generator': None},
    {'backbone': TIMM},
    {'backbone': TIMM, 'mask_generator': None},
])
def test_every_variant_trains(views, changes):
    model = build(**changes)
    before = student_of(model)
    model.loss(views)['loss_contrast'].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert any(not torch.equal(a, b) for a, b in zip(before, student_of(model)))


def test_a_plain_vit_of_the_host_is_masked_like_our_own(views):
    model = build(backbone=PLAIN)
    mask = torch.rand(4, 16) < 0.5
    hidden = mask.view(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)

    def encode(images):
        return encode_masked(model.backbone, images, mask, model.mask_token)

    encoded = encode(views[0])
    torch.testing.assert_close(encode(torch.where(hidden, 7.0, views[0])), encoded)
    assert not torch.allclose(encode(torch.where(hidden, views[0], 7.0)), encoded)
    assert not model.backbone.patch_embed._forward_hooks
    assert depth_map(model).depths['mask_token'] == 0
    names = {name for name, _ in model.named_parameters()}
    assert {'mask_token', 'momentum_encoder.module.0.pos_embed'} <= names
    assert 'momentum_encoder.module.0.mask_token' not in names


@pytest.mark.parametrize('changes', [{}, {'mask_generator': None}, {'teacher': None}])
def test_of_several_outputs_the_last_is_compared(views, changes):
    found = []
    for outputs in ([3], [1, 3]):
        torch.manual_seed(1)
        model = build(backbone={**PLAIN, 'out_indices': outputs}, **changes)
        torch.manual_seed(2)
        found.append(model.loss(views)['loss_contrast'])
    assert found[0] == found[1]


@pytest.mark.parametrize(('changes', 'message'), [
    ({'backbone': {**PLAIN, 'out_type': 'cls_token'}}, "out_type='raw'"),
    ({'backbone': {**config()['backbone'], 'with_mask_token': False}}, 'with_mask_token=True'),
    ({'mask_generator': {'type': 'mm_graft.RandomCellMask'}}, '14 × 14'),
    ({'mask_generator': {'type': 'mm_graft.RandomCellMask', 'ratio': 1.0}}, r'\(0, 1\)'),
    ({'mask_generator': {'type': 'mm_graft.RandomCellMask', 'img_size': 40}}, 'divi'),
    ({'teacher': {'momentum': 1.5}}, r'\[0, 1\]'),
])
def test_bad_settings_are_refused_when_the_model_is_built(changes, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(config(**changes))


def test_the_first_view_is_masked_and_the_second_is_the_dictionary():
    views = {name: value for name, value in defaults(ConMIM).items() if 'view' in name}
    assert views == {'student_view': 0, 'teacher_view': 1}
