import pytest

from mm_graft.commands.start.speed import DECODE, VIEWS, Speed, choose_rest, choose_views


def test_reading_is_decoding_by_the_area_and_views_shared_by_all_cores_but_one():
    assert Speed('opencv').reading('graft', 375, 2) == pytest.approx(0.0032)
    assert Speed('opencv').reading('graft', 375, 5) == pytest.approx(0.0008)
    assert Speed('opencv').reading('graft', 375, 1) == pytest.approx(0.0032)
    larger = Speed('pillow').reading('mae', 750, 2)
    assert larger == pytest.approx(4 * DECODE + VIEWS['mae', 'pillow'])
    assert Speed('pillow').reading('continue', 375, 2) == Speed('pillow').reading('graft', 375, 2)


def test_the_device_makes_two_views_and_never_the_one_crop_of_mae():
    speed = Speed('device')
    assert [speed.reader(stage) for stage in ('mae', 'graft', 'continue')] == ['opencv', 'device', 'device']
    assert Speed('pillow').reader('mae') == 'pillow'


@pytest.mark.parametrize(('compute', 'views'), [(0.0031, 'device'), (0.0033, 'opencv')])
def test_opencv_makes_the_views_as_long_as_it_keeps_up(compute, views):
    speed, why = choose_views(2, 375, compute, False, ())
    assert speed.views == views
    assert ('3.2 ms an image, the steps 3.1 ms' in why) == (views == 'device')


def test_the_rest_keeps_the_views():
    speed, lines = choose_rest(Speed('device'), 'why', 1e4, False, ())
    assert speed == Speed('device', True, True, True)
    assert lines[0] == ('views', 'device', 'why')
