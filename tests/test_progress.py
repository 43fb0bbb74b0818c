import io
import sys

from mm_graft import progress
from mm_graft.progress import Progress


class Screen(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def screen_of(monkeypatch, terminal):
    """What stands in for both outputs; set in the test, since pytest puts its own in place after fixtures."""
    screen = Screen(terminal)
    monkeypatch.setattr(sys, 'stderr', screen)
    monkeypatch.setattr(sys, 'stdout', screen)
    return screen


def test_a_log_gets_whole_lines_at_distances_and_nothing_that_overwrites(monkeypatch):
    screen = screen_of(monkeypatch, terminal=False)
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(clock))
    with Progress(total=40, desc='features', unit='batch', mininterval=0) as bar:
        for _ in range(40):
            bar.update()
    lines = screen.getvalue().splitlines()
    assert 3 < len(lines) < 40
    assert all(line.startswith('features: ') and '/40 batch [' in line for line in lines)
    assert '\r' not in screen.getvalue()
    assert screen.getvalue().endswith('\n')


def test_what_is_soon_done_leaves_no_line_in_a_log_and_lines_of_others_stay_whole(monkeypatch):
    screen = screen_of(monkeypatch, terminal=False)
    assert list(Progress(range(3), 'short', mininterval=0)) == [0, 1, 2]
    assert screen.getvalue() == ''
    for _ in Progress(range(2), 'short'):
        Progress.write('a line')
    assert screen.getvalue() == 'a line\na line\n'


def test_a_terminal_gets_a_bar(monkeypatch):
    screen = screen_of(monkeypatch, terminal=True)
    assert list(Progress(range(3), 'features', mininterval=0)) == [0, 1, 2]
    assert '\rfeatures: 100%' in screen.getvalue()
    assert '3/3' in screen.getvalue()
