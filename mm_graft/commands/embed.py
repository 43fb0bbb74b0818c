"""Write the features of images: checkpoint and folder in, one row an image out, as Parquet or npz."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mm_graft.commands.arguments import add_encoder, add_overrides, at_least_one, check_files, device, target
from mm_graft.commands.configs import add_checkpoint, config_for

if TYPE_CHECKING:
    from mmengine.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Images, encoder and output."""
    add_checkpoint(parser)
    parser.add_argument('images', help='folder of images, in any depth of sub-folders')
    parser.add_argument('--out', type=target('.npz', '.parquet'), required=True, help='file ending in .npz or .parquet')
    add_encoder(parser)
    parser.add_argument('--pool', choices=('cls', 'avg', 'patches'), help='class token, mean of the patch tokens, or '
                        'all of them (npz only) (default: cls where there is a class token, else avg)')
    parser.add_argument('--block', type=at_least_one, help='after which block, the first is 1 (default: the last, and '
                        'its norm)')
    parser.add_argument('--batch-size', type=at_least_one, default=64, help='images encoded at once')
    parser.add_argument('--device', type=device, help='of the encoder (default: a GPU where there is one)')
    add_overrides(parser)


def check(args: argparse.Namespace) -> Config:
    """The config; the inputs exist, and the output can be written."""
    check_files('folder', args.images)
    if args.out.suffix == '.parquet' and args.pool == 'patches':
        raise ValueError('--pool patches has a matrix for each image; choose a name that ends in .npz')
    if args.out.exists():
        raise ValueError(f'--out {args.out} exists; remove it, or choose another name')
    return config_for(args.checkpoint, args.config, args.cfg_options)


def run(args: argparse.Namespace, cfg: Config) -> None:
    """Encode batch by batch; an interrupted call continues after the last complete part."""
    import torch

    from mm_graft.commands.embedding import embed
    from mm_graft.pretrained import load_pretrained
    encoder = load_pretrained(args.checkpoint, cfg, args.branch, args.resize)
    encoder.to(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    embed(encoder, args.images, args.out, args.pool, args.block, args.batch_size, cfg)
