import torch

from mm_graft.host.tensor_lists import differences, lerp_, norms


def test_each_tensor_is_treated_as_by_itself():
    first, second = [torch.randn(3), torch.randn(2, 4)], [torch.randn(3), torch.randn(2, 4)]
    assert all(torch.equal(d, a - b) for d, a, b in zip(differences(first, second), first, second))
    for p in (1, 2, float('inf')):
        torch.testing.assert_close(norms(first, p), [tensor.norm(p) for tensor in first])
    moved = [tensor.clone() for tensor in first]
    lerp_(moved, second, 0.25)
    torch.testing.assert_close(moved, [0.75 * a + 0.25 * b for a, b in zip(first, second)])


def test_gradients_flow_through_differences_and_norms():
    tensor = torch.tensor([3.0, 4.0], requires_grad=True)
    norms(differences([tensor], [torch.zeros(2)]), 2)[0].backward()
    torch.testing.assert_close(tensor.grad, torch.tensor([0.6, 0.8]))


def test_nothing_to_move_is_no_error():
    lerp_([], [], 0.5)
