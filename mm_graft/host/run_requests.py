"""Requests of a run that MMEngine's Runner keeps in private attributes.

A config would say it, but a Runner may be built without one; and before it loads, another file has to be put in the
place of the one that was asked for, where that is damaged or none was named.
"""

from mmengine.runner import Runner


def asked_to_resume(runner: Runner) -> bool:
    """Whether the run resumes from a checkpoint of its own."""
    return runner._resume


def file_to_load(runner: Runner) -> str | None:
    """The file that the run loads when it begins, or has loaded; None: none, or the last one of its folder."""
    return runner._load_from


def resume_from(runner: Runner, path: str | None) -> None:
    """Make a run that has not started resume from this file; None: start from scratch."""
    runner._resume, runner._load_from = path is not None, path


def asked_seed(runner: Runner) -> int | None:
    """The requested seed; None: any."""
    return runner._randomness_cfg.get('seed')
