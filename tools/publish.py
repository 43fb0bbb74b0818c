#!/usr/bin/env python
"""The encoder of a checkpoint alone, without optimizer, heads and log, under a name with its hash."""

import argparse
from pathlib import Path

from mm_graft.checkpoints import KINDS, publish_file
from mm_graft.commands.running import clean_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='checkpoint file')
    parser.add_argument('folder', help='where to put NAME-HASH.pth')
    parser.add_argument('--name', help='how the new name begins (default: that of the source)')
    parser.add_argument('--from', dest='kind', choices=KINDS, help='layout of the source (default: detected)')
    parser.add_argument('--branch', default='base', choices=('base', 'momentum'))
    parser.add_argument('--plain', action='store_true', help="LocalMIM's last tap norm becomes the final norm")
    parser.add_argument('--safetensors', action='store_true', help='instead of .pth')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with clean_errors():
        name = args.name or Path(args.source).name.split('.')[0]
        suffix = '.safetensors' if args.safetensors else '.pth'
        print(publish_file(args.source, args.folder, name, args.kind, args.branch, suffix, args.plain))


if __name__ == '__main__':
    main()
