"""Whether a backbone of the host's kind gets its weights from ``init_cfg``."""

from mmengine.model import BaseModule


def is_pretrained(module: BaseModule) -> bool:
    """Whether ``init_cfg`` names a checkpoint; ask before the host's ``init_weights``, whose ViTs fail on ``{}``."""
    module.init_cfg = module.init_cfg or None  # as MMEngine understands an empty one
    return isinstance(module.init_cfg, dict) and module.init_cfg['type'] == 'Pretrained'
