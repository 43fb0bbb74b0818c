import pytest
import torch

from mm_graft.checkpoints import CheckpointError
from mm_graft.checkpoints.projector import first_projection


@pytest.mark.parametrize(('name', 'branch'), [
    ('module.base_encoder.head.0.weight', 'base'), ('neck.fc0.weight', 'base'),
    ('module.momentum_encoder.head.0.weight', 'momentum'), ('momentum_encoder.module.1.fc0.weight', 'momentum'),
])
def test_first_layer_is_found_in_the_layouts_of_the_authors_and_mmpretrain(name, branch):
    weight = torch.ones(2, 3)
    assert first_projection({name: weight}, branch) is weight
    with pytest.raises(CheckpointError, match='no first projector layer'):
        first_projection({name: weight}, 'base' if branch == 'momentum' else 'momentum')


def test_checkpoint_without_projector_is_refused():
    with pytest.raises(CheckpointError, match='plain head'):
        first_projection({'cls_token': torch.zeros(1)})
