import math

import pytest
import torch
from mmpretrain.registry import MODELS

from mm_graft.models.losses.denoising_contrast import (
    DenoisingContrastLoss,
    FilteredContrastLoss,
    batch_dictionary_contrast,
    denoising_contrast,
    filtered_contrast,
    instance_contrast,
    masked_mean,
    patch_accuracy,
    patch_logits,
)
from tests.defaults import defaults

NAMES = ('DenoisingContrastLoss', 'BatchDictionaryContrastLoss', 'FilteredContrastLoss', 'InstanceContrastLoss')


@pytest.fixture
def maps():
    n = torch.arange(24, dtype=torch.float64)
    query, key = ((n * s + s).sin().view(2, 4, 3) for s in (0.7, 1.3))
    return query, key, torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1]]).bool()


def by_loop(query, key, mask, temperature):
    terms = []
    for b, j in mask.nonzero().tolist():
        cosines = [torch.cosine_similarity(query[b, j], key[b, i], dim=0).item() / temperature for i in range(4)]
        terms.append(math.log(sum(map(math.exp, cosines))) - cosines[j])
    return sum(terms) / len(terms)


def test_loss_is_the_mean_over_hidden_tokens_and_not_over_images(maps):
    loss = denoising_contrast(*maps, 0.1)
    assert loss.item() == pytest.approx(5.604973, abs=1e-6)
    assert loss.item() == pytest.approx(by_loop(*maps, 0.1), abs=1e-9)
    images = [denoising_contrast(*(x[b:b + 1] for x in maps), 0.1).item() for b in range(2)]
    assert sum(images) / 2 == pytest.approx(5.421280, abs=5e-6)


def test_loss_ignores_scale_and_visible_queries_but_not_visible_keys(maps):
    query, key, mask = maps
    loss = denoising_contrast(query, key, mask)
    torch.testing.assert_close(denoising_contrast(3 * query, 0.2 * key, mask), loss)
    visible = (~mask).unsqueeze(-1)
    torch.testing.assert_close(denoising_contrast(query + visible * 5, key, mask), loss)
    assert not torch.isclose(denoising_contrast(query, key + visible * 5, mask), loss)


def test_only_hidden_queries_receive_a_gradient(maps):
    query, key, mask = maps
    query.requires_grad_()
    key.requires_grad_()
    denoising_contrast(query, key, mask).backward()
    assert key.grad is None
    assert (query.grad.norm(dim=-1) > 0).equal(mask)


@pytest.mark.parametrize('name', NAMES)
def test_every_loss_is_zero_without_hidden_patches(maps, name):
    query, key, mask = maps
    query.requires_grad_()
    loss = MODELS.build({'type': f'mm_graft.{name}'})(query, key, torch.zeros_like(mask))['loss_contrast']
    loss.backward()
    assert loss.item() == 0
    assert (query.grad == 0).all()


@pytest.mark.parametrize('name', NAMES)
def test_keys_carry_no_gradient(maps, name):
    query, key, mask = (x.requires_grad_() if x.is_floating_point() else x for x in maps)
    MODELS.build({'type': f'mm_graft.{name}'})(query, key, mask)['loss_contrast'].backward()
    assert key.grad is None
    assert query.grad.abs().sum() > 0


@pytest.mark.parametrize('name', NAMES)
def test_exchanging_query_and_key_or_mask_and_complement_changes_every_loss(maps, name):
    query, key, mask = maps
    loss = MODELS.build({'type': f'mm_graft.{name}'})
    value = loss(query, key, mask)['loss_contrast']
    assert not torch.isclose(loss(key, query, mask)['loss_contrast'], value)
    assert not torch.isclose(loss(query, key, ~mask)['loss_contrast'], value)


@pytest.mark.parametrize('name', NAMES)
def test_autocast_changes_no_loss(maps, name):
    query, key, mask = (x.float() if x.is_floating_point() else x for x in maps)
    loss = MODELS.build({'type': f'mm_graft.{name}'})
    value = loss(query, key, mask)
    with torch.autocast('cpu', torch.bfloat16):
        assert loss(query, key, mask) == value


@pytest.mark.parametrize('name', NAMES)
def test_every_loss_feels_its_temperature_and_refuses_one_that_is_not_positive(maps, name):
    cold, warm = (MODELS.build({'type': f'mm_graft.{name}', 'temperature': t})(*maps)['loss_contrast']
                  for t in (0.1, 0.5))
    assert not torch.isclose(cold, warm)
    with pytest.raises(ValueError, match='positive'):
        MODELS.build({'type': f'mm_graft.{name}', 'temperature': 0})



def test_each_registered_loss_is_its_equation_and_logs_the_accuracy_of_patches(maps):
    equations = {'DenoisingContrastLoss': denoising_contrast, 'BatchDictionaryContrastLoss': batch_dictionary_contrast,
                 'FilteredContrastLoss': filtered_contrast, 'InstanceContrastLoss': instance_contrast}
    for name, equation in equations.items():
        default = MODELS.build({'type': f'mm_graft.{name}'})(*maps)['loss_contrast']
        assert default == equation(*maps) == equation(*maps, temperature=0.1)
        terms = MODELS.build({'type': f'mm_graft.{name}', 'temperature': 0.2})(*maps)
        assert terms == {'loss_contrast': equation(*maps, 0.2), 'acc_patch': patch_accuracy(*maps)}
    query, key, mask = maps
    terms = FilteredContrastLoss(0.2, max_similarity=0.5)(*maps)
    assert terms['loss_contrast'] == filtered_contrast(query, key, mask, 0.2, max_similarity=0.5)


