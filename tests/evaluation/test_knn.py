import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.utils._python_dispatch import TorchDispatchMode

from mm_graft.evaluation.knn import BLOCK_ELEMENTS, knn_accuracy, knn_predict, standardized
from tests.defaults import defaults


def clouds(count, classes=5, dims=12, spread=1.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, dims, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (count,), generator=generator)
    return (centers[labels] + spread * torch.randn(count, dims, generator=generator)).double(), labels


def predict(train, labels, test, ks, temperature=0.07, **options):
    return knn_predict(train, labels, test, ks, temperature, int(labels.max()) + 1, **options)


def test_votes_are_the_ones_counted_by_hand():
    # Cosines of the test row with the bank: 1, 0.8, 0.8, 0. k=1 says class 0; with τ = 1, e¹ = 2.718 for class 0
    # stands against 2 e^0.8 = 4.451 for class 1; with τ = 0.1, e^10 = 22026 against 2 e^8 = 5962.
    bank = torch.tensor([[2.0, 0.0], [0.8, 0.6], [0.4, -0.3], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1, 2])
    test = torch.tensor([[5.0, 0.0]])
    assert predict(bank, labels, test, (1, 3), 1.0)[1].item() == 0
    assert predict(bank, labels, test, (1, 3), 1.0)[3].item() == 1
    assert predict(bank, labels, test, (3, ), 0.1)[3].item() == 0
    # a third neighbor decides between k = 2 and k = 3, and the fourth, of class 2, would not at k = 4
    assert predict(bank, labels, test, (2, 3), 1.0)[2].item() == 0
    assert predict(bank, labels, test, (4, ), 1.0)[4].item() == 1


def test_among_equal_scores_the_lowest_class_wins():
    bank = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert predict(bank, torch.tensor([1, 0]), torch.tensor([[0.0, 2.0]]), (2, ))[2].item() == 0


@pytest.mark.parametrize('temperature', [0.07, 1.0])
def test_predictions_equal_those_of_scikit_learn(temperature):
    (train, labels), (test, test_labels) = clouds(300), clouds(200, seed=1)
    for k, predicted in predict(train, labels, test, (1, 7, 40), temperature).items():
        reference = KNeighborsClassifier(
            k, metric='cosine', algorithm='brute', weights=lambda d: np.exp((1 - d) / temperature))
        reference.fit(train.numpy(), labels.numpy())
        assert (predicted.numpy() == reference.predict(test.numpy())).all()
        accuracy = knn_accuracy(train, labels, test, test_labels, (k,), temperature)[k]
        assert accuracy == reference.score(test.numpy(), test_labels.numpy())


def test_result_does_not_depend_on_blocks_scale_or_company_of_other_k():
    (train, labels), (test, _) = clouds(100), clouds(50, seed=1)
    whole = predict(train, labels, test, (3, 20))
    for other in (predict(train, labels, test, (3, 20), block_elements=700),
                  predict(train, labels, test, (3, 20), block_elements=1), predict(train, labels, test, (20, 3)),
                  predict(9 * train, labels, test * torch.rand(50, 1).add(0.1), (3, 20))):
        assert all((whole[k] == other[k]).all() for k in whole)
    assert (predict(train, labels, test, (3,))[3] == whole[3]).all()


class Largest(TorchDispatchMode):
    """Keeps the elements of the largest result beside the bank of features and its views."""

    def __init__(self, bank):
        super().__init__()
        self.bank, self.found = bank, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple) else [results]:
            if isinstance(result, torch.Tensor) and result.numel() not in (self.bank.numel(), len(self.bank)):
                self.found = max(self.found, result.numel())
        return results


@pytest.mark.parametrize(('bank', 'queries', 'block'), [(1000, 200, 5000), (1000, 200, 4999), (1000, 2, 5000)])
def test_similarities_alive_at_once_are_those_of_a_block(bank, queries, block):
    features = torch.randn(bank, 3)
    with Largest(features) as largest:
        predict(features, torch.arange(bank) % 5, torch.randn(queries, 3), (10,), block_elements=block)
    assert largest.found == bank * min(queries, block // bank)


def test_all_of_imagenet_takes_half_a_gigabyte_beside_its_features():
    train, test = torch.empty(1281167, 768, device='meta'), torch.empty(50000, 768, device='meta')
    with Largest(train) as largest:
        found = knn_predict(train, train.new_empty(len(train), dtype=torch.long), test, (20, 200), 0.07, 1000)
    assert {k: votes.shape for k, votes in found.items()} == {20: (50000,), 200: (50000,)}
    assert largest.found == 104 * len(train)  # similarities of 104 images, of which 105 would be too many
    assert 104 * len(train) <= BLOCK_ELEMENTS == 2**29 / 4 < 105 * len(train)


def test_with_a_small_temperature_the_nearest_decides_and_nothing_overflows():
    (train, labels), (test, _) = clouds(100), clouds(50, seed=1)
    predicted = predict(train.float(), labels, test.float(), (1, 50), temperature=1e-3)
    assert (predicted[1] == predicted[50]).float().mean() > 0.9


def test_every_default_is_the_papers():
    (train, labels), (test, test_labels) = clouds(300), clouds(200, seed=1)
    assert knn_accuracy(train, labels, test, test_labels) == knn_accuracy(
        train, labels, test, test_labels, (10, 20, 100, 200), 0.07, 5)


@pytest.mark.parametrize(('change', 'word'), [
    ({'ks': (101,)}, 'ks='), ({'ks': (0,)}, 'ks='), ({'ks': ()}, 'ks='), ({'temperature': 0.0}, 'temperature'),
    ({'temperature': -1.0}, 'temperature'), ({'num_classes': 3}, 'num_classes')])
def test_impossible_settings_name_the_value(change, word):
    (train, labels), (test, test_labels) = clouds(100), clouds(5)
    assert knn_accuracy(train, labels, test, test_labels, ks=(100, 1)).keys() == {100, 1}
    with pytest.raises(ValueError, match=word):
        knn_accuracy(train, labels, test, test_labels, **{'ks': (5,), **change})


def test_standardized_features_have_the_mean_and_deviation_of_the_training_images():
    train, test = torch.tensor([[1.0, 10], [3, 30]]), torch.tensor([[2.0, 40]])
    ours, others = standardized(train, test)
    torch.testing.assert_close(ours, torch.tensor([[-1.0, -1], [1, 1]]) / 2**0.5, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(others, torch.tensor([[0, 2 / 2**0.5]]), rtol=1e-5, atol=1e-5)
    assert {part.dtype for part in standardized(train.half(), test.double())} == {torch.float32}


def test_neighbors_and_temperature_are_dinos():
    assert defaults(knn_accuracy) == {'ks': (10, 20, 100, 200), 'temperature': 0.07, 'num_classes': None}
