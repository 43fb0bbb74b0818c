"""Several processes reach the weights that one process reaches with the same global batch.

The graft has batch norm with the statistics of all processes, computed as SyncBatchNorm does (PyTorch's refuses CPUs);
ConMIM has layer norm here, as its batch norm is per device (``tests/models/selfsup/test_conmim_runs.py`` shows what
that means). The masks are drawn for the global batch, so that both see the same.
"""

import pytest
import torch

from tests.one_process_runs import RUNS, run_all


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp('one')
    run_all(folder, 1)
    return folder


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    run_all(folder, 2)
    return folder


@pytest.fixture(scope='module')
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp('four')
    run_all(folder, 4)
    return folder


def assert_equal(left, right, name):
    left, right = (torch.load(folder / f'{name}.pth', weights_only=True)['weights'] for folder in (left, right))
    assert left.keys() == right.keys()
    for key, value in left.items():
        torch.testing.assert_close(right[key], value, rtol=1e-5, atol=1e-7, msg=lambda text, key=key: f'{key}: {text}')


@pytest.mark.parametrize('name', RUNS)
def test_two_processes_reach_the_weights_of_one(one, two, name):
    assert_equal(one, two, name)


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_four_processes_reach_the_weights_of_one(one, four, name):
    assert_equal(one, four, name)


def test_processes_draw_masks_of_their_own(two):
    first, second = torch.load(two / 'mae.pth', weights_only=True)['masks']
    assert first != second


def test_one_process_logs(two):
    logs = list((two / 'mae').rglob('*.log'))
    assert len(logs) == 1
    assert logs[0].read_text().count('Epoch(train) [3][2/2]') == 1
