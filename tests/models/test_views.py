import pytest
import torch

from mm_graft.models.views import pick_views


def test_the_wanted_views_come_in_the_wanted_order():
    inputs = [torch.full((2, 3, 4, 4), float(index)) for index in range(3)]
    assert [view[0, 0, 0, 0].item() for view in pick_views(inputs, 2, 0)] == [2, 0]


@pytest.mark.parametrize(('inputs', 'message'), [
    (torch.zeros(2, 3, 4, 4), 'one Tensor of each image.*MultiView'),
    ([torch.zeros(2, 3, 4, 4)], r'1 view\(s\) of each image.*two-view pipeline'),
    ([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8)], r'\(2, 3, 8, 8\).*of the same size'),
    ([torch.zeros(3, 4, 4)] * 4, r'\(3, 4, 4\).*\(B, 3, H, W\)'),
])
def test_what_are_no_two_views_of_one_shape_is_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        pick_views(inputs, 0, 1)
