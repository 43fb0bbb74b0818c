import torch

from mm_graft.models.necks.first_projection import FirstProjection
from tests.defaults import defaults


def test_output_is_one_linear_map_without_bias_of_the_last_feature():
    neck = FirstProjection(3, 5)
    features = torch.randn(2, 3)
    (output,) = neck((torch.zeros(2, 3), features))
    torch.testing.assert_close(output, features @ neck.layer.weight.T)
    assert neck.layer.bias is None
    assert (neck((torch.zeros(2, 3),))[0] == 0).all()


def test_it_is_as_wide_as_moco_v3s_projector():
    assert defaults(FirstProjection) == {'out_channels': 4096, 'init_cfg': None}
