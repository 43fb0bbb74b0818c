"""Self-distillation against its authors' functions, in double precision (tests/data/golden/self_distillation.md)."""

import pytest
import torch
from torch import nn

from mm_graft.engine.schedulers.cosine_weight_decay import CosineWeightDecay
from mm_graft.models.heads.dino_head import DINOHead
from mm_graft.models.losses.koleo import koleo
from mm_graft.models.losses.self_distillation import (
    Centering,
    class_cross_entropy,
    patch_cross_entropy,
    sinkhorn_knopp,
)
from mm_graft.models.selfsup.self_distillation import warmed_up


@pytest.fixture
def data(read_npz):
    return {name: torch.as_tensor(array) for name, array in read_npz('self_distillation.npz').items()}


def near(actual, expected):
    torch.testing.assert_close(torch.as_tensor(actual, dtype=torch.float64), expected, rtol=1e-10, atol=1e-12)


def test_dino_over_two_steps_with_its_center(data):
    center = Centering(7).double()
    for step in range(2):
        student = data[f'dino.student{step}'].requires_grad_()
        targets = center(data[f'dino.teacher{step}'], 0.07)
        loss = class_cross_entropy(student.unflatten(0, (5, 3)), targets.unflatten(0, (2, 3)), 0.1)
        near(loss, data[f'dino.loss{step}'])
        near(torch.autograd.grad(loss, student)[0], data[f'dino.grad{step}'])
        near(center.center, data[f'dino.center{step}'])


def test_ibot_over_two_steps_with_both_centers(data):
    classes, patches = Centering(7).double(), Centering(6).double()
    for step in range(2):
        part = {name: data[f'ibot.{name}{step}'] for name in (
            'student_global', 'student_local', 'student_patch', 'teacher_class', 'teacher_patch', 'mask')}
        student = torch.cat([part['student_global'], part['student_local']])
        targets = classes(part['teacher_class'], 0.04)
        near(class_cross_entropy(student.unflatten(0, (5, 3)), targets.unflatten(0, (2, 3)), 0.1),
             data[f'ibot.loss_class{step}'])
        near(classes.center, data[f'ibot.center{step}'])
        patch = part['student_patch'].requires_grad_()
        mask = part['mask']
        targets = patches(part['teacher_patch'].flatten(0, 1), 0.07).view_as(patch)  # iBOT centers on all patches
        loss = patch_cross_entropy(patch[mask], targets[mask], mask, 0.1)
        near(loss, data[f'ibot.loss_patch{step}'])
        near(torch.autograd.grad(loss, patch)[0], data[f'ibot.grad_patch{step}'])
        near(patches.center, data[f'ibot.patch_center{step}'])


def test_sinkhorn_knopp_of_class_tokens_and_patches(data):
    for iterations in (1, 3):
        near(sinkhorn_knopp(data['sk.scores'], 0.05, iterations), data[f'sk.class{iterations}'])
    near(sinkhorn_knopp(data['sk.scores'], 0.05), data['sk.patch'])


def test_dinov2s_patch_loss_class_loss_and_center_of_hidden_patches(data):
    student = data['patch.student'].requires_grad_()
    loss = patch_cross_entropy(student, data['patch.targets'], data['patch.mask'], 0.1)
    near(loss, data['patch.loss'])
    near(torch.autograd.grad(loss, student)[0], data['patch.grad'])
    student = torch.cat([data['v2.global'], data['v2.local']]).unflatten(0, (5, 3))
    near(class_cross_entropy(student, data['v2.targets'].unflatten(0, (2, 3)), 0.1), data['v2.loss'])
    center = Centering(7).double()
    center(data['v2.patch_scores'], 0.07)
    near(center.center, data['v2.patch_center'])


def test_koleo(data):
    features = data['koleo.features'].requires_grad_()
    loss = koleo(features)
    near(loss, data['koleo.loss'])
    near(torch.autograd.grad(loss, features)[0], data['koleo.grad'])


def test_the_head_loads_their_weights_and_gives_their_scores(data):
    head = DINOHead(8, out_channels=10, hid_channels=12, bottleneck_channels=4, train_norms=True).double()
    head.load_state_dict({name.removeprefix('head.state.'): value for name, value in data.items()
                          if name.startswith('head.state.')})
    near(head(data['head.x']), data['head.y'])


def test_schedules_of_temperature_and_weight_decay(data):
    for epoch, value in enumerate(data['dino.temperatures'].tolist()):
        assert warmed_up(epoch, 29, 0.04, 0.07) == pytest.approx(value, rel=1e-12)  # theirs ends at the 30th epoch
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1, weight_decay=0.04)
    schedule = CosineWeightDecay(optimizer, end_ratio=10, end=20, by_epoch=False)
    for value in data['schedule.decay'].tolist():
        assert optimizer.param_groups[0]['weight_decay'] == pytest.approx(value, rel=1e-12)
        schedule.step()
