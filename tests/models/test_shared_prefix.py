import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS

from mm_graft.models import shared_prefix
from mm_graft.models.momentum_encoder import HasMomentumEncoder
from tests.tiny import VIT, grafted_mocov3, mae_file, start_from


def build(momentum=0.99, **kwargs):
    model = MODELS.build(grafted_mocov3(momentum=momentum, **kwargs))
    model.momentum_encoder.max_iters = 10
    return model


@pytest.fixture
def views():
    return [torch.randn(6, 3, 32, 32), torch.randn(6, 3, 32, 32)]


@pytest.fixture
def grafted(tmp_path):
    torch.manual_seed(1)
    model = build()
    model.init_weights()
    return start_from(model, mae_file(tmp_path / 'mae.pth')).train()


def freeze(model, blocks, stem=True):
    """Stem and the first blocks out of training, as from the start of a run."""
    for name, parameter in model.backbone.named_parameters():
        if not name.startswith(('ln1', *(f'layers.{i}.' for i in range(blocks, 4)))) and (stem or 'cls' not in name):
            parameter.requires_grad_(False)
    return look_again(model).train()


def look_again(model):
    """The first update after freezing finds what still moves."""
    model.momentum_encoder.forget_pairs()
    model.update_momentum_encoders()
    return model


def two_steps(model, views):
    """Losses and gradients of two steps of SGD."""
    optimizer = torch.optim.SGD([param for param in model.parameters() if param.requires_grad], lr=0.1)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        losses.append(model.loss(views)['loss'])
        losses[-1].backward()
        optimizer.step()
    return losses, {name: param.grad for name, param in model.named_parameters() if param.requires_grad}


@pytest.mark.parametrize('blocks', [0, 2, 4])
def test_a_shared_prefix_changes_no_loss_gradient_or_average(views, blocks, monkeypatch):
    results = []
    for shared in (True, False):
        torch.manual_seed(1)
        model = build(drop_path_rate=0.3, with_cp=True)
        model.init_weights()
        freeze(model, blocks)
        if not shared:
            monkeypatch.setattr('mm_graft.models.shared_prefix.shared_depth', lambda *_: -1)
        torch.manual_seed(2)
        losses, gradients = two_steps(model, views)
        assert shared_prefix.shared_depth(model.backbone, model.momentum_encoder) == (blocks if shared else -1)
        results.append((losses, gradients, model.state_dict()))
    (losses, gradients, state), (plain_losses, plain_gradients, plain_state) = results
    assert losses == plain_losses
    assert set(gradients) == set(plain_gradients)
    assert all(torch.equal(gradients[name], plain_gradients[name]) for name in gradients)
    assert all(torch.equal(state[name], plain_state[name]) for name in state)


def count_calls(model, views):
    """How often each block of either encoder ran in a step: (base, momentum)."""
    calls = {}
    handles = [block.register_forward_hook(lambda *_, key=(which, index): calls.update({key: calls.get(key, 0) + 1}))
               for which, encoder in enumerate((model.backbone, model.momentum_encoder.module[0]))
               for index, block in enumerate(encoder.layers)]
    model.loss(views)
    for handle in handles:
        handle.remove()
    return [[calls.get((which, index), 0) for index in range(4)] for which in range(2)]


def test_only_what_is_frozen_and_equal_is_shared(grafted, views):
    assert count_calls(grafted, views) == [[1] * 4, [1] * 4]
    assert count_calls(freeze(grafted, 2), views) == [[1] * 4, [0, 0, 1, 1]]
    with torch.no_grad():
        grafted.momentum_encoder.module[0].layers[1].ln1.weight.add_(0.1)  # has not arrived: frozen in mid-run
    look_again(grafted)
    assert count_calls(grafted, views) == [[1] * 4, [0, 1, 1, 1]]
    with torch.no_grad():
        grafted.momentum_encoder.module[0].cls_token.add_(0.1)
    look_again(grafted)
    assert count_calls(grafted, views) == [[1] * 4] * 2


def test_a_live_class_token_or_stem_dropout_forbids_sharing(views):
    for model in (freeze(build(), 2, stem=False), freeze(build(drop_rate=0.1), 2)):
        assert count_calls(model, views) == [[1] * 4] * 2


def test_sharing_ends_when_the_prefix_trains_again(grafted, views):
    assert count_calls(freeze(grafted, 2), views)[1] == [0, 0, 1, 1]
    grafted.backbone.layers[1].requires_grad_(True)
    look_again(grafted.train())
    assert count_calls(grafted, views)[1] == [0, 1, 1, 1]


def test_the_hosts_vit_shares_nothing(views):
    model = MODELS.build(grafted_mocov3() | {'backbone': dict(type='MoCoV3ViT', stop_grad_conv1=True, **VIT)})
    model.momentum_encoder.max_iters = 10
    model.backbone.requires_grad_(False)
    look_again(model).train()
    assert model.momentum_encoder.moving is not None
    assert count_calls(model, views) == [[1] * 4] * 2


def test_of_several_outputs_the_last_is_compared():
    model, images = build(out_indices=[1, 3]), torch.randn(2, 3, 32, 32)
    for blocks in (0, 2):
        freeze(model.train(), blocks)
        last = model.backbone(images)[-1]
        assert all(torch.equal(output, last) for output in
                   shared_prefix.encode_both(model.backbone, model.momentum_encoder, images))


class Teacher(HasMomentumEncoder, BaseModule):
    """An average of the encoder alone."""

    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(dict(type='mm_graft.GraftViT', out_type='cls_token', **VIT))
        self.momentum_encoder = self.follow('backbone', momentum=0.9, end_momentum=0.9)


def test_an_average_of_the_encoder_alone_shares_the_same_blocks():
    model, images = Teacher(), torch.randn(2, 3, 32, 32)
    freeze(model, 2)
    with torch.no_grad():
        model.backbone.layers[3].ln1.weight.add_(0.5)
    assert shared_prefix.shared_depth(model.backbone, model.momentum_encoder) == 2
    output, averaged = shared_prefix.encode_both(model.backbone, model.momentum_encoder, images)
    assert torch.equal(output, model.backbone(images)[-1])
    assert torch.equal(averaged, model.momentum_encoder.module(images)[-1])
    assert not torch.equal(output, averaged)
    assert output.requires_grad
    assert not averaged.requires_grad
