"""Draw what a masked-image model sees, hides and predicts: MAE's pixels, LocalMIM's HOG (as strokes) or pixels."""

import argparse
from pathlib import Path

import torch
from mmengine.config import DictAction

from mm_graft.analysis.reconstruction import load_model, read_images, reconstruct
from mm_graft.analysis.reconstruction_figure import draw
from mm_graft.commands.running import clean_errors, load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of the pre-training')
    parser.add_argument('checkpoint', help='its checkpoint, or the LocalMIM authors\'')
    parser.add_argument('images', nargs='+', help='pictures; their centres are used')
    parser.add_argument('--out', type=Path, default=Path('reconstruction.png'), help='picture to write')
    parser.add_argument('--seed', type=int, default=0, help='of the masks')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dpi', type=int, default=150)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides, key=value')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with clean_errors():
        model = load_model(load_config(args.config, args.cfg_options), args.checkpoint).to(args.device)
        torch.manual_seed(args.seed)
        figure = draw(reconstruct(model, read_images(args.images, tuple(model.backbone.img_size))))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(args.out, dpi=args.dpi)
    print(f'{args.out}: {len(args.images)} images')


if __name__ == '__main__':
    main()
