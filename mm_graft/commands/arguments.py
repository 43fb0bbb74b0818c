"""Parsing shared by the commands. Nothing here imports torch or MMEngine, so that errors appear at once."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mm_graft.files import check_target, check_target_folder
from mm_graft.spelling import did_you_mean

PICTURES = '.png', '.pdf', '.svg', '.jpg'
PAIRS = {')': '(', ']': '['}


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Show the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if not action.help or 'default' in action.help or action.default in (None, False, []):
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser of one command, whose options may also stand between its positional arguments."""

    _again = False

    def parse_known_args(self, args: Sequence[str] | None = None,
                         namespace: argparse.Namespace | None = None) -> tuple[argparse.Namespace, list[str]]:
        """Parse options first, then positional arguments; argparse calls this once for each."""
        if self._again or self._subparsers:
            return super().parse_known_args(args, namespace)
        self._again = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._again = False


class Options(dict):
    """Overrides as MMEngine reads them (``2024`` a number, ``a,b`` a list), and ``texts``, as they were written."""

    def __init__(self, values: dict, texts: dict[str, str]) -> None:
        super().__init__(values)
        self.texts = texts


class Overrides(argparse.Action):
    """``--cfg-options key=value …`` of OpenMMLab, a dict; anything but ``key=value`` is a usage error."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Sequence[str],
                 option_string: str | None = None) -> None:
        """Check the form, then let MMEngine read the values: numbers, booleans, None, lists and tuples."""
        for text in values:
            key, given, value = text.partition('=')
            if not given or not all(key.split('.')):
                parser.error(f'{option_string} {text!r}: expected KEY=VALUE, such as train_dataloader.batch_size=64')
            if not balanced(value):
                parser.error(f'{option_string} {text!r}: brackets do not match; write lists as KEY=[1,2], no spaces')
        from mmengine.config import DictAction
        DictAction(option_strings=[option_string], dest=self.dest)(parser, namespace, values, option_string)
        texts = {key: value for key, _, value in (text.partition('=') for text in values)}
        setattr(namespace, self.dest, Options(getattr(namespace, self.dest), texts))


def balanced(text: str) -> bool:
    """Whether each bracket of a text is closed by one of its kind, in order."""
    opened = []
    for character in text:
        if character in PAIRS.values():
            opened.append(character)
        elif character in PAIRS and (not opened or opened.pop() != PAIRS[character]):
            return False
    return not opened


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """The option that every command with a config has."""
    parser.add_argument('--cfg-options', nargs='+', action=Overrides, metavar='KEY=VALUE',
                        help='overrides of the config, such as max_epochs=100 model.backbone.drop_path_rate=0.1')


def add_encoder(parser: argparse.ArgumentParser) -> None:
    """Which encoder of a file is taken, and whether it may have been trained on another grid of patches."""
    parser.add_argument('--branch', choices=('base', 'momentum'), default='base',
                        help='which encoder of a contrastive checkpoint')
    parser.add_argument('--resize', action='store_true',
                        help="interpolate positions to the config's image size, if the file's are for another")


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """How several processes were started, as OpenMMLab's launchers say it."""
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none',
                        help='what started the processes')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by old launchers')


def check_files(what: str, *paths: str) -> None:
    """Check that input files exist, before anything slow begins."""
    for path in paths:
        if '://' not in path and not Path(path).exists():
            raise FileNotFoundError(f'{what} {path} does not exist; check its path')


def at_least_one(text: str) -> int:
    """An integer from 1 on, for ``add_argument(type=…)``."""
    return _number(text, int, lambda number: number >= 1, 'an integer ≥ 1')


def whole(text: str) -> int:
    """An integer from 0 on, for ``add_argument(type=…)``."""
    return _number(text, int, lambda number: number >= 0, 'an integer ≥ 0')


def positive(text: str) -> float:
    """A finite number above 0, for ``add_argument(type=…)``."""
    return _number(text, float, lambda number: 0 < number < math.inf, 'a number > 0')


def share(text: str) -> float:
    """A number in (0, 1], for ``add_argument(type=…)``."""
    return _number(text, float, lambda number: 0 < number <= 1, 'a number in (0, 1]')


def device(text: str) -> str:
    """A device of PyTorch, for ``add_argument(type=…)``."""
    if re.fullmatch(r'cpu|(cuda|mps|xpu|npu|mlu)(:\d+)?', text):
        return text
    raise argparse.ArgumentTypeError(f'expected cpu, cuda, cuda:N, mps or another device of PyTorch, got {text!r}')


def target(*endings: str) -> Callable[[str], Path]:
    """A file to write, whose name ends in one of ``endings``, for ``add_argument(type=…)``."""
    return lambda text: _checked(text, lambda: check_target(text, *endings))


def target_folder(text: str) -> Path:
    """A folder to write into, for ``add_argument(type=…)``."""
    return _checked(text, lambda: check_target_folder(text))


def _checked(text: str, check: Callable[[], None]) -> Path:
    try:
        check()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)


def _number(text: str, kind: Callable[[str], float], fits: Callable[[float], bool], expected: str) -> float:
    with suppress(ValueError):
        if fits(number := kind(text)):
            return number
    raise argparse.ArgumentTypeError(f'expected {expected}, got {text!r}')


def refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Exit with the unknown arguments and the options of similar names."""
    known = re.findall(r'(?<!\w)--?[a-z][\w-]*', parser.format_help())
    near = did_you_mean((word.split('=')[0] for word in unknown), known)
    parser.error(f'unknown arguments: {" ".join(unknown)}{near}')
