"""Weakly supervised pre-training: classify the hashtags of an image, starting from masked image modeling.

Singh et al. 2023 (arXiv 2303.13496): MAE first, without labels ("pre-pretraining"), then one pass over images whose
labels are noisy hashtags. The loss is that of :mod:`mm_graft.models.losses.tag_cross_entropy`.
"""

from mmpretrain.models.classifiers import ImageClassifier
from torch import Tensor

from mm_graft.models.losses.tag_cross_entropy import flatten_tags, tag_hits
from mm_graft.registry import MODELS


@MODELS.register_module()
class WeaklySupervised(ImageClassifier):
    """The host's classifier, for images with several tags, on an encoder of masked image modeling.

    ``mm_graft.LoadBackboneHook`` loads the encoder; from random weights it is the paper's baseline.

    Which layers learn how fast is set by the optimizer constructor, as in ``mm_graft.GraftedMoCoV3``; that
    is our question, not the paper's, which trains all layers alike.

    The rows of the last layer are embeddings of the tags: the score of a tag ranks images by it, and of tags that name
    classes the highest one classifies, with no label of that task ever seen.

    Args:
        backbone: a ViT, e.g. ``mm_graft.GraftViT``.
        head: a linear head of the host with ``loss=dict(type='mm_graft.TagCrossEntropyLoss')``; its ``num_classes`` are
            the labels of the data set.
        data_preprocessor: any, as for self-supervised methods; the host's classifiers take one that mixes images too.
    """

    def __init__(self, *args, data_preprocessor: dict | None = None, **kwargs) -> None:
        if data_preprocessor and not kwargs.get('train_cfg'):
            data_preprocessor = MODELS.build({'type': 'ClsDataPreprocessor', **data_preprocessor})
        super().__init__(*args, data_preprocessor=data_preprocessor, **kwargs)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Cross-entropy of images (B, 3, H, W) with the tags in their samples; the share of right tags is logged."""
        scores = self.head(self.extract_feat(inputs))  # (B, C)
        labels = [sample.gt_label for sample in data_samples]
        flat, rows, _ = flatten_tags(labels)
        return {'loss_tags': self.head.loss_module(scores, labels), 'acc_tags': tag_hits(scores, flat, rows)}
