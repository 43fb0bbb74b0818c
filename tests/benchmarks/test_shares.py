import torch

from benchmarks.shares import markdown, shares
from benchmarks.step import TrainingStep
from tests.benchmarks.test_step import config
from tests.tiny import mae


def test_shares_of_a_step_make_the_whole_and_products_are_among_them():
    torch.manual_seed(0)
    found = shares(TrainingStep(config(mae())), 1)
    assert abs(sum(found.values()) - 1) < 1e-6
    assert found['aten::addmm'] > 0


def test_rows_are_kinds_and_what_takes_two_per_cent_of_any_step_and_the_bound_is_of_kinds():
    text = markdown({
        'A': {'aten::mm': 0.4, 'aten::addmm': 0.1, 'aten::add': 0.021, 'aten::copy_': 0.2, 'rest': 0.01},
        'B': {'aten::mm': 0.7, 'aten::convolution_backward': 0.1, 'rest': 0.015, 'other': 0.005}})
    assert text.splitlines()[2:] == [
        '| matrix products | 50.0 | 70.0 |', '| fused attention | 0.0 | 0.0 |', '| convolutions | 0.0 | 10.0 |',
        '| `copy_` | 20.0 | 0.0 |', '| `add` | 2.1 | 0.0 |', '| all others | 1.0 | 2.0 |',
        '| bound, × | 2.00 | 1.25 |']
