"""Fixtures of the parity tests."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def read_npz(golden: Path):
    """Read one golden archive into a dict."""

    def read(name: str) -> dict:
        with np.load(golden / name, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    return read
