import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from mm_graft.models.heads.nna_head import NNAHead, mlp
from mm_graft.models.losses.nearest_neighbor_alignment import mean_over_pairs, pair_losses, published_pairs
from tests.defaults import defaults

IDS = torch.arange(4)


def build(**kwargs):
    return MODELS.build(dict(
        type='mm_graft.NNAHead', in_channels=6, hid_channels=10, out_channels=8, predictor_channels=12,
        norm_cfg=dict(type='BN1d'), queue=dict(type='mm_graft.SupportQueue', length=16, num_neighbors=3),
        loss=dict(type='mm_graft.NNALoss', temperature=0.3), **kwargs)).double().train()


def test_projector_and_predictor_have_the_layers_of_the_paper():
    head = build()
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters() if value.ndim == 2}
    assert shapes == {
        'projector.0.0.weight': (10, 6), 'projector.1.0.weight': (10, 10), 'projector.2.0.weight': (8, 10),
        'predictor.0.0.weight': (12, 8), 'predictor.1.0.weight': (8, 12)}
    kinds = [[type(layer) for layer in block] for block in (*head.projector, *head.predictor)]
    inner, last = [nn.Linear, nn.BatchNorm1d, nn.GELU], [nn.Linear, nn.BatchNorm1d]
    assert kinds == [inner, inner, last, inner, last]
    assert all(block[1].affine for block in (*head.projector, *head.predictor))
    assert all(block[0].bias is None for block in (*head.projector, *head.predictor))


def test_the_widths_are_the_papers():
    assert defaults(NNAHead) == {'hid_channels': 2048, 'out_channels': 256, 'predictor_channels': 4096,
                                 'norm_cfg': {'type': 'SyncBN'}}


def test_weights_are_xavier_uniform():
    weight = mlp((300, 500), dict(type='BN1d'))[0][0].weight
    bound = (6 / 800)**0.5
    assert bound * 0.99 < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_all_views_are_one_batch_the_queue_is_asked_then_fed_with_view_0_alone():
    head, features = build(), torch.randn(16, 6).double()  # two global and two local views of four images
    state = {name: value.clone() for name, value in head.state_dict().items()}
    terms = head.loss(features, IDS, 2)
    after = head.queue.features.clone()
    head.load_state_dict(state)
    projections = head.projector(features)
    predictions = head.predictor(projections)
    found = head.queue.find(projections[:8], IDS)
    views = [x.unflatten(0, (-1, 4)) for x in (projections[:8], found.features, predictions)]
    expected = mean_over_pairs(pair_losses(*views, 0.3), published_pairs(2, 2))
    assert terms['loss'].item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.equal(after[:4], projections[:4])
    assert torch.equal(after[4:], state['queue.features'][4:])


def test_exchanging_the_global_views_or_the_images_ids_changes_what_is_learnt():
    features = torch.randn(12, 6).double()
    torch.manual_seed(1)
    head = build()
    state = {name: value.clone() for name, value in head.state_dict().items()}

    def second_loss(rows, ids):
        head.load_state_dict(state)
        head.loss(features, IDS, 2)
        return head.loss(features[rows], ids, 2)['loss'].item()

    order = torch.arange(12)
    exchanged = torch.cat([order[4:8], order[:4], order[8:]])
    values = {second_loss(order, IDS), second_loss(exchanged, IDS), second_loss(order, IDS.roll(1)),
              second_loss(order, IDS + 100)}
    assert len(values) == 4


def test_gradients_reach_all_that_trains_and_the_features_of_views_in_pairs():
    head, features = build(), torch.randn(20, 6).double().requires_grad_()  # two global and three local views
    head.loss(features, IDS, 2)['loss'].backward()
    without = [name for name, parameter in head.named_parameters() if parameter.grad is None]
    assert without == ['projector.2.1.bias']
    assert not head.projector[2][1].bias.requires_grad
    assert all(parameter.grad.any() for parameter in head.parameters() if parameter.grad is not None)
    assert features.grad.any(1).all()  # of unused views by the statistics of batch norm


def test_the_shift_that_does_not_train_had_no_gradient():
    head, features = build(), torch.randn(8, 6).double()
    head.projector[2][1].bias.requires_grad_()
    head.loss(features, IDS, 2)['loss'].backward()
    assert head.projector[2][1].bias.grad.abs().max() < 1e-12 * head.projector[2][1].weight.grad.abs().max() + 1e-15


def test_the_share_of_neighbors_of_the_same_class_is_over_all_global_views():
    head, labels = build(), torch.tensor([0, 0, 1, 1])
    assert set(head.loss(torch.randn(8, 6).double(), IDS, 2)) == {'loss'}
    head.queue.labels.fill_(0)
    head.queue.find = lambda x, ids, find=head.queue.find: find(x, ids)._replace(
        labels=torch.tensor([0, 0, 1, 1, 0, 1, 0, -1]))
    terms = head.loss(torch.randn(8, 6).double(), IDS, 2, labels)
    assert terms['acc_neighbor'].item() == pytest.approx(100 * 5 / 8)
    assert head.queue.labels[4:8].tolist() == [0, 0, 1, 1]
