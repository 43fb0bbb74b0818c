import math

import pytest
import torch
from torch import distributed

from mm_graft.models.losses.self_distillation import (
    Centering,
    SinkhornKnopp,
    centered_softmax,
    class_cross_entropy,
    mean_over_processes,
    patch_cross_entropy,
    sinkhorn_knopp,
)
from mm_graft.process_group import leave_group
from tests.defaults import defaults
from tests.own_process import in_processes


def one_hot(*classes, count=4):
    return torch.nn.functional.one_hot(torch.tensor(classes), count).float()


def test_class_loss_by_hand_takes_every_pair_of_different_views():
    student = torch.log(torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]], [[0.1, 0.9]]]))  # three views of one image
    targets = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    # teacher 0 with views 1 and 2, teacher 1 with views 0 and 2
    expected = -(math.log(0.25) + math.log(0.1) + math.log(0.5) + math.log(0.9)) / 4
    assert class_cross_entropy(student, targets, 1.0).item() == pytest.approx(expected, rel=1e-6)
    assert class_cross_entropy(student, targets.flip(0), 1.0).item() != pytest.approx(expected, rel=1e-2)
    assert class_cross_entropy(student[[1, 0, 2]], targets, 1.0).item() != pytest.approx(expected, rel=1e-2)
    assert class_cross_entropy(student, targets, 0.5).item() != pytest.approx(expected, rel=1e-2)


def test_losses_are_of_scores_and_not_of_logarithms_of_probabilities():
    """Scores may be shifted row by row; of two images the mean counts."""
    student, targets = torch.randn(3, 2, 5), torch.randn(2, 2, 5).softmax(-1)
    shift = torch.randn(3, 2, 1)
    loss = class_cross_entropy(student, targets, 0.3)
    torch.testing.assert_close(class_cross_entropy(student + shift, targets, 0.3), loss)
    images = [class_cross_entropy(student[:, [index]], targets[:, [index]], 0.3) for index in (0, 1)]
    torch.testing.assert_close(loss, sum(images) / 2)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    patches = patch_cross_entropy(student[:, 0], targets[:1, 0].expand(3, 5), mask, 0.3)
    torch.testing.assert_close(patch_cross_entropy(student[:, 0] + shift[:, 0], targets[:1, 0].expand(3, 5), mask, 0.3),
                               patches)


def test_a_view_gets_no_gradient_from_its_own_target():
    student = torch.randn(3, 2, 5, requires_grad=True)
    targets = torch.randn(1, 2, 5).softmax(-1)
    class_cross_entropy(student, targets, 0.1).backward()
    assert not student.grad[0].any()
    assert student.grad[1:].flatten(1).any(1).all()


def test_patch_loss_by_hand_is_a_mean_of_images_and_not_of_patches():
    mask = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    student = torch.log(torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]))
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    expected = -((math.log(0.5) + math.log(0.75)) / 2 + 0 + math.log(0.1)) / 3
    assert patch_cross_entropy(student, targets, mask, 1.0).item() == pytest.approx(expected, rel=1e-6)
    assert patch_cross_entropy(student.flip(0), targets, mask, 1.0).item() != pytest.approx(expected, rel=1e-2)
    assert patch_cross_entropy(student, targets, mask, 2.0).item() != pytest.approx(expected, rel=1e-2)


def test_without_hidden_patches_the_patch_loss_is_zero_and_can_be_differentiated():
    student = torch.zeros(0, 4, requires_grad=True)
    loss = patch_cross_entropy(student, torch.zeros(0, 4), torch.zeros(2, 3, dtype=torch.bool), 0.1)
    loss.backward()
    assert loss.item() == 0


