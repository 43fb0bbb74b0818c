"""A folder in which the commands of the documentation can be run: code, a few images, checkpoints, stand-ins."""

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope

from mm_graft.checkpoints.files import Origin, convert_file
from mm_graft.commands.configs import load_config
from tests.docs.small import first_checkpoint, named_checkpoints, small_config
from tests.shrink import TINY_WIDTH
from tests.test_overrides import parse

ROOT = Path(__file__).parents[2]
# copied, not linked: what a command writes must not land in the checkout
BUILT = ('__pycache__', '.mim', '_build', 'api')
FILES = ('Makefile', )
FOLDERS = ('configs', 'experiments', 'benchmarks', 'tools', 'mm_graft', 'requirements', 'docs')
# of others, or hours long whatever the model is: tests/tools runs their parts
ELSEWHERE = ('make ', 'pip ', 'source ', 'tensorboard ', 'git ', 'sudo ', 'mim ', 'pre-commit ', 'export ',
             'python -m experiments.cifar10 ', 'python -m experiments.wsp ', 'python -m experiments.methods',
             'python -m experiments.continuing', 'python -m experiments.camvid',
             'mm_graft benchmark table', 'OMP_NUM_THREADS=1 .venv-peers')
# files that the documentation takes for given: the config that they come from, and their layout
GIVEN = {
    'mae_pretrain_vit_base.pth': ('graft/vit-b_mae.py', 'mae'),
    'checkpoints/mae_pretrain_vit_base.pth': ('graft/vit-b_mae.py', 'mae'),
    'checkpoints/mae_pretrain_vit_large.pth': ('graft/vit-l_mae.py', 'mae'),
    'maerefined_l16.th': ('graft/vit-l_mae.py', 'refiner'),
    'checkpoint_final.pth.tar': ('graft/vit-b_mae2mocov3.py', 'mocov3'),
    'checkpoints/vit-b-300ep.pth.tar': ('graft/vit-b_mocov3.py', 'mocov3'),
    'dinov2_vits14_pretrain.pth': ('continue/vit_own-images.py', 'mmpretrain'),
    'mae.pth': ('graft/vit-b_mae.py', 'mmpretrain'),
    'graft.pth': ('graft/vit-b_mae2mocov3.py', 'mmpretrain'),
    'checkpoints/vit_2b14.pt': ('wsp/vit-2b_mae2wsp_fsdp.py', 'mmpretrain'),
    'checkpoints/vit_b16_ft_in1k.pth': ('wsp/vit-b_finetune_512px.py', 'mmpretrain'),
}
# long commands, and options that make them short
FEWER = {'evaluate.py': ' --linear-epochs 2', 'analyze conflict': ' --batch-size 4', 'analyze vic': ' --batch-size 4',
         'benchmark step': ' --steps 2 --warmup 1',
         'experiments.lr_grid': ' --multipliers 0.1 1 --panels 1',
         'experiments.partial_finetuning': ' --frozen 0 6',
         'experiments.wsp.lengths': ' --lengths 0 1 --seeds 0 --images 40'}
SRUN = r'''#!/usr/bin/env bash
while [[ $1 == -* ]]; do [[ $1 == -p ]] && shift; shift; done
export SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_NODELIST=localhost SLURM_NODEID=0
exec "$@"
'''


def commands(text: str) -> list[str]:
    """The shell commands of a page, one line each, comments taken off."""
    blocks = re.findall(r'```(?:bash|shell|console)\n(.*?)```', text, re.S)
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    bare = (re.sub(r'(^|\s+)#.*', '', line).removeprefix('$ ').strip() for line in lines)
    return [re.sub(r'\s+', ' ', line) for line in bare if line]


def fingerprint() -> dict[Path, str]:
    """What stands in the checkout, by file."""
    files = [ROOT / name for name in FILES] + [path for name in FOLDERS for path in (ROOT / name).rglob('*')]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files
            if path.is_file() and not set(BUILT) & set(path.parts)}


