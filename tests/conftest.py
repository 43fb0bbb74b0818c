"""What every test may rely on: a fixed seed, mmpretrain's scope, few threads, a tiny ViT."""

import os
import signal
import warnings
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')  # also for the programs that tests start: two suites share the cores

import pytest

from tests.own_process import fresh
from tests.said import close_logs

warnings.filterwarnings('ignore')
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background; the programs of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

TINY_ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}


@pytest.fixture(autouse=True)
def _fixed_seed_and_scope():
    fresh()
    yield
    close_logs()


@pytest.fixture
def tiny_arch() -> dict:
    return dict(TINY_ARCH)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--golden', type=Path, default=Path(__file__).parent / 'data' / 'golden',
                     help='folder with the authors\' numbers (default: tests/data/golden)')


@pytest.fixture(scope='session')
def golden(request: pytest.FixtureRequest) -> Path:
    """Folder with what the authors' own code computes."""
    return request.config.getoption('--golden')
