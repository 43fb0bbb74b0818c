#!/usr/bin/env python
"""The encoder of a checkpoint as an ONNX file; checked against PyTorch where onnxruntime is installed."""

import argparse
from pathlib import Path

import torch
from mmengine.config import DictAction

from mm_graft.checkpoints.onnx_export import export_onnx
from mm_graft.commands.running import clean_errors, load_config
from mm_graft.encoders import Encoder, load_encoder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='with `model.backbone`; a pre-training config will do')
    parser.add_argument('checkpoint', help='a checkpoint of any layout that is known here')
    parser.add_argument('target', help='new file, .onnx')
    parser.add_argument('--branch', default='base', choices=('base', 'momentum'))
    parser.add_argument('--resize', action='store_true', help="interpolate positions to the config's image size")
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='config overrides, key=value')
    return parser.parse_args()


def difference(backbone: torch.nn.Module, path: str, size: tuple[int, int]) -> float:
    """Largest difference between onnxruntime and PyTorch, relative to the largest value, for batches of 1 and 3."""
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    encoder, worst = Encoder(backbone), 0.0
    for batch in (1, 3):
        images = torch.randn(batch, 3, *size)
        with torch.no_grad():
            expected = encoder(images)
        actual = torch.from_numpy(session.run(None, {'images': images.numpy()})[0])
        worst = max(worst, float((actual - expected).abs().max() / expected.abs().max()))
    return worst


def main() -> None:
    args = parse_args()
    with clean_errors():
        cfg = load_config(args.config, args.cfg_options)
        backbone = load_encoder(cfg, args.checkpoint, args.branch, args.resize).backbone
        size = cfg.model.backbone.get('img_size', 224)
        size = (size, size) if isinstance(size, int) else tuple(size)
        export_onnx(backbone, args.target, size)
        try:
            worst = difference(backbone, args.target, size)
        except ImportError:
            print(f'{args.target}: not checked, onnxruntime is not installed (requirements/export.txt)')
            return
        print(f'{args.target}: any batch, {size[0]} × {size[1]} pixels; differs from PyTorch by {worst:.1e}')
        if not worst <= 1e-4:  # NaN too
            Path(args.target).unlink()
            raise ValueError(f'{args.target} did not compute what the checkpoint does and is removed')


if __name__ == '__main__':
    main()
