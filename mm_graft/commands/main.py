"""``mm_graft COMMAND …``; ``python -m mm_graft`` and the scripts of ``tools/`` are doors to the same functions.

A command is a module of :mod:`mm_graft.commands`: its docstring is the help, ``add_arguments(parser)`` says what it
takes, ``check(args)`` reads its inputs as far as that needs no torch, and ``run(args, inputs)`` does it with what
``check`` returns. One that does several things has ``COMMANDS`` instead: name → help and these three functions.
"""

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType

from mm_graft.commands.arguments import Help, Parser, refuse
from mm_graft.commands.meeting import leave, telling_others
from mm_graft.commands.messages import clean_errors
from mm_graft.version import __version__

NAMES = ('start', 'train', 'test', 'evaluate', 'compare', 'split', 'embed', 'convert', 'inspect', 'analyze',
         'benchmark')


def main(name: str | None = None, arguments: Sequence[str] | None = None) -> None:
    """Run one command line, by default that of the process; ``name`` is the command if the program is a door to one."""
    with clean_errors():
        args, unknown = build_parser(name).parse_known_args(arguments)
        if unknown:
            refuse(args.parser, unknown)
        from mm_graft.host.idle_remarks import leave_out_warnings
        leave_out_warnings()  # before anything imports the packages that say them
        launcher = getattr(args, 'launcher', 'none')
        with telling_others(launcher):
            inputs = args.check(args)
        from mm_graft.host.safe_opening import safe_opening
        with safe_opening():
            args.run(args, inputs)
        if launcher != 'none':
            leave(launcher)


def build_parser(name: str | None = None) -> argparse.ArgumentParser:
    """The parser of one command, or of all."""
    if name is not None:
        module = import_module(f'mm_graft.commands.{name}')
        parser = Parser(description=module.__doc__, formatter_class=Help)
        _fill(parser, module)
        return parser
    parser = Parser(prog='mm_graft', description='Layer-wise self-supervised pre-training.')
    parser.add_argument('--version', action='version', version=f'mm_graft {__version__}')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for name in NAMES:
        module = import_module(f'mm_graft.commands.{name}')
        command = commands.add_parser(name, help=module.__doc__, description=module.__doc__, formatter_class=Help)
        _fill(command, module)
    return parser


def _fill(parser: argparse.ArgumentParser, module: ModuleType) -> None:
    if not hasattr(module, 'COMMANDS'):
        _define(parser, module.add_arguments, module.check, module.run)
        return
    commands = parser.add_subparsers(required=True, metavar='WHAT')
    for name, (text, *functions) in module.COMMANDS.items():
        _define(commands.add_parser(name, help=text, description=text, formatter_class=Help), *functions)


def _define(parser: argparse.ArgumentParser, add_arguments: Callable[[argparse.ArgumentParser], None],
            check: Callable[[argparse.Namespace], object], run: Callable[[argparse.Namespace, object], None]) -> None:
    add_arguments(parser)
    parser.set_defaults(check=check, run=run, parser=parser)
