import pytest

from mm_graft.evaluation.confidence import wilson_interval


def test_interval_equals_wilsons_formula_by_hand():
    # n = 10, p = 1/2, z = 1.959964: centre 0.5, half width z √(0.025 + z²/400) / (1 + z²/10) = 0.263405.
    low, high = wilson_interval(5, 10)
    assert low == pytest.approx(0.236595, abs=1e-5)
    assert high == pytest.approx(0.763405, abs=1e-5)


@pytest.mark.parametrize(('correct', 'total'), [(0, 20), (20, 20), (7, 9)])
def test_interval_stays_inside_0_and_1_and_holds_the_share(correct, total):
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    assert low < high


def test_more_images_and_less_confidence_narrow_the_interval():
    def width(*args):
        low, high = wilson_interval(*args)
        return high - low
    assert width(700, 1000) < width(70, 100)
    assert width(70, 100, 0.5) < width(70, 100)


@pytest.mark.parametrize('args', [(1, 0), (-1, 5), (6, 5), (1, 5, 1.0)])
def test_impossible_counts_are_refused(args):
    with pytest.raises(ValueError, match=r'give|usual'):
        wilson_interval(*args)
