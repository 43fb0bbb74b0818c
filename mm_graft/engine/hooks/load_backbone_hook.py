"""Initial weights from a checkpoint of any known layout, completely or not at all."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from mm_graft.checkpoints import CheckpointError, load_backbone, read_checkpoint
from mm_graft.checkpoints.projector import FIRST_LAYERS, first_projection
from mm_graft.checkpoints.reading import check_weights
from mm_graft.depth import unwrap
from mm_graft.registry import HOOKS


@HOOKS.register_module()
class LoadBackboneHook(Hook):
    """Load ``model.backbone`` before the first iteration; a resumed run is left alone.

    It is how every run of this package gets initial weights, under the name ``init``, so that a config is overridden by
    ``default_hooks.init.checkpoint=FILE``, or ``mm_graft train CONFIG --init FILE``::

        default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='mae_pretrain_vit_base.pth'))

    It reads the authors' and timm's layouts too; a tensor that is missing or left over is an error, and momentum
    encoders start as copies of what was loaded.

    Args:
        checkpoint: the file; None leaves the weights as they are initialized.
        branch: ``'base'``, or ``'momentum'`` for the momentum encoder or teacher of the file.
        layout: layout of the file; detected if None.
        projection: name of a linear layer of the model that takes the first projector layer's weight, such as
            ``'neck.layer'``; None loads the backbone alone.
        resize: interpolate position embeddings and tables of relative positions to the backbone's grid, which other
            image sizes need.
        prefix: what stands before the names of the encoder's model in the file; found if None.
        container: key of the file under which the state dict stands; found if None.
        grid: rows and columns of patches that the file's positions are for, where it does not say.
        channels: adapt the patch projection to the backbone's number of input channels, by timm's rule (summed for one
            channel, else repeated in a cycle and scaled).
        parts: names of further modules of the model, such as ``'head'``, which the file holds under the same names.
    """

    priority = 'VERY_HIGH'

    def __init__(self, checkpoint: str | None, branch: str = 'base', layout: str | None = None,
                 projection: str | None = None, resize: bool = False, parts: Sequence[str] = (),
                 prefix: str | None = None, container: str | None = None, grid: tuple[int, int] | None = None,
                 channels: bool = False) -> None:
        if branch not in FIRST_LAYERS:
            raise ValueError(f'branch={branch!r} is unknown; choose one of {list(FIRST_LAYERS)}')
        self.checkpoint, self.branch, self.layout, self.projection = checkpoint, branch, layout, projection
        self.resize, self.parts = resize, tuple(parts)
        self.place = {'prefix': prefix, 'container': container, 'grid': grid and tuple(grid),
                      'channels': channels}

    def before_train(self, runner: Runner) -> None:
        """Load, unless the run resumes."""
        if self.checkpoint is None or runner.iter > 0:
            return
        model = unwrap(runner.model)
        load_backbone(model.backbone, self.checkpoint, self.layout, self.branch, self.resize, **self.place)
        if self.projection is not None:
            self._load_projection(part_of(model, self.projection))
        for name in self.parts:
            load_part(part_of(model, name), name, self.checkpoint)
        if hasattr(model, 'start_momentum_encoders'):
            model.start_momentum_encoders()

    def _load_projection(self, layer: nn.Linear) -> None:
        weight = first_projection(read_checkpoint(self.checkpoint, self.place['container']), self.branch)
        if weight.shape != layer.weight.shape:
            raise CheckpointError(
                f'{self.checkpoint}: the first projector layer is {tuple(weight.shape)}, {self.projection} is '
                f'{tuple(layer.weight.shape)}; give the neck the same sizes')
        check_weights(self.checkpoint, {self.projection: weight}, {self.projection: layer.weight})
        layer.load_state_dict({'weight': weight}, strict=False)  # which also knows how to load into shards


def part_of(model: nn.Module, name: str) -> nn.Module:
    """A module of the algorithm by its path."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        parts = ', '.join(part for part, _ in model.named_children())
        raise ValueError(f'{type(model).__name__} has no part {name!r} to load; it has {parts}') from None


def load_part(module: nn.Module, name: str, checkpoint: str) -> None:
    """Load a part of the model from the same part of an MMEngine checkpoint; unused tensors are reported."""
    tensors = {key.removeprefix(f'{name}.'): tensor for key, tensor in read_checkpoint(checkpoint).items()
               if key.startswith(f'{name}.')}
    own = module.state_dict()
    if missing := [key for key in own if key not in tensors]:
        found = sorted({key.partition('.')[0] for key in tensors})
        raise CheckpointError(f'{checkpoint} has no {name}.{missing[0]} ({len(missing)} of {len(own)} tensors are '
                              f'missing; of {name} it has {found or "nothing"}); take the last checkpoint of a run of '
                              f'this algorithm, or leave {name!r} out of parts')
    if other := [key for key in own if own[key].shape != tensors[key].shape]:
        raise CheckpointError(f'{checkpoint}: {name}.{other[0]} is {tuple(tensors[other[0]].shape)}, in this model '
                              f'{tuple(own[other[0]].shape)}; give both runs the same sizes')
    chosen = {key: tensors[key] for key in own}
    check_weights(checkpoint, chosen, own)
    module.load_state_dict(chosen)
    if left := [key for key in tensors if key not in own]:
        print_log(f'{checkpoint}: {len(left)} tensors of {name} are not used here, such as {name}.{left[0]}',
                  logger='current')
