"""Predicted and measured savings."""

import pytest
import torch
from torch import nn

from mm_graft.engine.freezing.freezeout_savings import SavingsMeter, encoder_step_cost, run_cost


def test_a_frozen_block_costs_a_third():
    assert encoder_step_cost(0, 12) == 1
    assert encoder_step_cost(6, 12) == pytest.approx(2 / 3)
    assert encoder_step_cost(12, 12) == pytest.approx(1 / 3)


def test_a_run_is_the_sum_of_its_steps():
    frozen_at = {0: 10.0, 1: 40.0, 2: 60.0, 3: 200.0, 5: 50.0}  # the stem is free, depth 5 is behind the four blocks
    flops, trained = run_cost(frozen_at, 4, 100.0)
    steps = [sum(time <= step for time in (40.0, 60.0, 200.0)) for step in range(100)]
    assert flops == pytest.approx(sum(encoder_step_cost(frozen, 4) for frozen in steps) / 100)
    assert trained == pytest.approx(sum(4 - frozen for frozen in steps) / 400)
    assert run_cost({}, 4, 100.0) == (1.0, 1.0)


def run(meter, model, depth, iterations):
    for _ in range(iterations):
        meter.start(model, depth)
        model(torch.ones(2, 4)).pow(2).sum().backward()
        meter.stop()


def test_seconds_are_those_between_start_and_stop(monkeypatch):
    ticks = iter([10, 10.5, 20, 21, 30, 32, 40, 44])  # of four iterations, of which the last two count
    monkeypatch.setattr('mm_graft.engine.freezing.freezeout_savings.time.perf_counter', lambda: next(ticks))
    meter = SavingsMeter()
    run(meter, nn.Linear(4, 8), -1, 4)
    assert meter.records[-1]['seconds'] == 6.0


def test_the_meter_keeps_time_apart_from_the_measured_iteration():
    meter, model = SavingsMeter(), nn.Linear(4, 8)
    run(meter, model, -1, 5)
    record = meter.records[-1]
    assert (record['iterations'], record['timed']) == (5, 3)
    assert record['saved_bytes'] == 4 * (2 * 4 + 2 * 8)
    assert record['seconds'] > 0


def test_the_summary_compares_with_the_first_state_and_survives_a_resume():
    records = {-1: {'iterations': 10, 'seconds': 8., 'timed': 8, 'saved_bytes': 4 * 2**20},
               5: {'iterations': 10, 'seconds': 4., 'timed': 8, 'saved_bytes': 2**20}}
    assert SavingsMeter(records).summary().startswith('5.0 s of 20.0 s')
    assert '(25.0%)' in SavingsMeter(records).summary()
    assert '4.0 MiB a step at first, 1.0 MiB at the end' in SavingsMeter(records).summary()


def test_a_run_too_short_says_so():
    meter = SavingsMeter()
    run(meter, nn.Linear(4, 8), -1, 5)
    assert 'too few iterations' in meter.summary()
