import weakref
from itertools import count

import pytest

from benchmarks.peers.contest import (
    HEADER,
    OURS,
    Entry,
    Row,
    beside_ours,
    compare,
    lines,
    lines_of,
    seconds,
    table,
    take_turns,
)


def entries(calls):
    return [Entry(name, '', lambda name=name: calls.append(name), None if name == 'b' else lambda: None)
            for name in ('a', 'b', 'c')]


def test_each_round_begins_with_another_and_the_first_steps_do_not_count():
    calls = []
    times = take_turns(entries(calls), 3, clock=count().__next__)
    assert calls == list('abc' 'abc' 'bca' 'cab')
    assert [len(taken) for taken in times] == [3, 3, 3]


def test_time_is_what_the_clock_says_between_two_looks_and_nothing_for_nothing():
    assert seconds(lambda: None, clock=iter([3., 7.]).__next__) == 4
    assert seconds(None, clock=None) == 0


def test_each_is_beside_ours_and_gone_before_the_next_is_built():
    calls, alive = [], []

    def built():
        for name in (OURS, 'a', 'b', 'c'):
            assert [each().name for each in alive if each()] == [OURS][:len(alive)]
            entry = Entry(name, '', lambda name=name: calls.append(name))
            alive.append(weakref.ref(entry))
            yield entry
            del entry

    rows = list(beside_ours(built(), 1, clock=count().__next__))
    assert [row.program for row in rows] == ['a', 'b', 'c']
    assert calls == [name for other in 'abc' for name in 2 * [OURS, other]]


def test_a_row_says_the_least_times_and_the_quartiles_of_ratios_with_and_without_loading():
    ours, theirs = [(1., 1.), (4., 2.), (2., 0.)], [(2., 4.), (4., 2.), (6., 2.)]
    assert compare(Entry('other', 'fused', None, lambda: None), ours, theirs) == Row(
        'other', 'fused', ms=2000, ours_ms=1000, ratio=[1.5, 2, 2.5], loaded_ratio=[2, 3, 3.5])
    assert compare(Entry('other', '', None), ours, theirs).loaded_ratio is None


def test_a_variant_stands_beside_its_program():
    row = Row('other', '', 4., 3., [1, 2, 3], None)
    fused = Row('other', 'fused', 5., 4., [3, 4, 5], [6, 7, 8])
    assert lines('MAE', [row, fused, Row('third', '', 6., 5., [1, 1, 1], None)]) == [
        '| MAE | other | 4 (3) | 2.00 (1.00–3.00) | – | fused | 4.00 (3.00–5.00) | 7.00 |',
        '| MAE | third | 6 (5) | 1.00 (1.00–1.00) | – |  |  |  |']
    assert {line.count('|') for line in [*HEADER, *lines('MAE', [row, fused])]} == {9}


def test_lines_of_methods_that_are_not_measured_stay_if_they_were_measured_alike():
    mae, moco = (lines(name, [Row('other', '', 4., 3., [1, 2, 3], None)]) for name in ('MAE', 'MoCo v3'))
    text = table('3 rounds', [mae, [], moco])
    assert lines_of(text, '3 rounds', ['MoCo v3', 'SimCLR']) == {'MoCo v3': moco, 'SimCLR': []}
    assert lines_of(text, '9 rounds', ['SimCLR']) == {'SimCLR': []}
    with pytest.raises(ValueError, match='measured otherwise than "9 rounds"'):
        lines_of(text, '9 rounds', ['MAE'])
