"""What ``load_from``, ``init_cfg`` and ``mm_graft test`` load fits the model, or is an error before the first step."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mm_graft.checkpoints.model_weights import choose_part, choose_weights
from mm_graft.depth import unwrap
from mm_graft.host.first_weights import after_init_weights, entries, is_pretrained
from mm_graft.host.run_requests import asked_to_resume, file_to_load
from mm_graft.nested import nodes
from mm_graft.registry import HOOKS


def take_pretrained(model: nn.Module) -> list[tuple[nn.Module, dict]]:
    """Take ``init_cfg=dict(type='Pretrained', …)`` off the modules that have one; these and it, the model last."""
    taken = []
    for module in model.modules():
        each = entries(getattr(module, 'init_cfg', None))
        asked = list(filter(is_pretrained, each))
        if asked:
            module.init_cfg = [one for one in each if one not in asked] or None
            taken += [(module, one) for one in asked]
    return taken[::-1]


def initialize_strictly(runner: Runner) -> None:
    """Load every ``init_cfg=dict(type='Pretrained', …)`` of the model as strictly as ``load_from``.

    The host and its backbones load what fits, and drop the rest. A run that resumes from a checkpoint of its own needs
    none of these files and opens none.
    """
    if not isinstance(runner.model, nn.Module):
        if place := next((key for key, part in nodes(runner.cfg.get('model')) if is_pretrained(part)), None):
            raise ValueError(f'model.{place}: {type(runner).__name__} would load what fits and drop the rest; take the '
                             'weights by --init FILE')
        return
    model = unwrap(runner.model)
    taken = take_pretrained(model)
    if not taken:
        return

    def load() -> None:
        if asked_to_resume(runner):
            return
        for module, settings in taken:
            tensors, line = choose_part(module, settings['checkpoint'], settings.get('prefix'))
            module.load_state_dict(tensors, strict=False)
            runner.logger.info(f'{type(module).__name__}: {line}')
        if taken[-1][0] is not model and hasattr(model, 'start_momentum_encoders'):
            model.start_momentum_encoders()

    after_init_weights(model, load)


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Replace the host's non-strict load of a new run or a test, which silently drops what does not fit.

    ``load_from`` of a run, and ``init_cfg=dict(type='Pretrained', …)``, take a file of any layout that
    ``mm_graft.checkpoints`` knows: its whole backbone, or an error; what starts new beside it is listed. A resumed run
    is left alone.

    Args:
        complete: every tensor of the model has to be in the file, as for a test.
    """

    priority = 'VERY_HIGH'

    def __init__(self, complete: bool = False) -> None:
        self.complete = complete

    def before_run(self, runner: Runner) -> None:
        """Before weights are initialized."""
        initialize_strictly(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the tensors that fit in the place of the file's."""
        if asked_to_resume(runner):
            return
        state = checkpoint.get('state_dict', checkpoint)
        checkpoint['state_dict'], line = choose_weights(unwrap(runner.model), state, str(file_to_load(runner)),
                                                        self.complete)
        runner.logger.info(line)
