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
    target,
    target_folder,
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


WRITTEN = {'out', 'json', 'plot', 'cache', 'target', 'folder'}
CHECKED_LATER = {'mm_graft convert layout target'}  # a file or a folder, as --to has it


def written_by_commands():
    """Places that commands write to: program and option → reader of its argument."""
    read = ('mm_graft benchmark loader', 'mm_graft inspect doctor')  # a folder of images; a switch
    return {f'{parser.prog} {action.dest}': action.type for parser in parsers(build_parser())
            for action in parser._actions if action.dest in WRITTEN
            and not (parser.prog in read and action.dest in ('folder', 'json') and action.type is not target)}


@pytest.mark.parametrize('place', sorted(written_by_commands().keys() - CHECKED_LATER))
def test_no_command_writes_below_a_file_or_over_one_of_another_kind(place, tmp_path):
    file, reader = tmp_path / 'config.py', written_by_commands()[place]
    file.write_text('lr = 1')
    with pytest.raises(argparse.ArgumentTypeError, match=r'config\.py is a file|the format follows the name'):
        reader(str(file / 'x') if place == 'mm_graft split out' else str(file))


def test_targets_have_an_ending_and_folders_above_them(tmp_path):
    assert target('.npz', '.parquet')(f'{tmp_path}/new/a.npz') == tmp_path / 'new/a.npz'
    assert target()(f'{tmp_path}/list') == tmp_path / 'list'
    assert target_folder(f'{tmp_path}/new/er') == tmp_path / 'new/er'
    (tmp_path / 'file').write_text('')
    for reader, text, message in (
            (target('.npz', '.parquet'), 'a.csv', r'end it in \.npz or \.parquet'), (target(), 'file/a', 'is a file'),
            (target('.json'), 'file/a.json', 'is a file; name a folder'), (target(), '', 'is a folder; name a file in'),
            (target_folder, 'file', 'is a file; name a folder'), (target_folder, 'file/a', 'is a file; name a folder')):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            reader(f'{tmp_path}/{text}')


def test_what_may_not_be_written_to_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr('os.access', lambda path, mode: False)  # of a read-only disk, which root has too
    with pytest.raises(argparse.ArgumentTypeError, match='is read-only; name another folder'):
        target_folder(f'{tmp_path}/new')


@pytest.mark.parametrize('words', [
    ['evaluate', 'a.pth', '--fewshot-share', '0.5', '--fewshot-per-class', '2'],
    ['evaluate', 'a.pth', '--fewshot-list', 'x', '--fewshot-per-class', '2'],
    ['benchmark', 'loader', 'a.py', '--folder', 'x', '--synthetic']])
def test_of_two_options_for_one_thing_none_is_passed_over(words, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(words)
    assert 'not allowed with argument' in capsys.readouterr().err
