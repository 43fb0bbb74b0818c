"""CONTRIBUTING.md's method in three files, written into a copy of the repository, passes the tests that it names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r'<!-- file: (\S+) -->\n```python\n(.*?)```', re.DOTALL)
COPIED = ('mm_graft', 'configs', 'pyproject.toml', 'tools', 'benchmarks',
          *(f'tests/{path.name}' for path in (ROOT / 'tests').glob('*.py')))


def blocks():
    return dict(BLOCK.findall((ROOT / 'CONTRIBUTING.md').read_text()))


def test_a_method_is_a_source_a_config_and_a_test_that_do_not_exist_yet():
    assert [Path(name).parts[0] for name in blocks()] == ['mm_graft', 'configs', 'tests']
    assert not any((ROOT / name).exists() for name in blocks())


def test_two_networks_and_their_config_take_less_than_sixty_lines():
    source, config, _ = blocks().values()
    assert len((source + config).splitlines()) < 60
    assert [word for word in ('deepcopy', 'load_state_dict', 'requires_grad', 'EMA') if word in source] == []


@pytest.mark.slow
def test_the_method_of_three_files_trains_and_keeps_the_layout(tmp_path):
    for name in COPIED:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
        else:
            shutil.copy(source, target)
    for name, text in blocks().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(*arguments):
        result = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, 'PYTHONPATH': str(tmp_path), 'OMP_NUM_THREADS': '1'})
        assert result.returncode == 0, result.stdout[-3000:]
        return result.stdout

    source, config, test = blocks()
    passed = run('-m', 'pytest', '-vv', test, 'tests/test_configs.py', 'tests/test_layout.py', '-k',
                 'feature_prediction or feature-prediction or (test_layout and not same_place '
                 'and not draws_the_house)')
    for said in ('it_learns_to_tell_the_hidden_patches', 'the_teacher_follows_the_encoder', Path(config).name):
        assert any(said in line and 'PASSED' in line for line in passed.splitlines()), said
    assert 'test_a_room_imports_the_floor_and_no_other_room' in passed
    if shutil.which('ruff') or Path(sys.executable).with_name('ruff').exists():
        run('-m', 'ruff', 'check', source, config, test)
