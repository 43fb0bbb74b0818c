"""Measure speed: `mm_graft benchmark`."""

import sys
from os.path import abspath, dirname

# this folder holds an inspect.py that is not Python's; the one above holds the package of this checkout
here = dirname(abspath(__file__))
sys.path[:] = [dirname(here), *(path for path in sys.path if abspath(path) != here)]

from mm_graft.commands.main import main

if __name__ == '__main__':
    main('benchmark')
