"""Whether a backbone of the host's kind gets its weights from ``init_cfg``."""

from mmengine.model import BaseModule

from mm_graft.host import first_weights


def names_checkpoint(module: BaseModule) -> bool:
    """Whether ``init_cfg`` names a checkpoint; ask before the host's ``init_weights``.

    The host's ViTs fail on ``{}``, and see a checkpoint only in a plain dict: they would initialize positions over the
    loaded ones.
    """
    module.init_cfg = module.init_cfg or None  # as MMEngine understands an empty one
    given = first_weights.entries(module.init_cfg)
    if not any(map(first_weights.is_pretrained, given)):
        return False
    if len(given) > 1:
        raise ValueError(f'init_cfg={given} initializes over the weights of its checkpoint; give that alone')
    module.init_cfg = {**given[0], 'type': 'Pretrained'}
    return True
