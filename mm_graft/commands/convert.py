"""Convert checkpoints: between the authors', mmpretrain's and timm's layouts, to a published encoder, to ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mm_graft.commands.arguments import add_encoder, add_overrides, at_least_one, check_files, target, target_folder
from mm_graft.commands.configs import add_checkpoint, config_for

if TYPE_CHECKING:
    from mmengine.config import Config

    from mm_graft.checkpoints import Origin

LAYOUTS = (
    'mae', 'timm', 'mocov3', 'graft', 'conmim', 'localmim', 'refiner', 'data2vec2', 'timm-dinov3', 'dinov2', 'dinov3',
    'open-clip', 'torchvision', 'hf-vit', 'hf-beit', 'hf-beit-mim', 'hf-dinov2', 'hf-dinov3', 'hf-clip', 'hf-siglip',
    'mmpretrain')


def layout_arguments(parser: argparse.ArgumentParser) -> None:
    """From which file and layout to which."""
    parser.add_argument('source', help='checkpoint file')
    parser.add_argument('target', help='new file, .pth or .safetensors; or a new folder for transformers, with --to hf')
    _add_origin(parser)
    parser.add_argument('--to', default='mmpretrain', choices=('hf', *LAYOUTS),
                        help="layout of the target; hf: the one of Hugging Face's that holds the encoder")
    parser.add_argument(
        '--grid', type=at_least_one, nargs=2, metavar=('ROWS', 'COLUMNS'),
        help='interpolate positions to this grid of patches (512 pixels and patches of 16: 32 32); default: keep them')


def check_source(args: argparse.Namespace) -> None:
    """Check that the file exists."""
    check_files('checkpoint', args.source)


def layout(args: argparse.Namespace, inputs: None) -> None:
    """Convert, and print the tensors that were left out."""
    from mm_graft.checkpoints import convert_file, write_hub_folder
    to_folder = args.to == 'hf' or (args.to.startswith('hf-') and not Path(args.target).suffix)
    convert = write_hub_folder if to_folder else convert_file
    record = convert(_origin(args), args.target, args.to, tuple(args.grid) if args.grid else None)
    reasons = record['dropped']
    print(f'{args.source} ({record["from"]}) → {args.target} ({record["to"]}), {len(reasons)} entries left out')
    for reason in sorted(set(reasons.values())):
        names = [name for name in reasons if reasons[name] == reason]
        print(f'  {reason}: {", ".join(names[:4])}{f" … ({len(names)})" if len(names) > 4 else ""}')
    if record['grid_known'] == 'assumed':
        print(f'  a grid of {record["grid"][0]} × {record["grid"][1]} patches was assumed; --from-grid says another')


def publish_arguments(parser: argparse.ArgumentParser) -> None:
    """From which file to which folder and name."""
    parser.add_argument('source', help='checkpoint file')
    parser.add_argument('folder', type=target_folder, help='where to put NAME-HASH.pth')
    parser.add_argument('--name', help='how the new name begins (default: that of the source)')
    _add_origin(parser)
    parser.add_argument('--plain', action='store_true', help="LocalMIM's last tap norm becomes the final norm")
    parser.add_argument('--safetensors', action='store_true', help='instead of .pth')


def publish(args: argparse.Namespace, inputs: None) -> None:
    """Write the encoder alone, and print its path."""
    from mm_graft.checkpoints import publish_file
    name = args.name or Path(args.source).name.split('.')[0]
    suffix = '.safetensors' if args.safetensors else '.pth'
    print(publish_file(_origin(args), args.folder, name, suffix, args.plain))


def onnx_arguments(parser: argparse.ArgumentParser) -> None:
    """Which encoder, to which file."""
    add_checkpoint(parser)
    parser.add_argument('target', type=target('.onnx'), help='new file, .onnx')
    add_encoder(parser)
    add_overrides(parser)


def check_onnx(args: argparse.Namespace) -> Config:
    """The config; the checkpoint exists."""
    return config_for(args.checkpoint, args.config, args.cfg_options)


def onnx(args: argparse.Namespace, cfg: Config) -> None:
    """Export; what does not compute what PyTorch does is removed again."""
    from mm_graft.checkpoints.onnx_export import export_onnx, largest_difference
    from mm_graft.encoders import load_encoder
    from mm_graft.evaluation.datasets import image_size
    backbone, size = load_encoder(cfg, args.checkpoint, args.branch, args.resize).backbone, image_size(cfg)
    export_onnx(backbone, args.target, size)
    try:
        worst = largest_difference(backbone, args.target, size)
    except ImportError:
        print(f'{args.target}: not checked, onnxruntime is not installed (requirements/export.txt)')
        return
    print(f'{args.target}: any batch, {size[0]} × {size[1]} pixels; differs from PyTorch by {worst:.1e}')
    if not worst <= 1e-4:  # NaN too
        Path(args.target).unlink()
        raise ValueError(f'{args.target} did not reproduce the outputs of the checkpoint and was removed')


def _add_origin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--from', dest='layout', choices=LAYOUTS, help='layout of the source (default: detected)')
    parser.add_argument('--branch', default='base', choices=('base', 'momentum'),
                        help='which encoder of a contrastive checkpoint becomes the encoder of the target')
    parser.add_argument('--prefix', help='what stands before the names of the model in the file (default: found)')
    parser.add_argument('--container', help='key of the file under which the state dict stands (default: found)')
    parser.add_argument('--from-grid', type=at_least_one, nargs=2, metavar=('ROWS', 'COLUMNS'),
                        help="grid of patches that the file's positions are for, where it does not say")


def _origin(args: argparse.Namespace) -> Origin:
    from mm_graft.checkpoints import Origin
    grid = tuple(args.from_grid) if args.from_grid else None
    return Origin(args.source, args.layout, args.branch, args.prefix, args.container, grid)


COMMANDS = {
    'layout': ("between the authors', mmpretrain's and timm's layouts; nothing is lost without being named",
               layout_arguments, check_source, layout),
    'publish': ('the encoder of a checkpoint alone, without optimizer, heads and log, under a name with its hash',
                publish_arguments, check_source, publish),
    'onnx': ('the encoder of a checkpoint as an ONNX file; checked against PyTorch where onnxruntime is installed',
             onnx_arguments, check_onnx, onnx),
}
