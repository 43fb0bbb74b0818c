"""What the commands share in reading their arguments."""

import argparse


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Show the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if not action.help or 'default' in action.help or action.default in (None, False, []):
            return action.help
        return super()._get_help_string(action)


def at_least_one(text: str) -> int:
    """A whole number from 1 on, for ``add_argument(type=…)``.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no whole number from 1 on')
    return number
