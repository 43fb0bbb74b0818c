import pytest
import torch

from mm_graft.models.heads.localmim_head import LocalMIMHead, masked_error, rescale_mask

CHECKER = torch.tensor([[[True, False], [True, True]]])  # (1, 2, 2)


def test_finer_grids_repeat_the_mask_and_coarser_ones_average_it():
    assert rescale_mask(CHECKER, 4).tolist() == [[1, 0, 1, 1]]
    assert rescale_mask(CHECKER, 1).tolist() == [[0.75]]
    assert rescale_mask(CHECKER, 16).tolist() == [[1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]]


def test_masks_keep_their_aspect():
    mask = torch.tensor([[[True, True, False, False, False, False], [True, True, False, False, False, True]]])
    assert rescale_mask(mask, 3).tolist() == [[1, 0, 0.25]]
    assert rescale_mask(mask, 48).shape == (1, 48)


@pytest.mark.parametrize('tokens', [3, 5, 8, 9])
def test_a_grid_that_does_not_fit_the_mask_is_refused(tokens):
    with pytest.raises(ValueError, match=r'grid|multiple'):
        rescale_mask(CHECKER, tokens)


def test_fewer_tokens_than_a_grid_of_the_aspect_has_are_refused():
    with pytest.raises(ValueError, match='1 tokens form no grid with the aspect of a mask of 2×4'):
        rescale_mask(torch.ones(1, 2, 4, dtype=torch.bool), 1)


def test_the_error_is_a_weighted_mean_over_the_batch():
    target = torch.tensor([[[5., -2.], [7., 7.]], [[1., 1.], [0., 3.]]])
    pred = target + torch.tensor([[[1., 3.], [0., 0.]], [[2., 2.], [9., 9.]]])
    weights = torch.tensor([[1., 0.], [.5, 0.]])
    assert masked_error(pred, target, weights).item() == pytest.approx((1 * 5 + .5 * 4) / 1.5)


def test_visible_tokens_do_not_matter_and_get_no_gradient():
    pred, target = torch.randn(1, 4, 3, requires_grad=True), torch.randn(1, 4, 3)
    loss = LocalMIMHead().loss([pred], [target], CHECKER)['loss_scale0']
    loss.backward()
    assert not pred.grad[0, 1].any()
    assert pred.grad[0, [0, 2, 3]].abs().min() > 0


def test_nothing_hidden_is_no_error_and_not_nan():
    pred = torch.randn(1, 4, 3, requires_grad=True)
    assert masked_error(pred, torch.zeros(1, 4, 3), torch.zeros(1, 4)).item() == 0


def test_terms_are_weighted_by_scale():
    preds, targets = [torch.ones(1, 4, 3), torch.ones(1, 1, 3)], [torch.zeros(1, 4, 3), torch.zeros(1, 1, 3)]
    losses = LocalMIMHead(weights=(2, 0.5)).loss(preds, targets, CHECKER)
    assert {name: term.item() for name, term in losses.items()} == {'loss_scale0': 2, 'loss_scale1': 0.5}


def test_a_weight_may_be_zero_and_the_head_has_no_state():
    head = LocalMIMHead(weights=[0, 2])
    losses = head.loss([torch.ones(1, 4, 3)] * 2, [torch.zeros(1, 4, 3)] * 2, CHECKER)
    assert [term.item() for term in losses.values()] == [0, 2]
    assert head.state_dict() == {}


def test_a_scale_that_is_switched_off_is_a_constant_zero_in_the_log():
    losses = LocalMIMHead().loss([None, torch.ones(1, 4, 3)], [None, torch.zeros(1, 4, 3)], CHECKER)
    assert losses['loss_scale0'].item() == 0
    assert losses['loss_scale1'].item() == 1
    for pred, target in ((None, torch.ones(1, 4, 3)), (torch.ones(1, 4, 3), None)):
        assert LocalMIMHead().loss([pred], [target], CHECKER)['loss_scale0'].item() == 0


def test_errors_are_summed_in_the_precision_of_the_target():
    term = LocalMIMHead().loss([torch.ones(1, 4, 3).bfloat16()], [torch.zeros(1, 4, 3)], CHECKER)['loss_scale0']
    assert term.dtype == torch.float32


def test_what_disagrees_is_refused():
    with pytest.raises(ValueError, match='must not be negative'):
        LocalMIMHead(weights=(-1, 1))
    with pytest.raises(ValueError, match='one must be positive'):
        LocalMIMHead(weights=(0, 0))
    with pytest.raises(ValueError, match='same number of scales'):
        LocalMIMHead().loss([torch.ones(1, 4, 3)], [], CHECKER)
    with pytest.raises(ValueError, match='scale 0: prediction'):
        LocalMIMHead().loss([torch.ones(1, 4, 3)], [torch.ones(1, 4, 6)], CHECKER)
