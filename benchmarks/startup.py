"""Processor seconds from a command to its help, error, first step or result, beside the host's imports and Runner.

    OMP_NUM_THREADS=1 python -m benchmarks.startup --page docs/performance.md

Each row is a process of its own, the least of some rounds. The first steps are runs of one iteration of the same tiny
MAE: by `mm_graft train` with all hooks of `_base_/runtime.py`, and by the host's Runner with the host's. The other
commands get a checkpoint of that MAE and eight small images, so that what they take is what every use of them takes;
`mm_graft start` is stopped at its first line of training, and what its reading processes take does not count.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from benchmarks.page import put
from mm_graft.commands.main import build_parser

ROOT = Path(__file__).parents[1]
CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='MAE', data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[128.] * 3, std=[64.] * 3),
    backbone=dict(type='MAEViT', arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
                  img_size=32, patch_size=8),
    neck=dict(type='MAEPretrainDecoder', num_patches=16, patch_size=8, embed_dim=16, decoder_embed_dim=16,
              decoder_depth=1, decoder_num_heads=2),
    head=dict(type='MAEPretrainHead', patch_size=8, loss=dict(type='PixelReconstructionLoss', criterion='L2')))
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='InfiniteSampler'), collate_fn=dict(type='default_collate'),
    dataset=dict(type='CustomDataset', data_root={images!r}, with_label=False, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', scale=32), dict(type='PackInputs')]))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
default_hooks = dict(checkpoint=None)
work_dir = {work_dir!r}
"""
HOST_RUN = ('import sys, mmpretrain.models; from mmengine.config import Config; from mmengine.runner import Runner; '
            'Runner.from_cfg(Config.fromfile(sys.argv[1])).train()')
IMPORTS = 'import mmpretrain.models'
START = '`mm_graft start`, first line of training'
UNTIL = {START: 'Epoch(train)'}  # what is printed when a row's time ends; the others' processes end


def leaves(parser: argparse.ArgumentParser) -> list[list[str]]:
    """Words of every command."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    found = [[name, *words] for group in groups for name, child in group.choices.items() for words in leaves(child)]
    return found or [[]]


def programs(folder: Path) -> dict[str, list[list[str]]]:
    """Row → argument lists for Python; of several the dearest counts."""
    images = folder / 'images'
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        path = images / 'ab'[index % 2] / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    for name, base in (('host', ''), ('ours', f"_base_ = [{str(ROOT / 'configs/_base_/runtime.py')!r}]\n")):
        text = CONFIG.format(images=str(images), work_dir=str(folder / name))
        (folder / f'{name}.py').write_text(base + text)
    ours = ['-W', 'ignore', '-m', 'mm_graft']
    return {
        '`--help` of each command': [[*ours, *words, '--help'] for words in leaves(build_parser())],
        'a wrong path, name or option': [[*ours, 'train', 'no-such'], [*ours, 'train', 'a.py', '--no-such'],
                                         [*ours, 'evaluate', 'no-such.pth'], [*ours, 'start', 'no-such']],
        'a wrong path or key in a config': [[*ours, 'train', 'graft/vit-b_mae', '--cfg-options', 'a=1'],
                                            [*ours, 'train', 'graft/vit-b_mae']],
        '`import torch`': [['-c', 'import torch']],
        '`import mmpretrain.models`': [['-W', 'ignore', '-c', IMPORTS]],
        "the host's Runner, first step": [['-W', 'ignore', '-c', HOST_RUN, str(folder / 'host.py')]],
        '`mm_graft train`, first step': [[*ours, 'train', str(folder / 'ours.py')]],
        START: [[*ours, 'start', str(images), '--minutes', '0.01', '--out', str(folder / 'start')]],
        **{f'`mm_graft {name}`': [[*ours, *name.split(), *words]] for name, words in results(folder).items()},
    }


def results(folder: Path) -> dict[str, list[str]]:
    """Command → the rest of its words, for a first result from the checkpoint and the images in ``folder``."""
    checkpoint, images = str(folder / 'tiny.pth'), str(folder / 'images')
    cfg = Config.fromfile(folder / 'host.py')
    init_default_scope('mmpretrain')
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {'cfg': cfg.pretty_text}}, checkpoint)
    return {
        'evaluate': [checkpoint, '--protocols', 'knn', '--ks', '1', '--labels', images, '--val', images,
                     '--out', str(folder / 'kNN')],
        'embed': [checkpoint, images, '--out', str(folder / 'features.npz')],
        'inspect params': [str(folder / 'host.py')],
        'convert layout --to timm': [checkpoint, str(folder / 'converted.pth')],
        'split --per-class 1': [images, str(folder / 'list.txt')],
    }


def processor_seconds(arguments: Sequence[str], wrong: bool = False, until: str | None = None) -> float:
    """What a process of this Python takes, its own time and the system's.

    Args:
        arguments: of Python.
        wrong: whether it should fail.
        until: what a line of its output has in it, after which it is killed.

    Raises:
        RuntimeError: it failed, or did not although it should, or ended without that line.
    """
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'}, start_new_session=True)
    for line in process.stdout:
        if until and until in line:
            os.killpg(process.pid, signal.SIGKILL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    killed = process.returncode == -signal.SIGKILL
    if killed != bool(until) or (bool(process.returncode) != wrong and not killed):
        raise RuntimeError(f'{" ".join(arguments)} ended with status {process.returncode}')
    return used.ru_utime + used.ru_stime


def markdown(found: dict[str, float]) -> str:
    """The rows, with their ratio to the host's imports."""
    lines = ['| what | s | × `import mmpretrain.models` |', '|---|---:|---:|']
    imports = found['`import mmpretrain.models`']
    return '\n'.join([*lines, *(f'| {name} | {taken:.2f} | {taken / imports:.2f} |' for name, taken in found.items())])


def main() -> None:
    """Measure and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--page', type=Path, help='page that gets the table')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = programs(Path(folder))
        rounds = []
        for _ in range(args.rounds):
            rounds.append({name: [processor_seconds(call, name.startswith('a wrong'), UNTIL.get(name))
                                  for call in calls] for name, calls in rows.items()})
            shutil.rmtree(Path(folder) / 'start')
    found = {name: max(min(taken) for taken in zip(*(one[name] for one in rounds))) for name in rows}
    print(markdown(found))
    if args.page:
        put(args.page, 'startup', markdown(found))


if __name__ == '__main__':
    main()
