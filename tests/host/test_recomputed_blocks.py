import torch
from torch import Tensor, nn

from mm_graft.host.recomputed_blocks import recompute


class Block(nn.Module):

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.runs = 0

    def forward(self, x: Tensor, scale: float = 1.0):
        """Counts how often it runs."""
        self.runs += 1
        return self.linear(x).exp() * scale


def test_a_block_runs_again_in_the_backward_pass_with_the_same_arguments():
    block, plain, x = Block(), Block(), torch.randn(2, 3)
    plain.load_state_dict(block.state_dict())
    recompute(block)
    output = block(x, scale=2.0)
    assert block.runs == 1
    output.sum().backward()
    assert block.runs == 2
    expected = plain(x, scale=2.0)
    expected.sum().backward()
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(block.linear.weight.grad, plain.linear.weight.grad)


def test_where_nothing_is_differentiated_it_runs_once():
    block, x = Block(), torch.randn(2, 3)
    recompute(block)
    with torch.no_grad():
        block(x)
    block.requires_grad_(False)
    block(x)
    assert block.runs == 2
    (block(x.requires_grad_()).sum()).backward()  # a frozen block that gradients pass
    assert block.runs == 4


def test_names_stay():
    block = Block()
    names = [name for name, _ in block.named_parameters()]
    recompute(block)
    assert [name for name, _ in block.named_parameters()] == names
    assert block.forward.__doc__ == Block.forward.__doc__
