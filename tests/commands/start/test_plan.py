import math
from dataclasses import replace

import pytest

from mm_graft.commands.start.plan import (
    SMALL,
    TINY,
    Channels,
    Encoder,
    Folder,
    Machine,
    compute_seconds,
    make_plan,
    patch_for,
    seconds_per_image,
    share_of_peak,
)
from mm_graft.commands.start.speed import COMPILE_PAYS, Speed

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


def test_bfloat16_on_a_cpu_saves_less_than_its_products_promise():
    """One core of an EPYC with both rates measured: 48 ms an image of the graft in bfloat16, 76 in float32."""
    encoder = replace(TINY, image_size=64, patch_size=8)
    fast, slow = (Machine('cpu', 1, 16, flops, bfloat16) for flops, bfloat16 in ((4.8e11, True), (1.15e11, False)))
    assert compute_seconds('graft', encoder, fast) == pytest.approx(0.05, rel=0.3)
    assert compute_seconds('graft', encoder, fast) < compute_seconds('graft', encoder, slow)
    assert share_of_peak(fast, looking=True) * fast.flops < share_of_peak(slow, looking=True) * slow.flops * 2


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
    assert compute_seconds('graft', SMALL, GPU) > compute_seconds('mae', SMALL, GPU)
    assert compute_seconds('mae', SMALL, LAPTOP) > compute_seconds('mae', SMALL, replace(LAPTOP, flops=1e12))


def test_a_gpu_computes_while_the_cores_read_and_a_cpu_does_one_after_the_other():
    folder = Folder(10_000, 375)
    for cores, speed in ((2, Speed('opencv')), (16, Speed('opencv')), (2, Speed('pillow'))):
        gpu = replace(GPU, cores=cores)
        compute, reading = compute_seconds('graft', SMALL, gpu), speed.reading('graft', 375, cores)
        assert seconds_per_image('graft', folder, SMALL, gpu, speed) == max(compute, reading)
    reading = seconds_per_image('graft', folder, SMALL, LAPTOP, Speed()) - compute_seconds('graft', SMALL, LAPTOP)
    assert reading == pytest.approx(0.01)


def test_too_few_images_and_no_time_are_said():
    with pytest.raises(ValueError, match='7 readable images are too few'):
        make_plan(Folder(7, 100), LAPTOP)


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


def lines(plan):
    return {what: (value, why) for what, value, why in plan.reasons}


def test_a_gpu_gets_the_fast_path_and_the_plan_says_why():
    plan = make_plan(Folder(10_000, 375), GPU)
    assert plan.speed == Speed('opencv', class_token_only=True, compiled=True, fused=True)
    found = lines(plan)
    assert found['views'] == ('opencv', '16 cores make them as fast as the GPU takes them')
    assert found['last block'][0] == 'class token only'
    assert found['blocks'] == ('compiled', 'if a first check finds the same numbers')
    assert found['AdamW'] == ('fused', 'one kernel for all weights')


def test_few_cores_or_large_pictures_let_the_gpu_make_the_views():
    few, large = make_plan(Folder(10_000, 375), replace(GPU, cores=2)), make_plan(Folder(10_000, 3000), GPU)
    assert few.speed.views == large.speed.views == 'device'
    assert 'with OpenCV 2 cores need 3.2 ms an image' in lines(few)['views'][1]
    plain = make_plan(Folder(10_000, 375), replace(GPU, cores=2), without=['views'])
    assert few.stages[1].seconds < plain.stages[1].seconds


@pytest.mark.parametrize(('part', 'speed', 'line'), [
    ('views', dict(views='pillow'), 'views'), ('class-token-only', dict(class_token_only=False), 'last block'),
    ('compile', dict(compiled=False), 'blocks'), ('fused', dict(fused=False), 'AdamW')])
def test_each_part_of_the_fast_path_can_be_switched_off(part, speed, line):
    plan = make_plan(Folder(10_000, 375), GPU, without=[part])
    assert plan.speed == replace(Speed('opencv', True, True, True), **speed)
    assert lines(plan)[line][1] == f'--without {part}'
    everything = make_plan(Folder(10_000, 375), GPU, without=['views', 'class-token-only', 'compile', 'fused'])
    assert everything.speed == Speed('pillow', False, False, False)


def test_a_short_training_is_not_compiled():
    for minutes, compiled in ((COMPILE_PAYS / 60 / 2, False), (3 * COMPILE_PAYS / 60, True)):
        plan = make_plan(Folder(10_000, 375), GPU, minutes)
        assert plan.speed.compiled is compiled
    assert 'less than 10 minutes' in lines(make_plan(Folder(10_000, 375), GPU, 5))['blocks'][1]


def test_the_last_block_of_given_weights_is_whole_and_their_views_may_be_any():
    plan = make_plan(Folder(10_000, 375), GPU, given=SMALL)
    assert not plan.speed.class_token_only
    assert lines(plan)['last block'] == ('all tokens', 'timm computes this encoder')


def test_channels_other_than_rgb_are_viewed_on_the_device():
    channels = Channels((1.0, ) * 5, (1.0, ) * 5, None, ('.npy', ))
    assert make_plan(Folder(10_000, 375, channels), GPU, without=['views']).speed.views == 'device'


def test_a_machine_without_a_gpu_keeps_what_the_configs_have():
    plan = make_plan(Folder(10_000, 375), LAPTOP, 60)
    assert plan.speed == Speed('pillow', class_token_only=False, compiled=False, fused=True)
    assert not {'views', 'last block', 'blocks', 'AdamW'} & set(lines(plan))
    assert not make_plan(Folder(10_000, 375), LAPTOP, 60, without=['fused']).speed.fused
