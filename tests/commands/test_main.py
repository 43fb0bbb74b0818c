import argparse
import sys
from importlib import import_module

import pytest
from torch import distributed

from mm_graft import __version__
from mm_graft.commands.main import NAMES, build_parser, main

SLOW = ('torch', 'numpy', 'mmengine', 'mmpretrain', 'matplotlib')  # MMEngine without torch takes 0.2 s
LIGHT = f"""
import sys
from mm_graft.commands.main import main
try:
    main(arguments=sys.argv[1:])
except SystemExit as end:
    print(end.code, [name for name in {SLOW} if name in sys.modules])
"""


def leaves(parser, words=()):
    """All commands, as words, with their parsers."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield words, parser
    for name, child in (item for group in groups for item in group.choices.items()):
        yield from leaves(child, (*words, name))


COMMANDS = dict(leaves(build_parser()))
WRONG_PATHS = [
    ['start', 'no-such'], ['start', '.', '--from', 'no-such.pth'], ['train', 'graft/no-such'],
    ['test', 'graft/no-such', 'a.pth'], ['evaluate', 'no-such.pth'], ['evaluate', 'graft/no-such', 'a.pth'],
    ['compare', 'no-such'], ['split', 'no-such', 'a.txt', '--per-class', '1'],
    ['embed', 'no-such.pth', '.', '--out', 'a.npz'], ['embed', __file__, 'no-such', '--out', 'a.npz'],
    ['convert', 'layout', 'no-such.pth', 'a.pth'], ['convert', 'publish', 'no-such.pth', 'a'],
    ['convert', 'onnx', 'no-such.pth', 'a.onnx'], ['inspect', 'params', 'no-such'],
    ['inspect', 'schedule', 'no-such', '--out', 'a.png'], ['analyze', 'layers', 'no-such.pth'],
    ['analyze', 'reconstruction', 'no-such.pth', '--images', 'a.png'], ['benchmark', 'step', 'no-such'],
    ['benchmark', 'loader', 'no-such']]


def test_every_option_says_what_it_is_for():
    silent = [(words, action.dest) for words, parser in COMMANDS.items() for action in parser._actions
              if not action.help]
    assert silent == []


def test_every_command_says_what_it_does_in_the_list_of_all():
    text = ' '.join(build_parser().format_help().split())
    assert all(f' {name} ' in text for name in NAMES)


@pytest.mark.parametrize(('words', 'status'), [
    (['--help'], 0), (['--version'], 0), *(([*words, '--help'], 0) for words in COMMANDS),
    (['train', 'a.py', '--no-such'], 2), (['no-such'], 2),
    (['train', 'a.py', '--cfg-options', 'a'], 2), (['train', 'a.py', '--cfg-options', 'a=[1'], 2),
    *((words, 1) for words in WRONG_PATHS)], ids=str)
def test_help_and_errors_of_the_command_line_import_nothing_slow(process, words, status):
    done = process('-c', LIGHT, *words)
    assert done.stdout.splitlines()[-1] == f'{status} []', done.stderr


@pytest.mark.parametrize('words', [
    ['train', 'graft/vit-b_mae2mocov3'], ['test', 'eval/finetune_vit-b', 'no-such.pth'],
    ['evaluate', 'eval/finetune_vit-b', 'no-such.pth'], ['train', 'graft/vit-b_mae', '--cfg-options', 'no_such=1'],
    ['analyze', 'tsne', 'graft/vit-b_mae', 'no-such.pth']], ids=str)
def test_paths_and_keys_that_a_config_names_are_checked_without_torch(process, words):
    done = process('-c', LIGHT, *words)
    assert done.stdout.splitlines()[-1] == "1 ['numpy', 'mmengine']", done.stderr
    assert 'does not exist' in done.stderr or 'there is no `no_such`' in done.stderr


def test_each_command_with_a_path_is_among_the_wrong_paths():
    inputs = {'config', 'checkpoint', 'images', 'source', 'runs'}
    with_paths = {words[:1] for words, parser in COMMANDS.items() for action in parser._actions
                  if not action.option_strings and action.dest in inputs}
    assert with_paths == {tuple(words[:1]) for words in WRONG_PATHS}


@pytest.mark.parametrize(('modules', 'used'), [
    ('mm_graft.models, mm_graft.engine, mm_graft.datasets, mm_graft.evaluation, mm_graft.commands.start.session', []),
    ('mm_graft.commands.start.report, mm_graft.evaluation.protocols', ['matplotlib'])])
def test_nothing_slow_is_imported_that_is_not_used(process, modules, used):
    code = (f'import sys, {modules}; '
            'print([name for name in ("timm", "scipy", "sklearn", "matplotlib", "pandas") if name in sys.modules])')
    assert process('-W', 'ignore', '-c', code).stdout.splitlines()[-1] == str(used)


def test_an_unknown_option_is_named_with_the_one_that_is_meant(capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments=['train', 'a.py', '--workdir', 'x'])
    assert end.value.code == 2
    assert "unknown arguments: --workdir x; did you mean '--work-dir'?" in capsys.readouterr().err


@pytest.mark.parametrize('words', [
    ['evaluate', 'a.py', '--pool', 'avg', '--no-final-norm', 'b.pth'], ['evaluate', '--pool', 'avg', 'a.py', 'b.pth'],
    ['analyze', 'tsne', 'a.py', '--pool', 'avg', 'b.pth'], ['analyze', 'tsne', 'a.py', 'b.pth', '--pool', 'avg']],
    ids=str)
def test_options_may_stand_between_config_and_checkpoint(words):
    args = build_parser().parse_args(words)
    assert (args.config, args.checkpoint, args.pool) == ('a.py', 'b.pth', 'avg')


def test_a_checkpoint_that_is_missing_is_named_in_the_usage(capsys):
    with pytest.raises(SystemExit):
        main(arguments=['evaluate', '--pool', 'avg'])
    told = capsys.readouterr().err
    assert 'arguments are required: checkpoint' in told
    assert '[config] checkpoint' in told


def test_a_door_leads_to_its_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['convert.py', 'layout', '--help'])
    with pytest.raises(SystemExit):
        main('convert')
    assert capsys.readouterr().out.startswith('usage: convert.py layout ')


def test_python_can_run_the_package(process):
    assert process('-m', 'mm_graft', '--version').stdout == f'mm_graft {__version__}\n'


@pytest.mark.parametrize('name', ['train', 'test', 'evaluate'])
def test_a_launched_command_leaves_its_process_group(tmp_path, monkeypatch, name):
    module = import_module(f'mm_graft.commands.{name}')
    monkeypatch.setattr(module, 'check', lambda args: None)
    monkeypatch.setattr(module, 'run', lambda args, inputs: distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1))
    main(name, ['config', *(['checkpoint'] if name != 'train' else []), '--launcher', 'pytorch'])
    assert not distributed.is_initialized()
