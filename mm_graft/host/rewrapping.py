"""A new distributed wrapper around the model of a running training.

PyTorch's wrapper builds its buckets once, from what then requires a gradient, and cannot rebuild them. MMEngine wraps
a model once, and compiles the step of the wrapped one (``compile`` in a config) in a private method.
"""

import gc

from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel


def rewrap(runner: Runner) -> None:
    """Wrap the run's model again, if it is wrapped."""
    if not isinstance(runner.model, DistributedDataParallel):
        return
    model = runner.model.module
    runner.model = None
    gc.collect()  # the old wrapper must let go of the parameters before the new one takes them
    runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), model)
    runner._maybe_compile('train_step')
