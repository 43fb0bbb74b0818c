"""Small runs with the project's own runtime, made by command lines in this process; what users do by mistake."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from mm_graft.commands.main import main
from tests.said import close_logs

ROOT = Path(__file__).parents[1]
VIT = dict(arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32), img_size=32, patch_size=8)
NORM = dict(mean=[120.] * 3, std=[60.] * 3, to_rgb=True)
MAE = dict(
    type='MAE', data_preprocessor=dict(type='SelfSupDataPreprocessor', **NORM), backbone=dict(type='MAEViT', **VIT),
    neck=dict(type='MAEPretrainDecoder', num_patches=16, patch_size=8, embed_dim=16, decoder_embed_dim=16,
              decoder_depth=1, decoder_num_heads=2),
    head=dict(type='MAEPretrainHead', norm_pix=True, patch_size=8,
              loss=dict(type='PixelReconstructionLoss', criterion='L2')))
NET = dict(
    type='ImageClassifier', data_preprocessor=dict(type='ClsDataPreprocessor', num_classes=3, **NORM),
    backbone=dict(type='mm_graft.GraftViT', stop_grad_conv1=False, **VIT),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=16, loss=dict(type='CrossEntropyLoss')))
LOCALMIM = dict(
    type='mm_graft.LocalMIM', data_preprocessor=MAE['data_preprocessor'],
    backbone=dict(type='mm_graft.LocalMIMViT', mask_ratio=.75, taps=(2, 4), **VIT),
    neck=dict(type='mm_graft.LocalMIMNeck', in_channels=16, grids=[(4, 4)] * 2, scales=[2, 1], out_channels=27,
              embed_dims=16, num_heads=2, depth=1),
    target_generator=dict(type='mm_graft.HOGTarget', nbins=9, cells=[4, 8]), head=dict(type='mm_graft.LocalMIMHead'))
FREEZEOUT = """
param_scheduler.update(type='mm_graft.FreezeOutLR', t0=.5, schedule='linear')
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
"""


def pictures(folder: Path, names: str = 'abc', ending: str = 'jpg', n: int = 12) -> str:
    """A folder a class; the classes are told apart by color."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(n):
            pixels = np.random.default_rng(index).integers(0, 80, (40, 48, 3), dtype=np.uint8)
            pixels[..., 'abc'.find(name)] += 120
            Image.fromarray(pixels).save(folder / name / f'{index}.{ending}')
    return str(folder)


def write_config(path: Path, model: dict, folder: str, val: str | None = None, epochs: int = 4, lr: float = 1e-3,
                 load: dict | None = None, paramwise: dict | None = None, more: str = '') -> Path:
    """A config file with the project's own runtime."""
    loader = dict(batch_size=12, num_workers=0, persistent_workers=False, collate_fn=dict(type='default_collate'))
    steps = [dict(type='mm_graft.TolerantLoadImageFromFile', **load or {}), dict(type='RandomResizedCrop', scale=32)]
    center = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')]
    data = dict(type='CustomDataset', data_root=folder, with_label=model['type'] == 'ImageClassifier',
                pipeline=[*steps, center[-1]])
    keys = dict(
        model=model, train_dataloader=dict(**loader, drop_last=True, dataset=data, sampler=dict(type='DefaultSampler')),
        optim_wrapper=dict(constructor='mm_graft.GraftOptimWrapperConstructor',
                           optimizer=dict(type='AdamW', lr=lr), paramwise_cfg=paramwise or dict(stage_lr_mult=[1.0])),
        param_scheduler=dict(type='mm_graft.WarmupCosineLR', warmup=int(epochs > 1), convert_to_iter_based=True),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs), auto_scale_lr=dict(base_batch_size=12),
        visualizer=dict(vis_backends=[]), default_hooks=dict(logger=dict(interval=1), checkpoint=dict(interval=2)))
    if val:
        keys['train_cfg']['val_interval'] = epochs
        keys |= dict(val_dataloader=dict(**loader, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
            type='CustomDataset', data_root=val, pipeline=center)), val_evaluator=dict(type='Accuracy'), val_cfg=dict())
    path.write_text(f'_base_ = [{str(ROOT / "configs/_base_/runtime.py")!r}]\n'
                    + ''.join(f'{key} = {value!r}\n' for key, value in keys.items()) + more)
    return path


class Commands:
    """Command lines in a folder; how they ended and what they said.

    Args:
        folder: where configs, data and runs are.
        capsys: pytest's.
    """

    def __init__(self, folder: Path, capsys) -> None:
        self.folder, self.capsys = folder, capsys

    def __call__(self, *words: object) -> tuple[int, str]:
        """Exit status, and all that was printed."""
        self.capsys.readouterr()
        status = 0
        try:
            main(arguments=[str(word) for word in words])
        except SystemExit as end:
            status = end.code or 0
        finally:
            close_logs()  # a run that begins in the same second has the same name
        captured = self.capsys.readouterr()
        return status, captured.out + captured.err

    def config(self, *args, **kwargs) -> Path:
        """Another config file."""
        return write_config(self.folder / f'config{len(list(self.folder.glob("*.py")))}.py', *args, **kwargs)

    def train(self, config: Path, work: str, *words: object) -> str:
        """What a run says and logs; it has to end well."""
        status, text = self('train', config, '--work-dir', self.folder / work, *words)
        logs = sorted((self.folder / work).glob('*/*.log'), key=lambda path: path.stat().st_mtime)
        text += logs[-1].read_text() if logs else ''
        assert status == 0, text[-3000:]
        return text

    def refused(self, *words: object) -> str:
        """The one line with which a command ends."""
        status, text = self(*words)
        lines = [line for line in text.splitlines() if line.startswith('error: ')]
        assert (status, len(lines)) == (1, 1), text[-3000:]
        assert 'Traceback' not in text
        return lines[0]

    def stopped(self, config: Path, work: str, *words: object) -> str:
        """The one line with which a training is refused."""
        return self.refused('train', config, '--work-dir', self.folder / work, *words)


def accuracy(text: str) -> float:
    """The last one in a log."""
    return float(re.findall(r'accuracy/top1: ([\d.]+)', text)[-1])
