"""kNN and few-shot regression against scikit-learn, to the last digit of accuracy, on 5,000 images.

CIFAR-10 in `data/cifar10` (class folders of JPEG files) is used where it is; synthetic images always.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from mm_graft.evaluation.fewshot import fewshot_logreg, preprocess_rows
from mm_graft.evaluation.knn import knn_accuracy

CIFAR = Path(__file__).parents[2] / 'data' / 'cifar10'


def synthetic_images() -> tuple[torch.Tensor, torch.Tensor]:
    """5,000 noisy 8×8 patterns of 10 classes, as rows."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5000) % 10
    patterns = torch.rand(10, 64, generator=generator)
    return (patterns[labels] + torch.randn(5000, 64, generator=generator)).double(), labels


def cifar_images() -> tuple[torch.Tensor, torch.Tensor]:
    """The first 500 test images of each class, 4×4, as rows."""
    import cv2
    if not (CIFAR / 'test').is_dir():
        pytest.skip('data/cifar10 is not there')
    rows, labels = [], []
    for label, folder in enumerate(sorted((CIFAR / 'test').iterdir())):
        for path in sorted(folder.iterdir())[:500]:
            small = cv2.resize(cv2.imread(str(path)), (4, 4), interpolation=cv2.INTER_AREA)
            rows.append(small.reshape(-1) / 255)
            labels.append(label)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(np.stack(rows))[order], torch.tensor(labels)[order]


@pytest.mark.parametrize('images', [synthetic_images, cifar_images])
def test_knn_accuracy_is_that_of_scikit_learn(images):
    rows, labels = images()
    train, test = slice(0, 4000), slice(4000, 5000)
    ours = knn_accuracy(rows[train], labels[train], rows[test], labels[test], (1, 20, 200), temperature=0.07)
    for k, accuracy in ours.items():
        reference = KNeighborsClassifier(
            k, metric='cosine', algorithm='brute', weights=lambda distance: np.exp((1 - distance) / 0.07))
        reference.fit(rows[train].numpy(), labels[train].numpy())
        assert accuracy == reference.score(rows[test].numpy(), labels[test].numpy())


@pytest.mark.parametrize('images', [synthetic_images, cifar_images])
def test_fewshot_accuracy_is_that_of_scikit_learn(images):
    rows, labels = images()
    train, test = slice(0, 4000), slice(4000, 5000)
    ours = fewshot_logreg(rows[train], labels[train], rows[test], labels[test])
    reference = LogisticRegression(C=4000, fit_intercept=False, solver='newton-cg', tol=1e-8, max_iter=500)
    reference.fit(preprocess_rows(rows[train]).numpy(), labels[train].numpy())
    assert ours.accuracy == reference.score(preprocess_rows(rows[test]).numpy(), labels[test].numpy())
