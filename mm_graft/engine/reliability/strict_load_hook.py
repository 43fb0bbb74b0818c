"""What ``load_from`` and ``mm_graft test`` load fits the model, or is an error before the first step."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mm_graft.checkpoints import CheckpointError, backbone_tensors
from mm_graft.checkpoints.reading import first_non_finite
from mm_graft.depth import unwrap
from mm_graft.host.run_requests import asked_to_resume, file_to_load
from mm_graft.image_folders import shorten
from mm_graft.registry import HOOKS

BACKBONE = 'backbone.'


def fitting(own: dict[str, Tensor], state: dict) -> list[str]:
    """Names of the model's tensors that a state dict has with their shapes."""
    return [name for name, tensor in own.items()
            if isinstance(state.get(name), Tensor) and state[name].shape == tensor.shape]


def choose_weights(model: nn.Module, state: dict, path: str, complete: bool) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file that a model takes, all of its backbone or an error, and a line that says what they are.

    Where the model's own names do not cover its backbone, the file is read in any known layout, for the backbone alone.

    Args:
        model: what they are loaded into.
        state: the file's tensors, by the file's names.
        path: the file.
        complete: whether every tensor of the model has to be there, as for a test.

    Raises:
        CheckpointError: they do not fit.
    """
    own = model.state_dict()
    names = fitting(own, state)
    missing = [name for name in own if name not in set(names)]
    if complete and missing:
        raise CheckpointError(f'checkpoint {path} has {len(names)} of {len(own)} tensors of {type(model).__name__}; '
                              f'it lacks {shorten(missing)}; give a checkpoint of this config')
    if any(name.startswith(BACKBONE) for name in missing) or not names:
        if not hasattr(model, 'backbone'):
            raise CheckpointError(f'checkpoint {path} has {len(names)} of the {len(own)} tensors of '
                                  f'{type(model).__name__}, which has no `backbone` to load alone')
        tensors, coverage = backbone_tensors(model.backbone, path)
        chosen = {BACKBONE + name: tensor for name, tensor in tensors.items()}
        rest = [name for name in own if name not in chosen]
        return chosen, f'{coverage}; newly initialized: {shorten(rest) or "nothing"}'
    chosen = {name: state[name] for name in names}
    if name := first_non_finite(chosen):
        raise CheckpointError(f'checkpoint {path} has weights that are NaN or infinite, first {name}; use an earlier '
                              'one')
    unused = [name for name in state if name not in chosen]
    return chosen, (f'loaded {len(names)} of {len(own)} tensors from {path}'
                    + (f'; newly initialized: {shorten(missing)}' if missing else '')
                    + (f'; not used: {shorten(unused)}' if unused else ''))


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Replace the host's non-strict load of a new run or a test, which drops in silence what does not fit.

    ``load_from`` of a run takes a file of any layout that ``mm_graft.checkpoints`` knows: its whole backbone, or an
    error; what starts new beside it is listed. A resumed run is left alone.

    Args:
        complete: every tensor of the model has to be in the file, as for a test.
    """

    priority = 'VERY_HIGH'

    def __init__(self, complete: bool = False) -> None:
        self.complete = complete

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the tensors that fit in the place of the file's."""
        if asked_to_resume(runner):
            return
        state = checkpoint.get('state_dict', checkpoint)
        checkpoint['state_dict'], line = choose_weights(unwrap(runner.model), state, str(file_to_load(runner)),
                                                        self.complete)
        runner.logger.info(line)