def test_half_precision_tokens_are_compared_in_full_precision(maps):
    query, key, mask = maps
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = denoising_contrast(query.bfloat16(), key.bfloat16(), mask)
    assert loss.dtype == torch.float32
    expected = denoising_contrast(query.bfloat16().double(), key.bfloat16().double(), mask)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


def test_the_batch_dictionary_holds_the_patches_of_all_images(maps):
    query, key, mask = maps
    alone = batch_dictionary_contrast(query[:1], key[:1], mask[:1])
    torch.testing.assert_close(alone, denoising_contrast(query[:1], key[:1], mask[:1]))
    logits = patch_logits(query.flatten(0, 1)[None], key.flatten(0, 1)[None], 0.1)[0]
    own = torch.nn.functional.cross_entropy(logits, torch.arange(8), reduction='none')
    torch.testing.assert_close(batch_dictionary_contrast(query, key, mask), own[mask.flatten()].mean())


def test_filtering_drops_negatives_like_the_anchor_and_keeps_the_anchor():
    key = torch.tensor([[[1.0, 0], [1, 0.01], [0, 1]]])
    query = torch.tensor([[[0.3, 0.9], [0.5, 0.2], [0.1, 0.7]]])
    mask = torch.tensor([[True, False, False]])
    kept = denoising_contrast(query[:, :1].expand(1, 2, 2), key[:, [0, 2]], mask[:, :2])
    torch.testing.assert_close(filtered_contrast(query, key, mask, max_similarity=0.9), kept)
    torch.testing.assert_close(filtered_contrast(query, key, mask, max_similarity=1.0),
                               denoising_contrast(query, key, mask))
    with pytest.raises(ValueError, match='cosine'):
        FilteredContrastLoss(max_similarity=1.5)
    with pytest.raises(ValueError, match='cosine'):
        FilteredContrastLoss(max_similarity=-1)
    FilteredContrastLoss(max_similarity=1)


def test_keys_of_a_similarity_above_nine_tenths_are_filtered_by_default():
    angles = torch.tensor([0.895, 0.905, 1.0]).acos()
    key = torch.stack([angles.cos(), angles.sin()], dim=1)[None]
    query, mask = torch.tensor([[[0.1, 0.7], [0.5, 0.2], [0.3, 0.9]]]), torch.tensor([[False, False, True]])
    by_hand = denoising_contrast(query[:, [0, 2]], key[:, [0, 2]], mask[:, [0, 2]])
    torch.testing.assert_close(filtered_contrast(query, key, mask), by_hand)
    torch.testing.assert_close(FilteredContrastLoss()(query, key, mask)['loss_contrast'], by_hand)


def test_what_is_filtered_is_decided_in_full_precision():
    angle = math.acos(0.9005)  # 0.8984 in bfloat16
    key = torch.tensor([[[1.0, 0], [math.cos(angle), math.sin(angle)], [0, 1]]])
    query, mask = torch.tensor([[[0.3, 0.9], [0.5, 0.2], [0.1, 0.7]]]), torch.tensor([[True, False, False]])
    filtered = filtered_contrast(query, key, mask)
    assert not torch.isclose(filtered, denoising_contrast(query, key, mask))
    with torch.autocast('cpu', torch.bfloat16):
        assert filtered_contrast(query, key, mask) == filtered


def test_instance_contrast_compares_mean_tokens_of_images(maps):
    query, key, mask = maps
    everything = torch.ones_like(mask)
    logits = torch.cosine_similarity(query.mean(1)[:, None], key.mean(1)[None], dim=-1) / 0.1
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(2))
    torch.testing.assert_close(instance_contrast(query, key, everything), expected)
    means = torch.stack([image[hidden].mean(0) for image, hidden in zip(query, mask)])
    logits = torch.cosine_similarity(means[:, None], key.mean(1)[None], dim=-1) / 0.1
    torch.testing.assert_close(instance_contrast(query, key, mask),
                               torch.nn.functional.cross_entropy(logits, torch.arange(2)))
    first = mask & torch.tensor([[True], [False]])  # the second image is a key, and no query
    torch.testing.assert_close(instance_contrast(query, key, first),
                               torch.nn.functional.cross_entropy(logits[:1], torch.tensor([0])))


def test_accuracy_counts_queries_that_find_their_own_patch(maps):
    _, key, mask = maps
    assert patch_accuracy(key, key, mask) == 1
    assert patch_accuracy(key.roll(1, 1), key, mask) == 0
    keys = torch.eye(4)[None]
    queries = torch.tensor([[[2., 1, 0, 0], [3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 2, 1]]])  # nearest keys: 0, 0, 2, 2
    asked = torch.tensor([[1, 1, 1, 0]]).bool()
    assert patch_accuracy(queries, keys, asked) == pytest.approx(2 / 3)
    assert patch_accuracy(keys, queries, asked) == pytest.approx(1 / 3)
    for name in NAMES:
        terms = MODELS.build({'type': f'mm_graft.{name}'})(queries, keys, asked)
        assert terms['acc_patch'] == pytest.approx(2 / 3)


def test_masked_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)) == 0


def test_the_temperature_is_the_papers_and_so_is_the_bound_of_the_filter():
    for loss in (denoising_contrast, batch_dictionary_contrast, instance_contrast, DenoisingContrastLoss):
        assert defaults(loss) == {'temperature': 0.1}
    for loss in (filtered_contrast, FilteredContrastLoss):
        assert defaults(loss) == {'temperature': 0.1, 'max_similarity': 0.9}


def test_a_key_exactly_as_similar_as_the_bound_stays_a_negative():
    query, key, mask = torch.rand(1, 3, 3), torch.eye(3)[None], torch.ones(1, 3).bool()  # cosines of 0 between keys
    torch.testing.assert_close(filtered_contrast(query, key, mask, max_similarity=0.0),
                               denoising_contrast(query, key, mask))
