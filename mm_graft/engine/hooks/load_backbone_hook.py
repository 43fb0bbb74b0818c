"""Start fine-tuning from a checkpoint of any known layout, completely or not at all."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mm_graft.checkpoints import CheckpointError, load_backbone, read_checkpoint
from mm_graft.checkpoints.projector import FIRST_LAYERS, first_projection
from mm_graft.depth import unwrap
from mm_graft.registry import HOOKS


@HOOKS.register_module()
class LoadBackboneHook(Hook):
    """Load ``model.backbone`` before the first iteration; a resumed run is left alone.

    Unlike ``init_cfg=dict(type='Pretrained')`` it reads the authors' and timm's layouts too, and a tensor that is
    missing or left over is an error. A momentum encoder of this package's algorithms starts as a copy then.

    Args:
        checkpoint: the file.
        branch: ``'base'``, or ``'momentum'`` for the slowly moving encoder of a contrastive checkpoint.
        layout: layout of the file; detected if None.
        projection: name of a linear layer of the model that takes the first projector layer's weight, such as
            ``'neck.layer'``; None loads the backbone alone.
        resize: interpolate position embeddings and tables of relative positions to the backbone's grid, which other
            image sizes need.
        prefix: what stands before the names of the encoder's model in the file; found if None.
        container: key of the file under which the state dict stands; found if None.
        grid: rows and columns of patches that the file's positions are for, where it does not say.

    Raises:
        CheckpointError: before training, if the checkpoint does not fit.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self, checkpoint: str, branch: str = 'base', layout: str | None = None, projection: str | None = None,
        resize: bool = False, prefix: str | None = None, container: str | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        if branch not in FIRST_LAYERS:
            raise ValueError(f'branch={branch!r} is unknown; choose one of {list(FIRST_LAYERS)}')
        self.checkpoint, self.branch, self.layout, self.projection = checkpoint, branch, layout, projection
        self.resize = resize
        self.place = {'prefix': prefix, 'container': container, 'grid': grid and tuple(grid)}

    def before_train(self, runner: Runner) -> None:
        """Load, unless the run goes on from a checkpoint of its own."""
        if runner.iter > 0:
            return
        model = unwrap(runner.model)
        load_backbone(model.backbone, self.checkpoint, self.layout, self.branch, self.resize, **self.place)
        if self.projection is not None:
            self._load_projection(model.get_submodule(self.projection))
        if hasattr(model, 'start_momentum_encoders'):
            model.start_momentum_encoders()

    def _load_projection(self, layer: nn.Linear) -> None:
        weight = first_projection(read_checkpoint(self.checkpoint, self.place['container']), self.branch)
        if weight.shape != layer.weight.shape:
            raise CheckpointError(
                f'{self.checkpoint}: the first projector layer is {tuple(weight.shape)}, {self.projection} is '
                f'{tuple(layer.weight.shape)}; give the neck the same sizes')
        layer.load_state_dict({'weight': weight}, strict=False)  # which also knows how to load into shards
