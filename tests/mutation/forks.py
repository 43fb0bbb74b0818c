"""Runs tests of a module whose source is given as text, each time in a fork of a process that imported all the rest."""

import contextlib
import gc
import importlib
import json
import multiprocessing
import multiprocessing.context
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path

import coverage
import pytest
from cosmic_ray.work_item import TestOutcome

HOSTS = ('torch', 'numpy', 'sklearn', 'sklearn.linear_model', 'matplotlib.pyplot', 'mmengine', 'mmengine.runner',
         'mmpretrain.models', 'mmpretrain.datasets', 'mmseg.models', 'timm')
OPTIONS = ('-x', '-q', '--assert=plain', '--disable-plugin-autoload', '-p', 'no:cacheprovider',
           '-p', 'no:unraisableexception', '-m', 'not slow and not docs')
MEMORY = 20 * 2**30
FORK = multiprocessing.get_context('fork')


def import_hosts() -> None:
    """Import what takes seconds, once for all forks."""
    for name in HOSTS:
        importlib.import_module(name)
    contexts = multiprocessing.context._concrete_contexts
    contexts['forkserver'] = contexts['fork']  # processes of a test see the mutant too, and import nothing again


class Mutated(SourceFileLoader):
    """Finder and loader of one module; while it has no text, nobody can import the module."""

    text: str | None = None

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        if self.text is None:
            raise ImportError(name)
        return spec_from_file_location(name, self.path, loader=self)

    def get_code(self, name):
        return compile(self.text, self.path, 'exec', dont_inherit=True)


def processor_seconds() -> float:
    """Of this process and of those that it started and that ended; a busy machine adds none."""
    return sum(os.times()[:4])


class Reach:
    """pytest plugin: which tests reach which line of a file, and how many seconds of a processor each takes."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = str(path), ''
        self.seconds: dict[str, float] = {}
        self.apart: set[str] = set()  # tests that start processes: what those reach is not seen
        sys.addaudithook(self._audit)
        self.coverage = coverage.Coverage(data_file=None, include=[self.path])
        self.coverage.start()

    def _audit(self, event: str, args: tuple) -> None:
        if event in ('os.fork', 'subprocess.Popen') and self.now:
            self.apart.add(self.now)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.now = item.nodeid
        self.coverage.switch_context(item.nodeid)
        start = processor_seconds()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = processor_seconds() - start

    def result(self) -> dict:
        self.coverage.stop()
        return {'seconds': self.seconds, 'apart': sorted(self.apart),
                'lines': self.coverage.get_data().contexts_by_lineno(self.path)}


class Runner:
    """Runs the tests of one file on mutated sources of it.

    Raises:
        RuntimeError: the tests do not pass on the source as it is.
    """

    def __init__(self, root: Path, path: Path, tests: list[str]) -> None:
        os.chdir(root)
        self.source = (root / path).read_text()
        self.loader = Mutated('.'.join(path.with_suffix('').parts), str(root / path))
        sys.meta_path.insert(0, self.loader)
        for other in sorted(root.glob('mm_graft/*/**/[!_]*.py')):  # all of the package that does not need the module
            with contextlib.suppress(ImportError):
                importlib.import_module('.'.join(other.relative_to(root).with_suffix('').parts))
        gc.freeze()
        self.seconds, self.lines, self.apart, self.limit, self.deadline = {}, {}, [], 600, 3600.
        self.said = os.memfd_create('output')
        with tempfile.TemporaryDirectory() as folder:
            reached = Path(folder, 'reach.json')
            start = time.monotonic()
            self._need_success(self._fork(self.source, lambda: self._reach(root / path, tests, reached)))
            self.deadline = 60 + 10 * (time.monotonic() - start)  # of a mutant that waits and computes nothing
            reach = json.loads(reached.read_text())
        self.seconds, self.apart = reach['seconds'], reach['apart']
        self.lines = {int(line): tests for line, tests in reach['lines'].items()}
        self.limit = 20 + round(5 * sum(self.seconds.values()))
        self._need_success(self._fork(self.source, lambda: self._run(self._tests(()))))

    def outcome(self, text: str, lines: Iterable[int]) -> TestOutcome:
        """Whether a test fails on this source, mutated in these lines; incompetent: it cannot even be imported."""
        status = self._fork(text, lambda: self._run(self._tests(lines)))
        if status == pytest.ExitCode.INTERRUPTED:
            return TestOutcome.INCOMPETENT
        return TestOutcome.KILLED if status else TestOutcome.SURVIVED

    def _tests(self, lines: Iterable[int]) -> list[str]:
        reaching = {test for line in lines for test in self.lines.get(line, [''])}
        everything = '' in reaching or not reaching  # lines that run at import, or in other processes alone
        return sorted(self.seconds if everything else reaching.union(self.apart), key=self.seconds.get)

    def _need_success(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(f'the tests of {self.loader.path} fail without a mutation (pytest ends with {status}):\n'
                               + os.pread(self.said, 2**20, 0).decode(errors='replace')[-4000:])

    def _reach(self, path: Path, tests: list[str], result: Path) -> int:
        plugin = Reach(path)
        status = self._run(tests, plugin)
        result.write_text(json.dumps(plugin.result()))
        return status

    def _run(self, tests: list[str], *plugins: object) -> int:
        names = self.loader.name.split('.')
        try:
            for end in range(1, len(names) + 1):  # from above: packages import what is in them
                importlib.import_module('.'.join(names[:end]))
        except Exception:
            return pytest.ExitCode.INTERRUPTED
        for name, module in list(sys.modules.items()):  # of packages that were imported anew
            parent, _, own = name.rpartition('.')
            if parent.startswith('mm_graft') and parent in sys.modules:
                setattr(sys.modules[parent], own, module)
        return pytest.main([*OPTIONS, *tests], plugins=plugins)

    def _fork(self, text: str, work: Callable[[], int]) -> int:
        """Exit status of ``work`` in a fork that sees the module as ``text``; negative where it takes too long."""
        process = FORK.Process(target=self._work, args=(text, work))
        process.start()
        process.join(self.deadline)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        return process.exitcode

    def _work(self, text: str, work: Callable[[], int]) -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (self.limit, self.limit))
        os.ftruncate(self.said, 0)
        os.lseek(self.said, 0, os.SEEK_SET)
        os.dup2(self.said, 1)
        os.dup2(self.said, 2)
        self.loader.text = text
        sys.exit(int(work()))
