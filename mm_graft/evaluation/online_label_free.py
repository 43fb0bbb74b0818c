"""Label-free measures of an encoder in training, on some of the images that it is trained on."""

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mm_graft.encoders import Encoder, normalization_of
from mm_graft.equations import evenly_spaced
from mm_graft.evaluation.datasets import build_dataset, training_set_config
from mm_graft.evaluation.features import encode, evaluating
from mm_graft.evaluation.label_free import label_free_measures
from mm_graft.evaluation.reading import read_images
from mm_graft.registry import METRICS


@METRICS.register_module()
class LabelFreeProbe:
    """RankMe, LiDAR and α-ReQ, see :mod:`mm_graft.evaluation.label_free`; for ``mm_graft.OnlineKNNHook``.

    The images are read once, as an evaluation sees them, and kept. Every process measures the same.

    Args:
        cfg: a config with training data and ``model.data_preprocessor``.
        images: at most so many, evenly spread over the training set; unreadable ones are left out.
        pool: ``'cls'`` or ``'avg'``.
    """

    def __init__(self, cfg: Config, images: int = 200, pool: str = 'cls') -> None:
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        dataset = build_dataset(training_set_config(cfg))
        rows = evenly_spaced(len(dataset), images).tolist()
        self.normalization, self.pool = normalization_of(cfg), pool
        found = [image for batch in read_images(dataset, rows, 32, 0) for image in batch.inputs]
        if len(found) < 2:
            raise ValueError(f'{len(found)} of {len(rows)} images can be read; the measures need at least 2')
        pixels = torch.stack(found)
        self.pixels = pixels.flip(1) if self.normalization['to_rgb'] else pixels  # (N, C, H, W), RGB

    def evaluate(self, backbone: nn.Module) -> dict[str, float]:
        """The measures, by name. The encoder keeps its mode."""
        encoder = Encoder(backbone, **self.normalization).to(next(backbone.parameters()).device)
        with evaluating(backbone):
            return label_free_measures(
                lambda pixels: encode(backbone, encoder.normalize(pixels), self.pool), self.pixels)
