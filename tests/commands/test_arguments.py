import argparse
import runpy
import sys
from pathlib import Path

import pytest

from mm_graft.commands.arguments import Help, at_least_one

ROOT = Path(__file__).parents[2]


def test_numbers_from_one_on_pass():
    assert [at_least_one(text) for text in ('1', '200')] == [1, 200]


@pytest.mark.parametrize('text', ['0', '-1', '1.5', 'many'])
def test_other_numbers_and_words_do_not(text):
    with pytest.raises(argparse.ArgumentTypeError, match='no whole number from 1 on'):
        at_least_one(text)


def test_help_shows_the_defaults_that_there_are():
    parser = argparse.ArgumentParser(formatter_class=Help)
    parser.add_argument('--size', default=3, help='how large')
    parser.add_argument('--name', help='how called')
    parser.add_argument('--fast', action='store_true', help='in a hurry')
    parser.add_argument('--place', default='here', help='where (default: where you are)')
    text = parser.format_help()
    assert 'how large (default: 3)' in text
    assert text.count('default') == 2


@pytest.mark.parametrize('command', ['evaluate.py', 'analyze.py conflict'])
def test_every_option_says_what_it_is(command, monkeypatch):
    silent = []
    add = argparse.ArgumentParser.add_argument

    def look(parser, *names, **settings):
        silent.extend(() if settings.get('help') else [names])
        return add(parser, *names, **settings)

    monkeypatch.setattr(argparse.ArgumentParser, 'add_argument', look)
    tool, *words = command.split()
    monkeypatch.setattr(sys, 'argv', [tool, *words, '--help'])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    assert silent == []
