#!/usr/bin/env python
"""Checkpoints between the authors', mmpretrain's and timm's layouts; nothing is lost without being named."""

import argparse

from mm_graft.checkpoints import KINDS, convert_file
from mm_graft.commands.running import clean_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='checkpoint file')
    parser.add_argument('target', help='new file, .pth or .safetensors')
    parser.add_argument('--from', dest='kind', choices=KINDS, help='layout of the source (default: detected)')
    parser.add_argument('--to', default='mmpretrain', choices=KINDS, help='layout of the target (default: mmpretrain)')
    parser.add_argument(
        '--branch', default='base', choices=('base', 'momentum'),
        help='which encoder of a contrastive checkpoint becomes the encoder of the target')
    parser.add_argument(
        '--grid', type=int, nargs=2, metavar=('ROWS', 'COLUMNS'),
        help='interpolate positions to this grid of patches (512 pixels and patches of 16: 32 32); default: keep them')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with clean_errors():
        record = convert_file(
            args.source, args.target, args.kind, args.to, args.branch, tuple(args.grid) if args.grid else None)
        reasons = record['dropped']
        print(f'{args.source} ({record["from"]}) → {args.target} ({args.to}), {len(reasons)} entries left out')
        for reason in sorted(set(reasons.values())):
            names = [name for name in reasons if reasons[name] == reason]
            print(f'  {reason}: {", ".join(names[:4])}{f" … ({len(names)})" if len(names) > 4 else ""}')


if __name__ == '__main__':
    main()
