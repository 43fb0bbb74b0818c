import math

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models.losses.cross_entropy_loss import soft_cross_entropy

from mm_graft.models.losses.tag_cross_entropy import flatten_tags, tag_cross_entropy, tag_hits

TAGS = [torch.tensor([1]), torch.tensor([0, 3]), torch.tensor([4, 1, 2])]


def test_equal_scores_cost_the_logarithm_of_the_number_of_labels():
    loss = tag_cross_entropy(torch.zeros(3, 5), *flatten_tags(TAGS))
    assert loss.item() == pytest.approx(math.log(5))


def test_it_is_the_hosts_soft_cross_entropy_with_each_of_k_tags_one_kth():
    scores = torch.randn(3, 5, dtype=torch.double, requires_grad=True)
    target = torch.zeros(3, 5, dtype=torch.double)
    for row, tags in zip(target, TAGS):
        row[tags] = 1 / len(tags)
    ours, theirs = tag_cross_entropy(scores, *flatten_tags(TAGS)), soft_cross_entropy(scores, target)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, scores), torch.autograd.grad(theirs, scores))


def test_the_gradient_vanishes_where_the_prediction_is_the_target():
    scores = torch.tensor([[2.0, -1e3, 2.0]], requires_grad=True)
    tag_cross_entropy(scores, *flatten_tags([torch.tensor([0, 2])])).backward()
    assert scores.grad.abs().max() < 1e-6


def test_tags_in_another_order_are_the_same_tags():
    scores = torch.randn(1, 5)
    losses = {tag_cross_entropy(scores, *flatten_tags([torch.tensor(tags)])).item() for tags in ([0, 3], [3, 0])}
    assert len(losses) == 1


def test_hits_count_images_whose_best_label_is_one_of_their_tags():
    labels, rows, _ = flatten_tags(TAGS)
    scores = torch.tensor([[0., 5, 1, 2, 3], [3, 2, 1, 4, 0], [9, 1, 2, 3, 0]])  # best: 1, 3 and 0; worst: 0, 4 and 4
    assert tag_hits(scores, labels, rows).item() == pytest.approx(200 / 3)
    assert tag_hits(-scores, labels, rows).item() == pytest.approx(100 / 3)


def test_the_module_weighs_it_and_computes_in_single_precision():
    scores = 30 * torch.randn(3, 5)
    loss, double = (MODELS.build(dict(type='mm_graft.TagCrossEntropyLoss', loss_weight=w)) for w in (1.0, 2.0))
    torch.testing.assert_close(loss(scores, TAGS), tag_cross_entropy(scores, *flatten_tags(TAGS)))
    torch.testing.assert_close(double(scores, TAGS), 2 * loss(scores, TAGS))
    assert MODELS.build(dict(type='mm_graft.TagCrossEntropyLoss'))(scores, TAGS) == loss(scores, TAGS)
    with torch.autocast('cpu', torch.bfloat16):
        assert loss(scores.bfloat16(), TAGS).dtype == torch.float32
    assert loss(scores.double(), TAGS).dtype == torch.float64


def test_an_image_without_tags_is_refused():
    with pytest.raises(ValueError, match='image 1 of the batch has no tag'):
        flatten_tags([torch.tensor([0]), torch.tensor([], dtype=torch.long)])
