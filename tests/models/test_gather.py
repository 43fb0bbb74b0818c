import pytest
import torch
from torch import distributed

from mm_graft.models.gather import gather, gather_with_gradient
from mm_graft.process_group import leave_group
from tests.own_process import in_processes


@pytest.mark.parametrize('function', [gather, gather_with_gradient])
def test_one_process_has_its_own_rows(function):
    x = torch.randn(3, 2, requires_grad=True)
    assert torch.equal(function(x), x)
    assert function(x).requires_grad == (function is gather_with_gradient)


def worker(rank, folder):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    x = (torch.arange(6.).reshape(2, 3).T + 10 * rank).requires_grad_()  # not contiguous
    weights = torch.arange(12.).reshape(6, 2) * (rank + 1)
    together = gather_with_gradient(x)
    (together * weights).sum().backward()
    plain = gather(x)
    torch.save({'x': x.detach(), 'together': together.detach(), 'gradient': x.grad, 'plain': plain,
                'grows': plain.requires_grad}, f'{folder}/{rank}.pth')
    leave_group()


def test_two_processes_have_all_rows_by_rank_and_the_gradient_of_both_losses(tmp_path):
    in_processes(worker, str(tmp_path), processes=2)
    results = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    rows = torch.cat([result['x'] for result in results])
    weights = torch.arange(12.).reshape(6, 2)
    for rank, result in enumerate(results):
        assert torch.equal(result['together'], rows)
        assert torch.equal(result['plain'], rows)
        assert not result['grows']
        assert torch.equal(result['gradient'], (weights * 3)[3 * rank:3 * rank + 3])
