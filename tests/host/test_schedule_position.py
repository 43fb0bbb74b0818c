import pytest
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR

from mm_graft.engine.schedulers.warmup_cosine import WarmupCosineLR
from mm_graft.host.schedule_position import MOVING, jump_to, steps_taken


def build(kind=WarmupCosineLR, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    if kind is WarmupCosineLR:
        settings = dict(warmup=3, by_epoch=False, end=12) | settings
    return optimizer, kind(optimizer, **settings)


@pytest.mark.parametrize('steps', [0, 1, 3, 7, 11])
def test_a_jump_ends_where_as_many_steps_do(steps):
    (stepped, walking), (jumped, jumping) = build(), build()
    for _ in range(steps):
        stepped.step()
        walking.step()
    jump_to(jumping, steps)
    assert jumping.state_dict() == walking.state_dict()
    assert jumped.param_groups[0]['lr'] == stepped.param_groups[0]['lr']
    stepped.step()
    walking.step()
    jumping.step()
    assert jumped.param_groups[0]['lr'] == stepped.param_groups[0]['lr']
    assert steps_taken(jumping.state_dict()) == steps + 1


@pytest.mark.parametrize(('kind', 'settings'), [
    (LinearLR, dict(start_factor=0.1, by_epoch=False, end=5)), (CosineAnnealingLR, dict(T_max=9, by_epoch=False))])
def test_what_moves_of_a_schedule_of_the_host_is_known(kind, settings):
    optimizer, schedule = build(kind, **settings)
    before = schedule.state_dict()
    optimizer.step()
    schedule.step()
    moved = {name for name, value in schedule.state_dict().items() if value != before[name]}
    assert moved == {'last_step', '_global_step', '_last_value'}
    assert moved <= MOVING
