"""One real training step of a config on random images: preprocessing, forward, backward, optimizer, EMA."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.model import BaseAveragedModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from benchmarks.batch import image_channels, image_size, pair, random_batch
from benchmarks.clock import PhaseClock
from mm_graft.host.first_weights import initialize
from mm_graft.nested import nodes

PHASES = ('preprocess', 'forward', 'backward', 'optimizer', 'ema')


class TrainingStep:
    """Model, optimizer and a batch of random images of a config, ready to step.

    Weights are as initialized: checkpoints that the config names are not read.

    Args:
        cfg: a training config.
        batch_size: images a step; the config's if None.
        img_size: side of the images, if not the config's; sizes of the model that depend on it follow.
        device: where to run.
    """

    def __init__(self, cfg: Config, batch_size: int | None = None, img_size: int | None = None,
                 device: torch.device | str = 'cpu') -> None:
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        MessageHub.get_current_instance().update_info('max_iters', 10**6)  # what moving averages ask for
        self.cfg = cfg
        self.device = torch.device(device)
        self.batch_size = batch_size or cfg.train_dataloader.batch_size
        self.size = pair(img_size) if img_size else image_size(cfg)
        self.model = build_model(cfg, img_size).to(self.device)
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.model.train()  # after the optimizer's constructor, which may freeze
        self.batch = self.images(self.batch_size)

    def images(self, count: int) -> dict:
        """Random images in the form of the config's batches, in memory from which a GPU copies fast."""
        batch = random_batch(self.cfg, count, self.size, image_channels(self.model.backbone))
        if self.device.type != 'cuda':
            return batch
        views = batch['inputs']
        pinned = [view.pin_memory() for view in views] if isinstance(views, list) else views.pin_memory()
        return {**batch, 'inputs': pinned}

    def loss(self, batch: dict, clock: PhaseClock | None = None) -> Tensor:
        """Total loss of a batch, under the optimizer wrapper's context."""
        clock = clock or PhaseClock()
        with self.optim_wrapper.optim_context(self.model):
            with clock.phase('preprocess'):
                data = self.model.data_preprocessor(batch, True)
            with clock.phase('forward'):
                losses = self.model._run_forward(data, mode='loss')
                return self.model.parse_losses(losses)[0]

    def loss_of(self, count: int) -> Tensor:
        """Loss of ``count`` random images."""
        return self.loss(self.images(count))

    def step(self, clock: PhaseClock) -> None:
        """What the train loop does for one batch."""
        with clock.phase('other'):
            loss = self.optim_wrapper.scale_loss(self.loss(self.batch, clock))
            with clock.phase('backward'):
                self.optim_wrapper.backward(loss)
            if self.optim_wrapper.should_update():
                with clock.phase('optimizer'):
                    with self.averages_timed(clock):
                        self.optim_wrapper.step()
                    self.optim_wrapper.zero_grad()

    @contextmanager
    def averages_timed(self, clock: PhaseClock) -> Iterator[None]:
        """Around the optimizer's step: what follows its own kernels is the phase ``ema``.

        PyTorch calls the hooks of one optimizer before those of all optimizers, which move momentum encoders.
        """
        averages = any(isinstance(module, BaseAveragedModel) for module in self.model.modules())
        with ExitStack() as ema:
            def end_of_kernels(*_: object) -> None:
                if averages:
                    ema.enter_context(clock.phase('ema'))

            handle = self.optim_wrapper.optimizer.register_step_post_hook(end_of_kernels)
            ema.callback(handle.remove)
            yield

    @property
    def compute_dtype(self) -> torch.dtype:
        """Type in which the step's matrix products are computed."""
        one = torch.ones(1, 1, device=self.device)
        with self.optim_wrapper.optim_context(self.model):
            return (one @ one).dtype


def build_model(cfg: Config, img_size: int | None = None) -> nn.Module:
    """The config's model with initial weights, without reading any file."""
    model = without_files(resize(cfg.model.to_dict(), img_size) if img_size else cfg.model.to_dict())
    if cfg.get('data_preprocessor') and not model.get('data_preprocessor'):
        model['data_preprocessor'] = cfg.data_preprocessor.to_dict()
    built = MODELS.build(ConfigDict(model))
    initialize(built)
    return built


def without_files(model: dict) -> dict:
    """A model's config, changed in place, without checkpoints to load."""
    for part in [node for _, node in nodes(model) if isinstance(node, dict)]:
        for key, value in part.items():
            if key == 'checkpoint' or (isinstance(value, dict) and value.get('type') == 'Pretrained'):
                part[key] = None
    return model


def resize(model: dict, size: int) -> dict:
    """A model's config, changed in place, for images of another side: ``img_size``, what counts patches (``grid``, …).

    Raises:
        ValueError: the backbone takes no image size, or its patches do not divide the new one.
    """
    backbone = model['backbone']
    if 'img_size' not in backbone and 'arch' not in backbone:
        raise ValueError(f'{backbone["type"]} takes no image size; leave out --img-size')
    patch = backbone.get('patch_size', 16)
    if size % patch:
        raise ValueError(f'patches of {patch} pixels do not divide images of {size}; choose a multiple')
    side = size // patch
    values = {'img_size': size, 'num_patches': side**2, 'grid': side, 'grids': side}
    backbone.setdefault('img_size', size)
    for part in [node for _, node in nodes(model) if isinstance(node, dict)]:
        part.update({key: value for key, value in values.items() if key in part})
    return model
