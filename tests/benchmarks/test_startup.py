import sys

import pytest

from benchmarks.startup import leaves, markdown, processor_seconds, programs
from mm_graft.commands.main import build_parser


def test_every_command_is_asked_for_help(tmp_path):
    words = [call[4:-1] for call in programs(tmp_path)['`--help` of each command']]
    assert words == leaves(build_parser())
    assert [each for each in words if each in (['train'], ['analyze', 'layers'])] == [['train'], ['analyze', 'layers']]


def test_time_is_of_a_process_that_did_what_it_should():
    assert processor_seconds(['-c', 'pass']) > 0
    assert processor_seconds(['-c', 'raise SystemExit(2)'], wrong=True) > 0
    with pytest.raises(RuntimeError, match='status 0'):
        processor_seconds(['-c', 'pass'], wrong=True)
    with pytest.raises(RuntimeError, match='status 1'):
        processor_seconds(['-c', f'import {sys.__name__}; sys.exit(1)'])


def test_a_process_is_stopped_at_the_line_that_counts(tmp_path):
    late = tmp_path / 'late'
    code = f'import time; print("step 1", flush=True); time.sleep(60); open({str(late)!r}, "w")'
    assert processor_seconds(['-c', code], until='step') > 0
    assert not late.exists()
    with pytest.raises(RuntimeError, match='status 0'):
        processor_seconds(['-c', 'print("over")'], until='step')


def test_rows_are_compared_with_the_imports_of_the_host():
    text = markdown({'help': 1.0, '`import mmpretrain.models`': 4.0})
    assert text.splitlines()[2:] == ['| help | 1.00 | 0.25 |', '| `import mmpretrain.models` | 4.00 | 1.00 |']