def test_center_and_temperature_of_the_targets_by_hand():
    scores, center = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([0.0, -math.log(3.0)])
    torch.testing.assert_close(centered_softmax(scores, torch.zeros(2), 1.0), torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(centered_softmax(scores, center, 1.0), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(centered_softmax(scores, torch.zeros(2), 0.5), torch.tensor([[0.9, 0.1]]))


def test_the_center_moves_after_the_targets_in_training_alone_and_is_saved():
    module = Centering(3, momentum=0.75)
    scores = torch.randn(5, 3)
    torch.testing.assert_close(module(scores, 0.1), (scores / 0.1).softmax(1))
    torch.testing.assert_close(module.center, scores.mean(0) / 4)
    before = module.center.clone()
    torch.testing.assert_close(module.eval()(scores, 0.1), ((scores - before) / 0.1).softmax(1))
    assert torch.equal(module.center, before)
    other = Centering(3)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.center, before)


def test_a_batch_without_hidden_patches_leaves_the_center():
    module = Centering(3)
    module(torch.randn(5, 3), 0.1)
    before = module.center.clone()
    assert module(torch.zeros(0, 3), 0.1).shape == (0, 3)
    assert torch.equal(module.center, before)


def test_targets_are_in_single_precision_and_without_gradient():
    scores = torch.randn(4, 3, requires_grad=True)
    for module in (Centering(3), SinkhornKnopp(3)):
        assert module(scores.bfloat16(), 0.1).dtype == torch.float32
        assert not module(scores, 0.1).requires_grad


def test_sinkhorn_knopp_uses_prototypes_alike_and_gives_distributions():
    scores = torch.randn(64, 8).double() + torch.arange(8.0)  # one prototype is everybody's favorite
    plain = (scores / 0.5).softmax(1)
    balanced = sinkhorn_knopp(scores, 0.5, iterations=50)
    torch.testing.assert_close(balanced.sum(1), torch.ones(64).double())
    torch.testing.assert_close(balanced.sum(0), torch.full((8, ), 8.0).double(), rtol=1e-3, atol=1e-3)
    assert plain.sum(0).max() > 24
    assert not torch.allclose(sinkhorn_knopp(scores, 0.5, 1), sinkhorn_knopp(scores, 0.5, 3))
    torch.testing.assert_close(SinkhornKnopp(8, iterations=2)(scores, 0.5), sinkhorn_knopp(scores, 0.5, 2))


def test_sinkhorn_knopp_does_not_overflow():
    targets = sinkhorn_knopp(torch.tensor([[1e3, -1e3], [-1e3, 1e3], [900.0, 950.0]]), 0.01)
    torch.testing.assert_close(targets.sum(1), torch.ones(3))


def worker(rank, folder, rows):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    part = torch.load(f'{folder}/scores.pth').split(rows)[rank]
    center = Centering(4, momentum=0.5)
    center(part, 0.1)
    torch.save({'balanced': sinkhorn_knopp(part, 0.1), 'center': center.center, 'mean': mean_over_processes(part)},
               f'{folder}/{rank}.pth')
    leave_group()


@pytest.mark.parametrize('rows', [[4, 2], [0, 6]])
def test_two_processes_are_one_batch_even_if_one_has_nothing(tmp_path, rows):
    scores = torch.randn(6, 4)
    torch.save(scores, tmp_path / 'scores.pth')
    in_processes(worker, str(tmp_path), rows, processes=2)
    results = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    torch.testing.assert_close(torch.cat([result['balanced'] for result in results]), sinkhorn_knopp(scores, 0.1))
    for result in results:
        torch.testing.assert_close(result['center'], scores.mean(0) / 2)
        assert result['mean'][1] == 6


def test_bad_settings_are_refused():
    for momentum in (-0.1, 1.5):
        with pytest.raises(ValueError, match='the share that the center keeps'):
            Centering(3, momentum=momentum)
    with pytest.raises(ValueError, match='at least 1'):
        SinkhornKnopp(3, iterations=0)
    SinkhornKnopp(3, iterations=1)


def test_three_rounds_and_a_center_of_nine_tenths_are_usual():
    assert defaults(Centering) == {'momentum': 0.9}
    assert defaults(SinkhornKnopp) == defaults(sinkhorn_knopp) == {'iterations': 3}