def made_small(command: str, processes: int = 2) -> str:
    """A command for this sandbox: what stands for something is put in, and few processes take the place of many."""
    for old, new in {
            'NNODES=2 NODE_RANK=0 MASTER_ADDR=host PORT=29500 ': '',
            'NNODES=2:4 RDZV_ENDPOINT=host:29400': 'NNODES=1:1 RDZV_ENDPOINT=localhost:0',
            ' FOLDER ': ' data/own ', ' OTHER': ' configs/graft/vit-b_mae.py',
            '/path/to/images': 'data/own', ' PARTITION JOB ': ' gpu test ',
            **dict.fromkeys(('/path/to/labeled', 'data/imagenet'), 'data/own_labeled'),
            ' CONFIG ': ' configs/graft/vit-b_mae2mocov3.py ', ' CHECKPOINT': ' graft.pth', ' DIR': ' work_dirs/out',
            'timm/vit_small_patch14_dinov2.lvd142m': str(ROOT / 'tests/data/hub/dinov2'), ' FILE': ' mae.pth'}.items():
        command = (command + ' ').replace(old, new).strip()
    command = re.sub(r'--minutes \d+', '--minutes 0.05', command)
    command = re.sub(r'--indices [\d ]+', '--indices 0 1 ', command)
    command = re.sub(r'\bGPUS=\d+', 'GPUS=1', command)
    command = re.sub(r'(dist_\w+\.sh \S+(?: \S+\.pth\S*)?|--nproc-per-node|--gpus) \d+', rf'\1 {processes}', command)
    for name, fewer in FEWER.items():
        command += fewer if name in command else ''
    return first_checkpoint(command)


def overrides_in(command: str) -> dict | None:
    """What a command sets in its config."""
    words = shlex.split(command)
    if '--cfg-options' not in words:
        return None
    after = words[words.index('--cfg-options') + 1:]
    return parse(list(takewhile(lambda word: not word.startswith('--'), after)))


