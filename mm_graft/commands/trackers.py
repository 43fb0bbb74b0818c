"""Where a training is followed: TensorBoard, Weights & Biases or MLflow, by the host's visualization back ends."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config

PACKAGES = ('tensorboard', 'wandb', 'mlflow')
PROJECT = 'mm_graft'


def add_trackers(parser: argparse.ArgumentParser) -> None:
    """The flag."""
    parser.add_argument('--tracker', nargs='+', choices=PACKAGES, help='follow losses, rates and measures there, '
                        'instead of where the config says; where a service is and as whom one logs in, its own '
                        'environment variables say (WANDB_MODE=offline, MLFLOW_TRACKING_URI)')


def set_trackers(cfg: Config, names: Sequence[str] | None) -> None:
    """Set the trackers of a run, replacing others; the text log and the file of scalars stay."""
    if not names:
        return
    for name in names:
        if find_spec(name) is None:
            raise ValueError(f'--tracker {name} needs a package that is not installed; pip install {name}')
    run, folder = Path(cfg.work_dir).name, Path(cfg.work_dir).absolute()
    backends = {
        'tensorboard': dict(type='TensorboardVisBackend'),
        'wandb': dict(type='WandbVisBackend', init_kwargs=dict(project=PROJECT, name=run)),
        # the host's own default, a store of plain files, is one that MLflow no longer opens
        'mlflow': dict(type='MLflowVisBackend', exp_name=PROJECT, run_name=run, tracked_config_keys=[
            key for key in ('optim_wrapper', 'train_cfg') if key in cfg], **(
                dict(tracking_uri=os.environ['MLFLOW_TRACKING_URI']) if 'MLFLOW_TRACKING_URI' in os.environ else
                dict(tracking_uri=f'sqlite:///{folder}/mlflow.db', artifact_location=(folder / 'mlflow').as_uri())))}
    cfg.visualizer = {'type': 'Visualizer', **cfg.get('visualizer', {}), 'vis_backends': [
        dict(type='LocalVisBackend'), *(backends[name] for name in dict.fromkeys(names))]}
