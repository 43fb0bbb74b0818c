"""What is reported about a step; no timing is judged."""

import pytest
import torch

from benchmarks.measure import compare, count, interleave, matmul_peak, quartiles, report
from benchmarks.step import TrainingStep
from tests.benchmarks.test_step import VIEWS, config
from tests.tiny import grafted_mocov3, mae

KEYS = {'images_per_s', 'ms_per_step', 'phases_ms', 'gflops_per_image', 'saved_activation_mib_per_image',
        'peak_memory_mib', 'share_of_peak', 'batch', 'device'}


@pytest.fixture(scope='module')
def measured():
    torch.manual_seed(0)
    step = TrainingStep(config(grafted_mocov3(), VIEWS))
    costs = count(step)
    return step, costs, interleave([step], 3, warmup=1)[0]


def test_the_report_has_the_keys_that_others_read(measured):
    assert set(report(*measured, peak=1e9)) >= KEYS


def test_rate_and_share_follow_from_time_and_count(measured):
    step, costs, _ = measured
    times = [{'forward': 30., 'backward': 10.}, {'forward': 20., 'backward': 30.}, {'forward': 100., 'ema': 1.}]
    result = report(step, costs, times, peak=2e9)
    assert result['ms_per_step'] == 50
    assert result['ms_per_step_quartiles'] == [45, 75.5]
    assert result['images_per_s'] == pytest.approx(4 * 20)
    assert result['phases_ms'] == {'forward': 30., 'backward': 10., 'ema': 0.}
    assert result['share_of_peak'] == pytest.approx(costs['gflops_per_image'] * 1e9 * 80 / 2e9)


def test_counting_leaves_no_gradient(measured):
    step, _, _ = measured
    count(step)
    assert all(param.grad is None for param in step.model.parameters())


def test_counts_do_not_depend_on_the_batch():
    results = [count(TrainingStep(config(mae()), batch_size=size)) for size in (2, 5)]
    assert results[0] == results[1]
    assert results[0]['gflops_per_image'] > 0
    assert results[0]['saved_activation_mib_per_image'] > 0


def test_steps_are_taken_in_turns():
    order, steps = [], [TrainingStep(config(mae())) for _ in range(2)]
    for index, step in enumerate(steps):
        step.step = lambda clock, index=index, step=step: (order.append(index), TrainingStep.step(step, clock))
    times = interleave(steps, 2, warmup=1)
    assert order == [0, 1, 0, 1, 0, 1]
    assert [len(each) for each in times] == [2, 2]


def test_a_comparison_is_of_images_and_of_neighbors_in_time():
    ours, others = [{'step': 10.}, {'step': 20.}], [{'step': 20.}, {'step': 10.}]
    assert compare(ours, others, (2, 1))['speedup'] == pytest.approx((4 + 1) / 2)
    assert compare(ours[:1], others[:1], (1, 1)) == {'speedup': 2., 'speedup_quartiles': [2., 2.]}


def test_quartiles_of_one_value_are_that_value():
    assert quartiles([3.]) == [3., 3., 3.]


def test_the_peak_is_a_rate():
    assert matmul_peak(torch.device('cpu'), torch.float32, seconds=0.01) > 1e6
