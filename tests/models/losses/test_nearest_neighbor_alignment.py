import math

import pytest
import torch
from torch import distributed, nn

from mm_graft.models.losses.nearest_neighbor_alignment import (
    NNALoss,
    described_pairs,
    mean_over_pairs,
    pair_losses,
    published_pairs,
)
from mm_graft.process_group import leave_group
from tests.own_process import in_processes


@pytest.fixture
def views():
    """Two global and three local views of four images."""
    projections, neighbors = torch.randn(2, 2, 4, 5).double()
    return projections, neighbors, torch.randn(5, 4, 5).double()


def by_loop(projections, neighbors, predictions, i, j, temperature):
    terms = []
    for b in range(projections.shape[1]):
        rows = [(neighbors if c == b else projections)[i, b] for c in range(projections.shape[1])]
        cosines = (torch.cosine_similarity(torch.stack(rows), predictions[j], dim=1) / temperature).tolist()
        terms.append(math.log(sum(map(math.exp, cosines))) - cosines[b])
    return sum(terms) / len(terms)


def test_every_pair_is_a_cross_entropy_with_the_neighbor_as_the_positive_alone(views):
    losses = pair_losses(*views, 0.3)
    assert losses.shape == (2, 5)
    for i in range(2):
        for j in range(5):
            assert losses[i, j].item() == pytest.approx(by_loop(*views, i, j, 0.3), abs=1e-12)


def test_scale_changes_nothing_and_temperature_and_every_input_do(views):
    losses = pair_losses(*views, 0.3)
    torch.testing.assert_close(pair_losses(*(3 * x for x in views), 0.3), losses)
    assert not torch.isclose(pair_losses(*views, 0.2), losses).any()
    for index in range(3):
        changed = [x.roll(1, -1) if place == index else x for place, x in enumerate(views)]
        assert not torch.isclose(pair_losses(*changed, 0.3), losses).any()


def test_only_predictions_learn(views):
    for x in views:
        x.requires_grad_()
    pair_losses(*views, 0.3).sum().backward()
    assert views[0].grad is None
    assert views[1].grad is None
    assert views[2].grad.norm(dim=-1).gt(0).all()


def test_the_described_pairs_are_each_global_view_with_every_other_view():
    assert described_pairs(2, 2) == [(0, 1), (1, 0), (0, 2), (0, 3), (1, 2), (1, 3)]
    assert described_pairs(2, 0) == published_pairs(2, 0) == [(0, 1), (1, 0)]


def test_the_published_pairs_count_local_views_from_the_first_global_one():
    assert published_pairs(2, 3) == [(0, 1), (1, 0), (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    recipe = published_pairs(2, 10)
    assert len(recipe) == 22
    assert sum(i != j and j < 2 for i, j in recipe) == 4
    assert sum(i == j for i, j in recipe) == 2
    assert {j for _, j in recipe} == set(range(10))  # the last two of twelve are compared with nothing


def test_a_pair_counts_as_often_as_it_stands_there():
    losses = torch.tensor([[1., 2, 3], [4, 5, 6]])
    assert mean_over_pairs(losses, [(0, 1), (0, 1), (1, 2)]) == pytest.approx((2 + 2 + 6) / 3)


@pytest.mark.parametrize(('pairs', 'used'), [('published', 3), ('described', 5)])
def test_the_module_takes_the_mean_over_its_pairs(views, pairs, used):
    losses = pair_losses(*views, 0.35)
    expected = mean_over_pairs(losses, {'published': published_pairs, 'described': described_pairs}[pairs](2, 3))
    views[2].requires_grad_()
    loss = NNALoss(0.35, pairs)(*views)
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    assert views[2].grad.flatten(1).any(1).tolist() == [True] * used + [False] * (5 - used)


def test_half_precision_is_compared_in_single():
    views = [torch.randn(2, 4, 8).bfloat16() for _ in range(3)]
    with torch.autocast('cpu', torch.bfloat16):
        loss = NNALoss()(*views)
    assert loss.dtype == torch.float32
    assert loss == NNALoss()(*(view.float() for view in views))


@pytest.mark.parametrize(('pairs', 'local', 'warned'), [
    ('published', 0, False), ('published', 1, True), ('published', 2, True), ('published', 3, False),
    ('described', 2, False)])
def test_it_warns_once_where_no_local_view_is_used(monkeypatch, pairs, local, warned):
    said = []
    monkeypatch.setattr('mm_graft.models.losses.nearest_neighbor_alignment.print_log',
                        lambda text, *args, **kwargs: said.append(text))
    loss = NNALoss(pairs=pairs)
    for _ in range(2):
        loss(torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.randn(2 + local, 3, 4))
    assert len(said) == warned
    assert all(f'none of the {local} local views' in text for text in said)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match='must be positive'):
        NNALoss(0)
    with pytest.raises(ValueError, match=r"choose one of \['published', 'described'\]"):
        NNALoss(pairs='all')
    with pytest.raises(ValueError, match='give no two views'):
        NNALoss()(torch.randn(1, 3, 4), torch.randn(1, 3, 4), torch.randn(1, 3, 4))


def gradient_of(x, projections, neighbors):
    torch.manual_seed(3)
    layer = nn.Linear(3, 5, bias=False).double()
    return layer, lambda model: NNALoss(0.2, 'described')(projections, neighbors, model(x))


def worker(rank, folder, x, projections, neighbors):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    half = slice(2 * rank, 2 * rank + 2)
    layer, loss = gradient_of(*(part[:, half] for part in (x, projections, neighbors)))
    model = nn.parallel.DistributedDataParallel(layer)
    loss(model).backward()
    torch.save(layer.weight.grad, f'{folder}/{rank}.pth')
    leave_group()


def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path):
    x, (projections, neighbors) = torch.randn(3, 4, 3).double(), torch.randn(2, 2, 4, 5).double()
    in_processes(worker, str(tmp_path), x, projections, neighbors, processes=2)
    layer, loss = gradient_of(x, projections, neighbors)
    loss(layer).backward()
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f'{rank}.pth'), layer.weight.grad)
