from itertools import count

import pytest

from benchmarks.peers.contest import OURS, Entry, markdown, ratios, results, seconds, take_turns


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


def test_ratios_are_of_the_same_round():
    assert ratios([2., 9., 4.], [1., 3., 4.]) == [1, 2, 3]


def test_rows_say_the_least_time_and_the_ratio_with_and_without_loading():
    both = [Entry(OURS, '', None, lambda: None), Entry('other', 'fused', None, lambda: None)]
    rows = results('MAE', both, [[(1., 1.), (2., 0.)], [(2., 4.), (3., 3.)]])
    assert (rows[1]['ms'], rows[1]['load_ms']) == (2000, 3000)
    assert rows[1]['ratio'] == pytest.approx([1.5, 1.75, 2])
    assert rows[1]['loaded_ratio'] == pytest.approx([3, 3, 3])
    assert rows[0]['ratio'] == [1, 1, 1]
    assert markdown(rows).splitlines()[2:] == [
        '| MAE | other | 2000 (1000) | 1.75 (1.50–2.00) | 3.00 |  |  |  |']


def test_a_variant_stands_beside_its_program():
    row = dict(method='MAE', program=OURS, variant='', ms=4., ratio=[1, 2, 3], loaded_ratio=None)
    text = markdown([row, {**row, 'variant': 'fused', 'ratio': [3, 4, 5], 'loaded_ratio': [6, 7, 8]}])
    assert text.splitlines()[-1] == (
        f'| MAE | {OURS} | 4 (4) | 2.00 (1.00–3.00) | – | fused | 4.00 (3.00–5.00) | 7.00 |')


def test_nothing_is_said_of_loading_where_nothing_is_loaded():
    row = results('kNN', [Entry(OURS, '', None)], [[(1., 0.)]])[0]
    assert row['load_ms'] is row['loaded_ratio'] is None
    assert markdown([row, {**row, 'program': 'other'}]).endswith('| 1000 (1000) | 1.00 (1.00–1.00) | – |  |  |  |')
