import math
from dataclasses import replace

import pytest

from mm_graft.commands.start.plan import SMALL, Encoder, Folder, Machine, make_plan, patch_for, seconds_per_image

LAPTOP = Machine('cpu', cores=2, memory=16, flops=1e11, bfloat16=False)
GPU = Machine('cuda', cores=16, memory=24, flops=1.2e14, bfloat16=True)


def test_a_hundred_images_on_two_cores_take_two_minutes():
    plan = make_plan(Folder(100, 400), LAPTOP)
    assert [stage.name for stage in plan.stages] == ['mae', 'graft']
    assert 60 < plan.seconds <= 120
    assert 100 // plan.batch_size >= 4
    assert all(0 < stage.warmup < stage.epochs for stage in plan.stages)
    assert not plan.autocast
    assert plan.encoder.patches <= 64


def test_ten_thousand_images_on_a_gpu_are_seen_often_enough():
    plan = make_plan(Folder(10_000, 500), GPU)
    assert plan.encoder.name == 'deit-small'
    assert plan.encoder.image_size == 224
    assert plan.batch_size == 256
    assert plan.stages[0].epochs * 10_000 > 1_000_000
    assert plan.stages[1].epochs == pytest.approx(plan.stages[0].epochs / 2, abs=1)
    assert plan.stages[0].lr == pytest.approx(1.5e-4)  # MAE's for 256 images
    assert plan.autocast
    assert plan.workers > 2


@pytest.mark.parametrize('machine', [LAPTOP, GPU])
def test_minutes_limit_the_trainings_and_more_of_them_train_longer(machine):
    short, long = (make_plan(Folder(3_000, 500), machine, minutes) for minutes in (20, 40))
    assert short.seconds <= 20 * 60
    assert sum(s.epochs for s in short.stages) < sum(s.epochs for s in long.stages)


def test_a_single_epoch_may_exceed_the_limit_but_not_vanish():
    plan = make_plan(Folder(200_000, 500), LAPTOP, 1)
    assert [(stage.epochs, stage.warmup) for stage in plan.stages] == [(1, 0), (1, 0)]
    assert plan.seconds > 60


def test_from_a_checkpoint_it_is_trained_once_and_gently():
    given = replace(SMALL, image_size=518, patch_size=14)
    plan = make_plan(Folder(100, 400), LAPTOP, given=given)
    assert [stage.name for stage in plan.stages] == ['continue']
    assert 3 * plan.stages[0].lr == pytest.approx(make_plan(Folder(100, 400), LAPTOP).stages[1].lr)
    assert make_plan(Folder(100, 400), LAPTOP, 60, given).stages[0].epochs \
        > make_plan(Folder(100, 400), LAPTOP, 10, given).stages[0].epochs


@pytest.mark.parametrize(('machine', 'own', 'pictures', 'side'), [
    (LAPTOP, 518, 400, 84), (GPU, 518, 400, 224), (GPU, 98, 400, 98), (GPU, 518, 50, 42), (LAPTOP, 518, 20, 28)])
def test_a_given_encoder_sees_images_of_at_most_its_own_size_in_whole_patches(machine, own, pictures, side):
    given = replace(SMALL, image_size=own, patch_size=14)
    plan = make_plan(Folder(100, pictures), machine, given=given)
    assert plan.encoder == replace(given, image_size=side)
    assert ('resampled' in plan.reasons[0][2]) == (side != own)


def test_small_pictures_are_not_enlarged():
    for side, expected in ((28, 16), (32, 32), (64, 64), (70, 64), (500, 96)):
        encoder = make_plan(Folder(100, side), LAPTOP).encoder
        assert encoder.image_size == expected
        assert encoder.image_size % encoder.patch_size == 0
    assert [patch_for(side) for side in (16, 32, 95, 96)] == [4, 8, 8, 16]


def test_the_batch_follows_the_data_and_the_memory():
    assert make_plan(Folder(8, 100), LAPTOP).batch_size == 2
    assert make_plan(Folder(1_000_000, 500), GPU).batch_size == 256
    assert make_plan(Folder(1_000_000, 500), replace(GPU, memory=2)).batch_size < 64


def test_larger_data_get_a_larger_encoder_if_the_device_has_the_memory():
    assert make_plan(Folder(600_000, 500), replace(GPU, memory=80)).encoder.name == 'deit-base'
    assert make_plan(Folder(600_000, 500), GPU).encoder.name == 'deit-small'
    assert make_plan(Folder(500, 500), GPU).encoder.name == 'deit-tiny'


def test_a_forward_pass_costs_what_counting_says():
    encoder = Encoder('one', width=2, blocks=1, heads=1, image_size=2, patch_size=1)
    # 3 tokens: qkv 3·2·6, attention 2·3·3·2, projection 3·2·2, MLP 2·3·2·8 multiply-adds
    assert encoder.flops(3) == 2 * (36 + 36 + 12 + 96)
    assert seconds_per_image('graft', SMALL, GPU) > seconds_per_image('mae', SMALL, GPU)
    assert seconds_per_image('mae', SMALL, LAPTOP) > seconds_per_image('mae', SMALL, replace(LAPTOP, flops=1e12))


def test_too_few_images_and_no_time_are_said():
    with pytest.raises(ValueError, match='7 readable images are too few'):
        make_plan(Folder(7, 100), LAPTOP)
    with pytest.raises(ValueError, match='--minutes 0 leaves no time'):
        make_plan(Folder(100, 100), LAPTOP, 0)


def test_the_encoder_is_measured_a_few_times_within_the_limit():
    plan = make_plan(Folder(100, 400), LAPTOP)
    assert all(2 <= math.ceil(stage.epochs / stage.look_every) <= 4 for stage in plan.stages)
    assert plan.looked_at < make_plan(Folder(10_000, 500), GPU).looked_at
    assert all(stage.look_every >= 1 for stage in make_plan(Folder(200_000, 500), LAPTOP, 1).stages)


def test_every_choice_has_a_reason():
    plan = make_plan(Folder(100, 400), LAPTOP, 5)
    assert [what for what, _, _ in plan.reasons] == ['encoder', 'batch', 'mae', 'graft', 'precision', 'workers']
    assert 'four steps an epoch' in {what: why for what, _, why in plan.reasons}['batch']
    assert '--minutes 5' in {what: why for what, _, why in plan.reasons}['mae']
