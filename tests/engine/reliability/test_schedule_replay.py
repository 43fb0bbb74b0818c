import pytest
import torch
from mmengine.optim import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingMomentum,
    LinearLR,
    MultiStepLR,
    PolyLR,
    ReduceOnPlateauLR,
)

from mm_graft.engine.reliability.schedule_replay import Place, are_as_saved, bring_to
from mm_graft.engine.schedulers.freezeout import FreezeOutLR
from mm_graft.engine.schedulers.warmup_cosine import WarmupCosineLR

LENGTH = 4
PLACES = [Place(0, 0, LENGTH), Place(0, 3, LENGTH), Place(2, 8, LENGTH), Place(2, 11, LENGTH), Place(5, 20, LENGTH)]


def optimizer(rate=1.0):
    groups = [dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=rate * share, depth=depth)
              for depth, share in enumerate((1.0, 0.1, 0.3))]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))


def made(kind, groups):
    """Schedules of a run of five epochs."""
    if kind == 'ours':
        return [WarmupCosineLR(groups, warmup=3, end=20, by_epoch=False, min_ratio=0.1)]
    if kind == 'freezeout':
        return [FreezeOutLR(groups, t0=0.5, warmup=2, end=20, by_epoch=False)]
    if kind == 'host':  # as in segmentation: a warm-up, then a power
        return [LinearLR(groups, start_factor=0.1, by_epoch=False, begin=0, end=6),
                PolyLR(groups, eta_min=0.0, power=0.9, begin=6, end=20, by_epoch=False)]
    if kind == 'mixed':
        return [ConstantLR(groups, factor=0.5, by_epoch=False, end=7), MultiStepLR(groups, [1, 3]),
                CosineAnnealingMomentum(groups, T_max=20, eta_min=0.1, by_epoch=False)]
    return [WarmupCosineLR(groups, warmup=1, end=4, by_epoch=True), CosineAnnealingLR(groups, T_max=4, begin=4, end=5)]


def stepped(schedules, place):
    """What ``ParamSchedulerHook`` does on the way to a place."""
    for iteration in range(place.iterations):
        for schedule in schedules:
            if not schedule.by_epoch:
                schedule.step()
        if (iteration + 1) % LENGTH == 0:
            for schedule in schedules:
                if schedule.by_epoch:
                    schedule.step()


def settings(groups):
    return [{key: value for key, value in group.items() if key != 'params'} for group in groups.param_groups]


KINDS = ['ours', 'freezeout', 'host', 'mixed', 'epochs']


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('place', PLACES, ids=lambda place: f'{place.iterations}')
def test_a_schedule_is_brought_to_the_bits_that_its_steps_lead_to(kind, place):
    walked, moved = optimizer(), optimizer()
    there, schedules = made(kind, walked), made(kind, moved)
    stepped(there, place)
    bring_to(schedules, place)
    assert settings(moved) == settings(walked)
    for left, right in zip(there, schedules):
        assert left.state_dict() == right.state_dict()
        left.step()
        right.step()
    assert settings(moved) == settings(walked)


@pytest.mark.parametrize('kind', KINDS)
def test_unchanged_schedules_are_told_from_changed_ones(kind):
    place = Place(2, 11, LENGTH)
    there = made(kind, optimizer())
    stepped(there, place)
    saved = [schedule.state_dict() for schedule in there]
    assert are_as_saved(made(kind, optimizer()), saved, place)
    assert not are_as_saved(made(kind, optimizer(2.0)), saved, place)
    assert not are_as_saved(made(kind, optimizer()), saved[:-1], place)
    assert not are_as_saved(made(kind, optimizer()), saved, Place(3, 12, LENGTH))


def test_a_changed_end_is_seen():
    saved = [WarmupCosineLR(optimizer(), warmup=3, end=20, by_epoch=False).state_dict()]
    assert not are_as_saved([WarmupCosineLR(optimizer(), warmup=3, end=40, by_epoch=False)], saved, PLACES[0])
    assert not are_as_saved([WarmupCosineLR(optimizer(), warmup=2, end=20, by_epoch=False)], saved, PLACES[0])


def test_a_schedule_that_begins_later_leaves_the_rate_alone_until_then():
    groups = optimizer()
    bring_to([WarmupCosineLR(groups, warmup=0, begin=5, end=20, by_epoch=False)], Place(0, 3, LENGTH))
    assert [group['lr'] for group in groups.param_groups] == [1.0, 0.1, 0.3]


def test_a_schedule_that_follows_a_metric_is_refused():
    groups = optimizer()
    with pytest.raises(ValueError, match=r'ReduceOnPlateauLR follows the metrics.*resume with the old ones'):
        bring_to([ReduceOnPlateauLR(groups, monitor='loss')], PLACES[2])
