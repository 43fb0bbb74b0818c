"""What tests/data/hub holds, for the tests that read it."""

from pathlib import Path

import numpy as np
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints import load_backbone
from mm_graft.checkpoints.architecture import architecture_of
from mm_graft.checkpoints.containers import read_file

HUB = Path(__file__).parents[1] / 'data/hub'
FAMILIES = sorted(path.name for path in HUB.iterdir() if (path / 'tokens.npz').is_file())


def images() -> torch.Tensor:
    """The images of tests/data/hub/make.py."""
    return torch.sin(torch.arange(2 * 3 * 32 * 32, dtype=torch.float64) ** 1.5 * 0.01).float().view(2, 3, 32, 32)


def expected(name: str) -> dict[str, torch.Tensor]:
    """What the library makes of them: ``tokens``, ``pooled`` or both."""
    return {key: torch.from_numpy(array) for key, array in np.load(HUB / name / 'tokens.npz').items()}


def loaded(path, **options) -> torch.nn.Module:
    """The encoder of a file or folder as what it says it is."""
    backbone = MODELS.build(architecture_of(read_file(path)).backbone)
    load_backbone(backbone, path, **options)
    return backbone.eval()


@torch.no_grad()
def outputs(backbone: torch.nn.Module, pixels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Its tokens after the norm, and what it pools."""
    found = {}
    for key, kind in (('tokens', 'raw'), ('pooled', 'pooled')):
        backbone.out_type = kind
        found[key] = backbone(images() if pixels is None else pixels)[-1]
    return found


def check(backbone: torch.nn.Module, name: str) -> None:
    """See that its features are the library's."""
    found = outputs(backbone)
    for key, features in expected(name).items():
        torch.testing.assert_close(found[key], features, rtol=0, atol=2e-6)
