r"""A pull towards the weights that an encoder came from.

.. math:: L_\mathrm{anchor} = w \sum_{\mathrm{depth}(\theta) \le d} \lVert \theta - \theta_0 \rVert_p^p

p = 1 is what the authors' code computes (``VITA-Group/layerGraftedPretraining_ICLR23@f1862e1``: a plain sum of
absolute differences, w = 1e-5, d = 12, ViT-L). The paper's text (Jiang et al., ICLR 2023, §A.5) speaks of the l2
distance, p = 2, and gives no weight for it.
"""

import logging

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor

from mm_graft.checkpoints import backbone_tensors
from mm_graft.depth import depth_map, find_backbone, unwrap
from mm_graft.engine.hooks.load_backbone_hook import LoadBackboneHook
from mm_graft.extra_loss import add_loss
from mm_graft.host.tensor_lists import differences, norms
from mm_graft.registry import HOOKS
from mm_graft.sharding import FULLY_SHARD, local_shard, refuse_sharding, shard_like, sharding_of, sum_over_shards


def weight_distance(parameters: list[Tensor], anchors: list[Tensor], p: int) -> Tensor:
    """Sum of ``|θ − θ₀|^p`` over all elements, p = 1 or 2; no mean, no root, no ½."""
    distances = torch.stack(norms(differences(parameters, anchors), p))
    return distances.sum() if p == 1 else distances.square().sum()


@HOOKS.register_module()
class WeightAnchor(Hook):
    """Add ``loss_anchor`` to the losses of any algorithm, with nothing to subclass.

    It is a hook: ``custom_hooks=[dict(type='mm_graft.WeightAnchor')]``. The term joins what the algorithm
    returns, in the precision of the weights (:func:`mm_graft.extra_loss.add_loss`); a term that is just called ``loss``
    is logged as ``loss_task``, so that ``loss`` in the log is the total. Embeddings, class token, biases and norms
    count like any weight; frozen parameters are left out (they do not move). The anchor always comes from the
    file, also when a run is resumed, and is not saved. A new run that does not start at the anchor warns. It
    collects its parameters before ``FreezeOutHook`` freezes some, so the term goes on as before when a run is resumed.
    With ``mm_graft.FullyShardedRunner`` every process anchors its shards.

    Args:
        checkpoint: file with the weights to stay near to, in any layout that ``mm_graft.checkpoints`` knows; None: the
            initial weights, as ``mm_graft.LoadBackboneHook`` of the run loads them.
        weight: w.
        max_depth: d; stem and class token are 0, block i is i + 1, so 12 anchors the first twelve blocks.
        p: 1, the authors' code, or 2, the paper's text.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, checkpoint: str | None = None, weight: float = 1e-5, max_depth: int = 12, p: int = 1) -> None:
        if p not in (1, 2):
            raise ValueError(f'p must be 1 (as in the code) or 2 (as in the paper), got {p}')
        if not 0 <= weight < float('inf'):  # NaN too
            raise ValueError(f'weight={weight} of the anchor must be finite and not negative')
        self.checkpoint = checkpoint
        self.source = (checkpoint, )  # arguments of backbone_tensors
        self.weight = weight
        self.max_depth = max_depth
        self.p = p

    def before_train(self, runner: Runner) -> None:
        """Read the anchor and join the model's losses."""
        sharding = sharding_of(runner)
        self.in_shards = sharding == FULLY_SHARD
        refuse_sharding('WeightAnchor', None if self.in_shards else sharding)
        if self.checkpoint is None:
            self._read_init(runner)
        model = unwrap(runner.model)
        self.parameters, self.anchors = self.pairs(model)
        if runner.iter == 0:
            self._compare_start(model, self.parameters, self.anchors)
        self.term = add_loss(model, 'loss_anchor', self.loss)

    def loss(self) -> Tensor:
        """The term of this step."""
        distance = weight_distance([local_shard(parameter) for parameter in self.parameters], self.anchors, self.p)
        return self.weight * (sum_over_shards(distance) if self.in_shards else distance)

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self.term.remove()

    def _compare_start(self, model: torch.nn.Module, parameters: list[Tensor], anchors: list[Tensor]) -> None:
        apart = sum(not torch.equal(local_shard(parameter), anchor) for parameter, anchor in zip(parameters, anchors))
        if apart:
            print_log(f'WeightAnchor pulls towards {self.source[0]}, but {type(model).__name__} does not start there: '
                      f'{apart} of {len(anchors)} anchored tensors differ; leave out its checkpoint, which is that of '
                      'the initial weights then, unless this is meant', logger='current', level=logging.WARNING)

    def _read_init(self, runner: Runner) -> None:
        init = next((hook for hook in runner.hooks if isinstance(hook, LoadBackboneHook) and hook.checkpoint), None)
        if init is None:
            raise ValueError('WeightAnchor has no weights to stay near to; give the run initial weights '
                             '(default_hooks.init.checkpoint, or --init), or the anchor a checkpoint')
        self.source = (init.checkpoint, init.layout, init.branch, init.resize)

    def pairs(self, model: torch.nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """The anchored parameters of the backbone, and the weights to stay near to, on the same device.

        Of parameters in shards, the anchors are those of the piece of this process.
        """
        depths = depth_map(model)
        if not 0 <= self.max_depth <= depths.last:
            raise ValueError(f'max_depth={self.max_depth} is outside this model; choose 0 to {depths.last}')
        _, backbone = find_backbone(model)
        tensors, _ = backbone_tensors(backbone, *self.source)
        own = {name: parameter for name, parameter in backbone.named_parameters() if parameter.requires_grad
               and depths.depths[depths.prefix + name] <= self.max_depth}
        if not own:
            raise ValueError(f'no trained parameter has a depth ≤ {self.max_depth}; raise max_depth or drop the anchor')
        anchors = [local_shard(shard_like(tensors[name], parameter)) for name, parameter in own.items()]
        return list(own.values()), [anchor.to(local_shard(parameter.detach()))
                                    for anchor, parameter in zip(anchors, own.values())]
