import argparse

import pytest

from mm_graft.commands.arguments import (
    Help,
    add_overrides,
    at_least_one,
    balanced,
    check_files,
    device,
    positive,
    share,
    whole,
)
from mm_graft.commands.main import build_parser


def test_numbers_from_one_on_pass():
    assert [at_least_one(text) for text in ('1', '200')] == [1, 200]


@pytest.mark.parametrize('text', ['0', '-1', '1.5', 'many'])
def test_other_numbers_and_words_do_not(text):
    with pytest.raises(argparse.ArgumentTypeError, match='expected an integer ≥ 1'):
        at_least_one(text)


def test_devices_are_pytorchs():
    assert [device(text) for text in ('cpu', 'cuda', 'cuda:1', 'mps')] == ['cpu', 'cuda', 'cuda:1', 'mps']
    for text in ('tpu', 'gpu', 'cuda:', 'cuda:x', 'cpu,cuda', ''):
        with pytest.raises(argparse.ArgumentTypeError, match='expected cpu, cuda, cuda:N'):
            device(text)


def test_shares_lie_above_zero_and_reach_one():
    assert [share(text) for text in ('1', '0.875')] == [1, 0.875]
    for text in ('0', '1.01', '-0.5', 'nan', 'half'):
        with pytest.raises(argparse.ArgumentTypeError, match=r'expected a number in \(0, 1\]'):
            share(text)


def test_counts_may_be_zero_and_times_may_not():
    assert [whole(text) for text in ('0', '7')] == [0, 7]
    assert positive('0.5') == 0.5
    wrong = {('-1', '0.5'): (whole, 'an integer ≥ 0'), ('0', '-1', 'nan', 'inf'): (positive, 'a number > 0')}
    for texts, (kind, said) in wrong.items():
        for text in texts:
            with pytest.raises(argparse.ArgumentTypeError, match=f'expected {said}'):
                kind(text)


ANY_NUMBER = {'block', 'score', 'local_rank'}  # negative: from the end; what a detector gives; what launchers pass


def parsers(parser):
    yield parser
    for action in parser._actions:
        for inner in (action.choices or {}).values() if isinstance(action, argparse._SubParsersAction) else ():
            yield from parsers(inner)


def test_every_command_refuses_numbers_without_meaning_before_it_does_anything():
    numbers = {(parser.prog, action.dest): action.type for parser in parsers(build_parser())
               for action in parser._actions if action.type in (int, float)}
    assert {dest for _, dest in numbers} <= ANY_NUMBER, numbers


def test_help_shows_the_defaults_that_there_are():
    parser = argparse.ArgumentParser(formatter_class=Help)
    parser.add_argument('--size', default=3, help='how large')
    parser.add_argument('--name', help='how called')
    parser.add_argument('--fast', action='store_true', help='in a hurry')
    parser.add_argument('--place', default='here', help='where (default: where you are)')
    text = parser.format_help()
    assert 'how large (default: 3)' in text
    assert text.count('default') == 2


@pytest.mark.parametrize(('text', 'fits'), [('', True), ('[(1,2),[3]]', True), ('[1', False), ('1]', False),
                                            ('([1)]', False)])
def test_brackets_must_match_in_order_and_kind(text, fits):
    assert balanced(text) is fits


@pytest.fixture
def parser():
    found = argparse.ArgumentParser(prog='command')
    add_overrides(found)
    return found


def test_overrides_are_read_as_openmmlab_reads_them(parser):
    args = parser.parse_args(['--cfg-options', 'a.b=1', 'c=[1,(2,x)]', 'd=None', '--cfg-options', 'e=true', 'f=1e-3'])
    assert args.cfg_options == {'a.b': 1, 'c': [1, (2, 'x')], 'd': None, 'e': True, 'f': 1e-3}


@pytest.mark.parametrize('text', ['a', '=1', 'a..b=1', '.a=1', 'a.=1', 'a=[1', 'a=(1]'])
def test_what_is_no_override_is_an_error_of_the_command_line(parser, capsys, text):
    with pytest.raises(SystemExit) as end:
        parser.parse_args(['--cfg-options', text])
    assert end.value.code == 2
    assert f'command: error: --cfg-options {text!r}: ' in capsys.readouterr().err


def test_files_must_exist_but_addresses_need_not(tmp_path):
    check_files('picture', str(tmp_path), 'https://host/a.png')
    with pytest.raises(FileNotFoundError, match=r'picture no/where\.png does not exist'):
        check_files('picture', str(tmp_path), 'no/where.png')
