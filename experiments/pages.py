"""What the pages of experiments share: generated parts of a page, a cell of a table, which commit was run."""

import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev

from experiments.demo.report import PACKAGES, device_name


def commit(root: Path) -> str:
    """The commit that is checked out, marked if files differ from it."""
    def ask(*command: str) -> str:
        return subprocess.run(['git', '-C', root, *command], capture_output=True, text=True).stdout.strip()

    changed = ask('status', '--porcelain', '--untracked-files=no', '--', 'mm_graft', 'configs', 'experiments')
    return (ask('rev-parse', '--short', 'HEAD') or 'unknown') + (' with changes' if changed else '')


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over the seeds; a dash for none."""
    if not values:
        return '–'
    return f'{fmean(values):.1f}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')


def provenance(out: Path, *packages: str) -> dict:
    """Machine, versions of the stack and of further packages, and the commits that the runs below ``out`` noted."""
    return {'device': device_name(), 'versions': {package: version(package) for package in (*PACKAGES, *packages)},
            'commits': sorted({path.read_text() for path in out.rglob('commit.txt')})}


def facts(results: Mapping) -> str:
    """Machine, commits and versions of a file of results."""
    versions = ', '.join(f'{name} {number}' for name, number in results['versions'].items())
    return f'{results["device"]}; commits {", ".join(results["commits"])}; {versions}.'
