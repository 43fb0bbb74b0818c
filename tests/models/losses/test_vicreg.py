import pytest
import torch
from torch import distributed, nn

from mm_graft.models.losses.vicreg import VICRegLoss, covariance_term, variance_term, vicreg
from mm_graft.process_group import leave_group
from tests.defaults import defaults
from tests.own_process import in_processes


def test_terms_by_hand():
    x = torch.tensor([[0.0, 1], [2, 1]]).double()  # variances 2 and 0
    assert variance_term(x).item() == pytest.approx((0 + 1 - 0.01) / 2)
    y = torch.tensor([[0.0, 0], [2, 4]]).double()  # covariance 4
    assert covariance_term(y).item() == pytest.approx(2 * 4**2 / 2)
    z = torch.tensor([[0.0, 0], [3, 0], [0, 3]]).double()  # covariance −3/2, of three rows in two dimensions
    assert covariance_term(z).item() == pytest.approx(2 * 1.5**2 / 2)
    invariance, variance, covariance = vicreg(x, y)
    assert invariance.item() == pytest.approx((0 + 1 + 0 + 9) / 4)
    assert variance.item() == pytest.approx(variance_term(x).item() / 2)
    assert covariance.item() == pytest.approx(covariance_term(y).item())


def test_what_is_spread_and_decorrelated_costs_nothing():
    x = torch.tensor([[2.0, 2], [-2, 2], [2, -2], [-2, -2]])
    assert [term.item() for term in vicreg(x, x)] == [0, 0, 0]


def test_shifting_both_views_changes_nothing():
    x, y, shift = torch.randn(6, 4).double(), torch.randn(6, 4).double(), torch.randn(4).double()
    for moved, term in zip(vicreg(x + shift, y + shift), vicreg(x, y)):
        torch.testing.assert_close(moved, term)


def test_every_weight_scales_its_own_term():
    x, y = torch.randn(2, 5, 4)
    plain = VICRegLoss()(x, y)
    for name, value in zip(plain, vicreg(x, y)):
        assert plain[name].item() == pytest.approx((1 if name == 'loss_covariance' else 25) * value.item())
    for name in ('invariance', 'variance', 'covariance'):
        changed = VICRegLoss(**{f'{name}_weight': 3.0})(x, y)
        assert {key for key in plain if changed[key] != plain[key]} == {f'loss_{name}'}
    with pytest.raises(ValueError, match='must be ≥ 0'):
        VICRegLoss(variance_weight=-1)


def test_a_weight_of_zero_switches_a_term_off():
    terms = VICRegLoss(0, 0, 0)(*torch.randn(2, 5, 4))
    assert all(term.item() == 0 for term in terms.values())


def test_half_precision_is_compared_in_single_and_single_images_are_refused():
    x = torch.randn(4, 3).bfloat16()
    y = torch.randn(4, 3).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        half = VICRegLoss()(x, y)
    assert half == VICRegLoss()(x.float(), y.float())
    assert set(VICRegLoss()(x[:2], y[:2])) == set(half)  # two images are enough
    with pytest.raises(ValueError, match='at least two images'):
        VICRegLoss()(x[:1], x[:1])


def gradient_of_all(x, y):
    layer = start()
    sum(VICRegLoss()(layer(x), layer(y)).values()).backward()
    return layer.weight.grad


def start():
    torch.manual_seed(3)
    return nn.Linear(3, 4, bias=False).double()


def worker(rank, folder, x, y):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    layer = nn.parallel.DistributedDataParallel(start())
    half = slice(2 * rank, 2 * rank + 2)
    sum(VICRegLoss()(layer(x[half]), layer(y[half])).values()).backward()
    torch.save(layer.module.weight.grad, f'{folder}/{rank}.pth')
    leave_group()


def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path):
    x, y = torch.randn(2, 4, 3).double()
    in_processes(worker, str(tmp_path), x, y, processes=2)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f'{rank}.pth'), gradient_of_all(x, y))


def test_the_weights_are_the_papers():
    assert defaults(VICRegLoss) == {'invariance_weight': 25.0, 'variance_weight': 25.0, 'covariance_weight': 1.0}