class Sandbox:
    """Runs documented commands one after another, as a reader would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in FILES:
            shutil.copy(ROOT / name, folder / name)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*BUILT))
        for name in ('bin', 'checkpoints', 'published'):
            (folder / name).mkdir()
        self.program('srun', SRUN)
        self.program('sbatch', '#!/bin/sh\nSLURM_JOB_ID=1 exec bash -s\n')
        self.program('scontrol', '#!/bin/sh\necho localhost\n')
        self.program('python', f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        self.program('mm_graft', f'#!/bin/sh\nexec {sys.executable} -m mm_graft "$@"\n')
        self.program('python3', f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        self.images()
        self.cifar10()
        self.fashion_mnist()

    def program(self, name: str, text: str) -> None:
        """Put a program on the path."""
        path = self.folder / 'bin' / name
        path.write_text(text)
        path.chmod(0o755)

    def images(self) -> None:
        """Pictures of our own, with and without classes or captions, and two segmentation sets in their folders."""
        generator = np.random.default_rng(0)
        for index in range(100):
            image = cv2.resize(generator.integers(0, 255, (4, 4, 3), dtype=np.uint8), (96, 64))
            split, animal = 'train' if index % 3 else 'val', 'cat' if index % 2 else 'dog'
            self.write(f'data/own/{chr(ord("a") + index) if index < 26 else index}.jpg', image)
            self.write(f'data/own_labeled/{split}/{animal}/{index}.jpg', image)
            for split in ('training', 'validation') if index < 4 else ():
                self.write(f'data/ade/ADEChallengeData2016/images/{split}/{index}.jpg', image)
                self.write(f'data/ade/ADEChallengeData2016/annotations/{split}/{index}.png', image[:, :, 0] % 5)
            for split in ('train', 'test') if index < 4 else ():
                self.write(f'data/camvid/img_dir/{split}/{index}.jpg', image)
                self.write(f'data/camvid/ann_dir/{split}/{index}.png', image[:, :, 0] % 11)
            self.write(f'data/captions/images/{index}.jpg', image)
            self.write(f'data/yfcc15m/{index}.jpg', image)
        rows = [f'{{"image": "{index}.jpg", "caption": "a #{"cat" if index % 2 else "dog"}"}}' for index in range(100)]
        (self.folder / 'data/captions/captions.jsonl').write_text('\n'.join(rows))
        (self.folder / 'data/captions/synsets.txt').write_text('n1 cat\nn2 dog\n')
        self.shards(8)
        np.savez(self.folder / 'classes.npz', classes=['cat', 'dog'], embeddings=np.eye(2, TINY_WIDTH))

    def shards(self, count: int) -> None:
        """The captions and their images in tar files."""
        folder = self.folder / 'data/captions'
        (folder / 'shards').mkdir()
        rows = [json.loads(row) for row in (folder / 'captions.jsonl').read_text().splitlines()]
        for shard in range(count):
            with tarfile.open(folder / f'shards/{shard:02}.tar', 'w') as archive:
                for row in rows[shard::count]:
                    archive.add(folder / 'images' / row['image'], row['image'])
                    text = tarfile.TarInfo(Path(row['image']).with_suffix('.txt').name)
                    text.size = len(row['caption'])
                    archive.addfile(text, io.BytesIO(row['caption'].encode()))

    def cifar10(self) -> None:
        """CIFAR-10's archive, with two images a class and part."""
        records = np.zeros((20, 3073), np.uint8)
        records[:, 0] = np.arange(20) % 10
        with tarfile.open(self.folder / 'cifar-10-binary.tar.gz', 'w:gz') as archive:
            for name in ('data_batch_1', 'test_batch'):
                member = tarfile.TarInfo(f'cifar-10-batches-bin/{name}.bin')
                member.size = records.nbytes
                archive.addfile(member, io.BytesIO(records.tobytes()))

    def fashion_mnist(self) -> None:
        """Its four files, with a few images of noise."""
        folder = self.folder / 'data/fashion_mnist'
        folder.mkdir()
        generator = np.random.default_rng(0)
        for name, count in (('train', 60), ('t10k', 60)):
            pixels = generator.integers(0, 255, (count, 28, 28), np.uint8)
            for kind, content in (('images-idx3', pixels), ('labels-idx1', np.arange(count, dtype=np.uint8) % 10)):
                head = np.array([0x800 + content.ndim, *content.shape], '>i4')
                (folder / f'{name}-{kind}-ubyte').write_bytes(head.tobytes() + content.tobytes())

    def write(self, place: str, image: np.ndarray) -> None:
        """Write a picture."""
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)

    def provide(self, command: str) -> None:
        """Make the checkpoints that a command or its config reads and no earlier command has written."""
        given = re.findall(r'[\w./-]+\.(?:pth(?:\.tar)?|pt|th)\b', command)
        starting = command.split(' --')[0] if re.search('train|doctor|lr_grid', command) else ''
        for config in re.findall(r'(?:experiments/\w+/)?configs/\S+\.py', starting):
            cfg = load_config(str(ROOT / config), overrides_in(command))
            given += [first_checkpoint(hook.checkpoint) for hook in named_checkpoints(cfg)]
        for word in given:
            run = re.fullmatch(r'work_dirs/(?:.*/)?([\w.-]+)/\w+\.pth', word)
            origin = next((path for folder in ('configs', 'experiments')
                           for path in (ROOT / folder).rglob(f'{run[1]}.py')), None) if run else None
            config, kind = (origin, 'mmpretrain') if origin else GIVEN.get(word, (None, None))
            if config is not None and not (self.folder / word).exists():
                self.checkpoint(ROOT / 'configs' / config, self.folder / word, kind)

    def checkpoint(self, config: Path, target: Path, kind: str) -> None:
        """A checkpoint of the small form of a config, never trained."""
        cfg = small_config(Config.fromfile(config))
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        MMLogger.get_current_instance().setLevel('ERROR')
        model = MODELS.build(cfg.model)
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = target.with_name(target.name + '.raw.pth')
        torch.save({'state_dict': model.state_dict(), 'meta': {'cfg': cfg.pretty_text}}, raw)
        if kind == 'mmpretrain':
            raw.rename(target)
            return
        made = target.with_name('made.pth')
        convert_file(Origin(raw, 'mmpretrain'), made, kind)
        shutil.move(made, target)
        raw.unlink()

    def make_room(self, command: str) -> None:
        """Remove the run of an earlier command into whose folder a new training goes: pages show alternatives."""
        folder = re.search(r'--work-dir (\S+)', command)
        config = re.search(r'(?:train\.(?:py|sh)|mm_graft train) (?:\S+ )*?(\S+)\.py', command)
        if config and '--resume' not in command:
            shutil.rmtree(self.folder / (folder[1] if folder else f'work_dirs/{Path(config[1]).name}'), True)

    def run(self, command: str) -> subprocess.CompletedProcess:
        """Run one command."""
        self.make_room(command)
        self.provide(command)
        with socket.create_server(('127.0.0.1', 0)) as free:
            port = str(free.getsockname()[1])
        environment = {
            **os.environ, 'PATH': f'{self.folder / "bin"}:{Path(sys.executable).parent}:{os.environ["PATH"]}',
            'PYTHONPATH': ':'.join([*(() if 'mm_graft start' in command else (str(ROOT / 'tests/docs/shrunk'), )),
                                    str(self.folder)]), 'PYTHONUNBUFFERED': '1',
            'OMP_NUM_THREADS': '1', 'PORT': port, 'MASTER_PORT': port}
        return subprocess.run(['bash', '-c', command], cwd=self.folder, env=environment, text=True, timeout=600,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
