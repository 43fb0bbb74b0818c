"""What a module of the package writes into the log, and the end of logs."""

import logging

from mmengine.logging import MMLogger


def close_logs() -> None:
    """End the loggers of runs: each writes to a stream that belongs to one test, and to a file of its folder."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
        logger.handlers.clear()
    MMLogger._instance_dict.clear()


def said_by(module: str, monkeypatch) -> list[str]:
    """The lines, as they come; a level that the log does not understand is an error."""
    lines = []

    def note(line, logger, level=logging.INFO):
        logging.Logger('listener').log(level, line)
        lines.append(line)

    monkeypatch.setattr(f'{module}.print_log', note)
    return lines
