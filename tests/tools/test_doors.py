"""The scripts that OpenMMLab's users know lead to the same commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mm_graft.commands.main import build_parser

TOOLS = Path(__file__).parents[2] / 'tools'
DOORS = ('train', 'test', 'evaluate', 'convert', 'inspect', 'analyze', 'benchmark')


@pytest.mark.parametrize('name', DOORS)
def test_a_script_is_the_command_of_its_name_in_any_folder_and_without_installation(tmp_path, name):
    """A script beside tools/inspect.py must still find Python's own module of that name; help comes without torch."""
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    command = [sys.executable, '-X', 'importtime', TOOLS / f'{name}.py', '--help']
    done = subprocess.run(command, cwd=tmp_path, text=True, check=False, capture_output=True,
                          env={**environment, 'COLUMNS': '200'})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'usage: {name}.py ')
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert 'mm_graft.commands.main' in imported
    assert not imported & {'torch', 'numpy', 'mmengine'}
    assert ' '.join(build_parser(name).description.split()) in ' '.join(done.stdout.split())


def test_what_a_script_imports_is_python_s_own_inspect(tmp_path):
    text = (TOOLS / 'train.py').read_text()
    text = text.replace('from mm_graft', 'import inspect; print(inspect.__file__)\nfrom mm_graft')
    program = tmp_path / 'tools' / 'train.py'
    program.parent.mkdir()
    program.write_text(text)
    (tmp_path / 'tools' / 'inspect.py').write_text('raise ImportError')
    done = subprocess.run([sys.executable, program, '--help'], text=True, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(Path(os.__file__).parent))
