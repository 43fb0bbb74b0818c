"""Many runs of a config: the commands that train and score each, which of them are left, and what came out."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import training
from experiments.training import TOOLS, last_checkpoint, logged_lines
from mm_graft.commands.arguments import add_overrides, at_least_one
from mm_graft.commands.configs import load_config

TOP1 = 'accuracy/top1'
CHECKPOINT = 'CHECKPOINT'  # in a command: the last one of a training that comes before it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How the runs are started."""
    parser.add_argument('--gpus', type=at_least_one, default=1, help='processes of each run, on this node')
    parser.add_argument('--auto-scale-lr', action='store_true', help="scale the rate with the batch, which is smaller "
                        "than the config's on fewer devices")
    parser.add_argument('--dry-run', action='store_true', help='print the commands that are left to do')
    add_overrides(parser)


def overrides_of(options: dict | None) -> list[str]:
    """``--cfg-options`` as they were written."""
    return [f'{key}={text}' for key, text in options.texts.items()] if options else []


def train_command(args: argparse.Namespace, config: str, folder: Path, overrides: Sequence[str],
                  init: str | None = None) -> list[str]:
    """Train a config in ``folder``, or resume it there, from the weights ``init`` if they are given."""
    flags = [*(['--auto-scale-lr'] if args.auto_scale_lr else []), *(['--init', init] if init else [])]
    return training.train_command(config, folder, options=overrides, gpus=args.gpus, flags=flags)


def evaluate_command(args: argparse.Namespace, config: str, protocol: str, folder: Path) -> list[str]:
    """Evaluate the training before by one protocol; the report goes into ``folder``."""
    program, launcher = [sys.executable], []
    if args.gpus > 1:
        program += ['-m', 'torch.distributed.run', '--nproc-per-node', str(args.gpus), '--master-port',
                    os.environ.get('PORT', '29500')]
        launcher = ['--launcher', 'pytorch']
    overrides = overrides_of(args.cfg_options)
    return [*program, str(TOOLS / 'evaluate.py'), config, CHECKPOINT, '--protocols', protocol, '--out', str(folder),
            *launcher, *(['--cfg-options', *overrides] if overrides else [])]


def run(command: Sequence[str], trained: Path) -> None:
    """Run a command; what it takes from a training is the last checkpoint in the folder ``trained``.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    training.run([str(last_checkpoint(trained)) if word == CHECKPOINT else word for word in command])


def show(commands: Sequence[Sequence[str]]) -> None:
    """Print commands as a shell takes them."""
    for command in commands:
        print(shlex.join(command))


def epochs_of(config: str, options: dict | None = None) -> int:
    """How many epochs a config trains.

    Raises:
        ValueError: it counts iterations.
    """
    epochs = load_config(config, options).get('train_cfg', {}).get('max_epochs')
    if epochs is None:
        raise ValueError(f'{config} has no `train_cfg.max_epochs`; a sweep needs a config that trains for epochs')
    return epochs


def reported_top1(folder: Path, protocol: str) -> float | None:
    """Top-1 in percent of an evaluation, None before it is complete."""
    path = folder / 'report.json'
    return json.loads(path.read_text())['protocols'][protocol]['top1'] if path.is_file() else None


def final_top1(folder: Path, epochs: int) -> float | None:
    """Top-1 in percent after the last of ``epochs`` epochs of fine-tuning, None before that is logged.

    The last epoch, not the best one on the test images, which the authors' scripts report.
    """
    return next((line[TOP1] for line in logged_lines(folder, TOP1) if line['step'] == epochs), None)
