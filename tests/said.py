"""What a module of the package writes into the log."""

import logging


def said_by(module: str, monkeypatch) -> list[str]:
    """The lines, as they come; a level that the log does not understand is an error."""
    lines = []

    def note(line, logger, level=logging.INFO):
        logging.Logger('listener').log(level, line)
        lines.append(line)

    monkeypatch.setattr(f'{module}.print_log', note)
    return lines
