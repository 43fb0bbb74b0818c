import pytest
import torch

from mm_graft.models.backbones.relative_position import (
    RelativePositionBias,
    displacement_index,
    num_displacements,
    resize_table,
)


def test_a_row_belongs_to_one_displacement_of_query_minus_key():
    height, width = grid = (3, 4)
    index = displacement_index(grid)
    assert num_displacements(grid) == 5 * 7 + 3
    for query in range(12):
        for key in range(12):
            dy, dx = query // width - key // width, query % width - key % width
            assert index[1 + query, 1 + key] == (dy + height - 1) * (2 * width - 1) + dx + width - 1
    assert (index[0, 1:] == 35).all()
    assert (index[1:, 0] == 36).all()
    assert index[0, 0] == 37


def test_bias_is_one_number_per_head_and_pair():
    bias = RelativePositionBias((2, 3), num_heads=2)
    with torch.no_grad():
        bias.relative_position_bias_table.copy_(torch.arange(36.0).view(18, 2))
    out = bias((2, 3))
    assert out.shape == (2, 7, 7)
    assert out[1, 0, 0] == 35
    assert set(bias.state_dict()) == {'relative_position_bias_table'}


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
def test_resizing_keeps_the_center_the_corners_order_and_the_class_rows(mode):
    y, x = torch.meshgrid(torch.arange(-2.0, 3), torch.arange(-2.0, 3), indexing='ij')
    table = torch.cat([(y * 10 + x).view(-1, 1), torch.tensor([[7.0], [8], [9]])])
    resized = resize_table(table, (3, 3), (6, 6), mode)
    assert len(resized) == num_displacements((6, 6))
    assert resized[-3:].flatten().tolist() == [7, 8, 9]
    image = resized[:-3].view(11, 11)
    assert image[5, 5].abs() < 1e-5
    assert (image.diff(dim=0) >= -1e-5).all()
    torch.testing.assert_close(image, -image.flip(0, 1), rtol=0, atol=1e-4)
    assert resize_table(table, (3, 3), (3, 3)) is table


def test_modes_of_interpolation_differ():
    table = torch.randn(28, 2)
    assert not resize_table(table, (3, 3), (5, 5)).equal(resize_table(table, (3, 3), (5, 5), 'bicubic'))


def test_a_table_of_another_grid_is_not_loaded_and_the_index_of_beits_code_is_not_needed():
    bias = RelativePositionBias((3, 3), 2)
    bias.load_state_dict({**bias.state_dict(), 'relative_position_index': torch.zeros(10, 10)})
    with pytest.raises(RuntimeError, match='size mismatch'):
        RelativePositionBias((4, 6), 2).load_state_dict(bias.state_dict())


def test_other_grids_are_served_in_the_forward_with_a_gradient():
    bias = RelativePositionBias((3, 3), 2)
    bias((2, 5)).sum().backward()
    assert bias((2, 5)).shape == (2, 11, 11)
    assert bias.relative_position_bias_table.grad.abs().sum() > 0
