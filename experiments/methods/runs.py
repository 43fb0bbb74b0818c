"""The trainings that lead to an encoder, each done once and resumed where it was interrupted."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from experiments.methods.rows import CONFIGS, Length, Row, Step, stands_on_mae
from experiments.pages import commit
from experiments.training import ROOT, last_epoch, run_training, save_initial_weights, train_command

BATCH = 128


def train(step: Step, length: Length, folder: Path, seed: int, options: Sequence[str] = ()) -> Path:
    """Train to the end, unless that has been done; the last checkpoint."""
    if step.epochs == 0:
        return save_initial_weights(Config.fromfile(CONFIGS[step.config]), folder, seed)
    if last_epoch(folder) < step.epochs:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'commit.txt').write_text(commit(ROOT))
        words = [f'train_cfg.max_epochs={step.epochs}', f'param_scheduler.warmup={step.warmup}',
                 f'train_dataloader.dataset.indices={length.images}',
                 f'default_hooks.logger.interval={min(13, length.images // BATCH)}', *step.options, *options]
        run_training(train_command(CONFIGS[step.config], folder, seed, words), folder.with_suffix('.log'),
                     f'{folder.name} {seed}', step.epochs)
    return folder / f'epoch_{step.epochs}.pth'


def folder_of(name: str, step: Step, seed: int) -> str:
    """Where a training of a row lies; rows that stand on the same MAE share it."""
    return f'mae{step.epochs}_{seed}' if step == Step('mae', step.epochs) else f'{name}_{step.config}_{seed}'


def train_row(name: str, row: Row, length: Length, out: Path, seed: int) -> Path:
    """Train what a row needs, the seed's MAE below included; the encoder's checkpoint."""
    below = (Step('mae', length.mae), ) if stands_on_mae(row) else ()
    checkpoint = mae = None
    for step in (*below, *row):
        options = []
        if step.on_mae:
            start = checkpoint if step.config == 'refined' else mae  # stage i keeps MAE's encoder beside its heads
            options = [f'default_hooks.init.checkpoint={start}']
        checkpoint = train(step, length, out / folder_of(name, step, seed), seed, options)
        if step.config == 'mae':
            mae = checkpoint
    return checkpoint
