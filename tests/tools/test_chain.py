"""The launchers that pre-train, fine-tune and segment in one go, with a stand-in for Python and srun."""

import os
import subprocess
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'tools' / 'chain'
STAND_IN = '''#!/usr/bin/env bash
echo "$@" >> {log}
while [ $# -gt 0 ]; do
    if [ "$1" = --work-dir ]; then mkdir -p "$2"; echo "/elsewhere/epoch_3.pth" > "$2/last_checkpoint"; fi
    shift
done
'''


@pytest.mark.parametrize(('script', 'arguments'), [('dist_chain.sh', ['a/pre.py', '2']),
                                                   ('slurm_chain.sh', ['part', 'job', 'a/pre.py'])])
@pytest.mark.parametrize('branch', ['momentum', None])
def test_what_was_pre_trained_is_fine_tuned_and_segmented(tmp_path, script, arguments, branch):
    log = tmp_path / 'log'
    for name in ('python', 'srun'):
        (tmp_path / name).write_text(STAND_IN.format(log=log))
        (tmp_path / name).chmod(0o755)
    subprocess.run(
        ['bash', BENCHMARKS / script, *arguments], check=True, cwd=tmp_path,
        env={'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'PYTHON': str(tmp_path / 'python'), 'WORK': 'w',
             'FINETUNE': 'b/tune.py', 'SEGMENT': 'c/seg.py', **({'BRANCH': branch} if branch else {})})
    first, second, third = log.read_text().splitlines()
    assert 'a/pre.py' in first
    assert '--work-dir w/pre --resume' in first
    assert 'custom_hooks' not in first
    for line, config in ((second, 'b/tune.py'), (third, 'c/seg.py')):
        assert config in line
        assert f'--work-dir w/pre/{Path(config).stem} --resume' in line
        assert 'custom_hooks.0.checkpoint=w/pre/epoch_3.pth' in line
        assert ('custom_hooks.0.branch=momentum' in line) == bool(branch)  # else the config's own choice


@pytest.mark.parametrize('script', ['dist_chain.sh', 'slurm_chain.sh'])
def test_without_arguments_the_usage_is_shown(script):
    done = subprocess.run(['bash', BENCHMARKS / script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'Usage' in done.stderr
