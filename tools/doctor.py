"""Check the environment: versions, package family, devices, communication, space, data, config; say what to fix."""

import argparse
import json
import sys
from dataclasses import asdict

from mmengine.config import DictAction

from mm_graft.commands.environment import examine

MARKS = {True: 'ok', False: 'WRONG', None: ''}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='?', help='a config whose data and checkpoints to look for')
    parser.add_argument('--data', help='a folder of images')
    parser.add_argument('--work-dir', default='.', help='where checkpoints will be written')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides of the config, key=value')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    checks = examine(args.config, args.data, args.work_dir, args.cfg_options)
    wrong = [check for check in checks if check.ok is False]
    if args.json:
        print(json.dumps({'ok': not wrong, 'checks': [asdict(check) for check in checks]}, indent=1))
    else:
        for check in checks:
            print(f'{MARKS[check.ok]:5} {check.name:15} {check.value}')
        for check in wrong:
            print(f'\n{check.name}: {check.fix}')
    sys.exit(bool(wrong))


if __name__ == '__main__':
    main()
