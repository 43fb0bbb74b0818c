import logging
import subprocess
import sys
import warnings

import pytest

from mm_graft.host.idle_remarks import LINES, WARNINGS, asks_something, leave_out_warnings
from tests.own_process import SECONDS


@pytest.fixture
def _filters_stay():
    with warnings.catch_warnings():
        yield


@pytest.mark.usefixtures('_filters_stay')
def test_known_remarks_are_left_out_and_other_warnings_are_said():
    warnings.resetwarnings()
    leave_out_warnings()
    with warnings.catch_warnings(record=True) as said:
        for text in (*WARNINGS, 'the learning rate is negative'):
            warnings.warn(f'{text} and so on', stacklevel=1)
    assert [str(warning.message) for warning in said] == ['the learning rate is negative and so on']


def test_lines_of_a_log_that_begin_so_are_left_out():
    def kept(text):
        return asks_something(logging.LogRecord('mmengine', logging.WARNING, '', 0, text, (), None))

    assert not any(kept(f'{line} …') for line in LINES)
    assert kept('image a.jpg cannot be used')
    assert kept('loss is nan; Exp name: a')


def test_importing_the_host_prints_nothing_and_messages_without_a_log_still_come():
    """Fails if the host prints in another way what it cannot import."""
    code = ('from mm_graft.host.idle_remarks import leave_out_debugging, leave_out_warnings\nleave_out_warnings()\n'
            'leave_out_debugging()\nleave_out_debugging()\nimport mmpretrain.datasets\n'
            'from mmengine.logging import print_log\nprint_log("a message")')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert done.stdout == 'a message\n'
    assert done.stderr == ''
