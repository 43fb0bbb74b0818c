"""Phases and what is inside them."""

import time

import pytest

from benchmarks.clock import PhaseClock


def test_a_phase_does_not_count_the_phases_inside_it(monkeypatch):
    now = iter([0., 1., 3., 4., 7., 10.])
    monkeypatch.setattr(time, 'perf_counter', lambda: next(now))
    clock = PhaseClock()
    with clock.phase('step'):
        with clock.phase('forward'):
            pass
        with clock.phase('backward'):
            pass
    assert clock.steps() == [{'step': 5000., 'forward': 2000., 'backward': 3000.}]


def test_phases_of_one_name_add_up_and_steps_stay_apart(monkeypatch):
    now = iter(float(second) for second in range(10))
    monkeypatch.setattr(time, 'perf_counter', lambda: next(now))
    clock = PhaseClock()
    with clock.phase('step'):
        for _ in range(2):
            with clock.phase('ema'):
                pass
    with clock.phase('step'):
        pass
    assert clock.steps() == [{'step': 3000., 'ema': 2000.}, {'step': 1000.}]


def test_a_timed_function_is_a_phase_and_keeps_its_result():
    clock = PhaseClock()
    with clock.phase('step'):
        assert clock.timed('add', lambda left, right: left + right)(1, right=2) == 3
    assert set(clock.steps()[0]) == {'step', 'add'}
    assert sum(clock.steps()[0].values()) == pytest.approx(0, abs=100)
