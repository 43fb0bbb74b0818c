"""Initializing weights without a line for each of them, and what happens right after a run has done it.

MMEngine's Runner initializes the weights of its model and loads a checkpoint in one go, with no hook between the two.
"""

from collections.abc import Callable

from mmengine.logging import MMLogger
from mmengine.model import PretrainedInit
from torch import nn


def is_pretrained(settings: object) -> bool:
    """Whether an entry of ``init_cfg`` is an initialization from a file, by whichever of its names."""
    kind = settings.get('type') if isinstance(settings, dict) else None
    return kind is PretrainedInit or str(kind).rpartition('.')[2] in ('Pretrained', 'PretrainedInit')


def entries(init_cfg: object) -> list[dict]:
    """The entries of ``init_cfg``, which may be one or several."""
    return list(init_cfg) if isinstance(init_cfg, list | tuple) else [init_cfg] if isinstance(init_cfg, dict) else []


def after_init_weights(model: nn.Module, then: Callable[[], None]) -> None:
    """Call ``then`` after the next ``init_weights`` of a model, and only that one."""
    initialize = getattr(model, 'init_weights', None)

    def init_weights() -> None:
        vars(model).pop('init_weights')
        if initialize is not None:
            initialize()
        then()

    model.init_weights = init_weights


def initialize(model: nn.Module) -> None:
    """``model.init_weights()`` without the host's list of all parameters, which fills screens."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)
