import copy

import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError
from mm_graft.models.ema import cosine_momentum
from mm_graft.models.selfsup.grafted_mocov3 import GraftedMoCoV3, project_views
from tests.defaults import defaults
from tests.models.test_shared_prefix import two_steps
from tests.tiny import VIT, contrastive, differ, grafted_mocov3, mae_file, start_from


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


def test_the_loss_is_the_hosts_for_the_same_weights_before_the_ema_moves(views):
    ours = differ(build(momentum=1.0).double()).train()
    vit = dict(type='MoCoV3ViT', stop_grad_conv1=True, **VIT)
    host = MODELS.build(dict(type='MoCoV3', backbone=vit, **contrastive())).double().train()
    host.load_state_dict(ours.state_dict(), strict=True)
    host.momentum_encoder.update_parameters = lambda model: None  # which the host does in its loss
    host.backbone.pos_embed.requires_grad_(False)  # as after the host's init_weights
    views = [view.double() for view in views]
    expected, actual = host.loss(views, None)['loss'], ours.loss(views)['loss']
    assert actual.item() == pytest.approx(expected.item(), rel=1e-12)
    expected.backward()
    actual.backward()
    gradients = dict(ours.named_parameters())
    for name, parameter in host.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name].grad, parameter.grad, rtol=1e-9, atol=1e-12)


def test_views_projected_together_are_those_projected_alone(views):
    model = build().double().train()
    views = [view.double() for view in views]
    together = project_views(model.neck, model.backbone(torch.cat(views))[-1])
    for view, result in zip(views, together):
        torch.testing.assert_close(result, model.neck(model.backbone(view))[0], rtol=1e-10, atol=1e-12)


def test_exchanging_the_views_leaves_the_loss(views):
    model = build(momentum=1.0).double().train()
    first, second = (view.double() for view in views)
    assert model.loss([first, second])['loss'].item() == pytest.approx(model.loss([second, first])['loss'].item())


def test_only_the_first_two_views_are_compared_and_the_momentum_is_the_papers(views):
    model = build(momentum=1.0).double().train()
    views = [view.double() for view in views]
    third = torch.randn_like(views[0])
    assert model.loss([*views, third])['loss'].item() == pytest.approx(model.loss(views)['loss'].item(), rel=1e-12)
    assert model.loss([views[0], third])['loss'].item() != pytest.approx(model.loss(views)['loss'].item(), rel=1e-6)
    assert defaults(GraftedMoCoV3) == {'momentum': 0.99}


def test_both_encoders_start_from_the_checkpoint_and_the_rest_is_new(grafted, tmp_path):
    official = torch.load(tmp_path / 'mae.pth', weights_only=True)['model']
    for encoder in (grafted.backbone, grafted.momentum_encoder.module[0]):
        assert torch.equal(encoder.layers[3].ffn.layers[1].weight, official['blocks.3.mlp.fc2.weight'])
        assert torch.equal(encoder.pos_embed, official['pos_embed'])
        assert torch.equal(encoder.patch_embed.projection.weight, official['patch_embed.proj.weight'])
    for own, copied in zip(grafted.neck.parameters(), grafted.momentum_encoder.module[1].parameters()):
        assert torch.equal(own, copied)
    torch.manual_seed(2)
    other = build()
    other.init_weights()
    start_from(other, str(tmp_path / 'mae.pth'))
    assert torch.equal(other.backbone.cls_token, grafted.backbone.cls_token)
    assert not torch.equal(other.neck.fc0.weight, grafted.neck.fc0.weight)
    assert not torch.equal(other.head.predictor.fc0.weight, grafted.head.predictor.fc0.weight)


def test_without_a_checkpoint_it_is_moco_v3_from_scratch():
    model = build()
    model.init_weights()
    host = MODELS.build(dict(type='MoCoV3ViT', **VIT))
    host.init_weights()
    torch.testing.assert_close(model.backbone.pos_embed, host.pos_embed)  # fixed sine and cosine
    assert torch.equal(model.momentum_encoder.module[0].cls_token, model.backbone.cls_token)


def test_a_checkpoint_that_does_not_fit_stops_before_training(tmp_path):
    with pytest.raises(CheckpointError, match='another shape'):
        start_from(build(), mae_file(tmp_path / 'wide.pth', width=32))


def test_gradient_reaches_what_trains_and_nothing_else(grafted, views):
    grafted.loss(views)['loss'].backward()
    reached = {name for name, parameter in grafted.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in grafted.named_parameters()
                       if not name.startswith(('momentum_encoder.', 'backbone.patch_embed.', 'backbone.pos_embed'))}
    for name, parameter in grafted.named_parameters():
        if name in reached and name != 'backbone.ln1.bias':  # batch norm removes a shift of its input
            assert parameter.grad.any(), name


def test_embeddings_keep_the_checkpoints_values_through_a_step(grafted, views):
    before = copy.deepcopy(grafted.backbone.state_dict())
    optimizer = torch.optim.AdamW([p for p in grafted.parameters() if p.requires_grad], lr=0.1)
    grafted.loss(views)['loss'].backward()
    optimizer.step()
    for name, tensor in grafted.backbone.state_dict().items():
        fixed = name.startswith(('patch_embed.', 'pos_embed'))
        assert torch.equal(tensor, before[name]) == fixed, name


def test_the_momentum_encoder_moves_as_in_the_authors_loop(views):
    """There it moves at the start of each step, with the momentum of that step, and then gives keys."""
    model = build(momentum=0.5)
    model.init_weights()
    optimizer = torch.optim.SGD([p for p in model.train().parameters() if p.requires_grad], lr=0.5)
    source, average = model.backbone.cls_token, model.momentum_encoder.module[0].cls_token
    expected = source.detach().clone()
    for step in range(4):
        expected = expected.lerp(source.detach(), 1 - cosine_momentum(step, 10, 0.5))
        model.loss(views)['loss'].backward()
        torch.testing.assert_close(average, expected)  # when keys are made, and untouched by the loss
        optimizer.step()
    assert model.momentum_encoder.steps == 4
    assert not torch.equal(average, source)


def test_the_momentum_changes_the_next_loss(views):
    losses = set()
    for momentum in (0.0, 0.5, 1.0):
        torch.manual_seed(1)
        model = build(momentum=momentum).train()
        losses.add(two_steps(model, views)[0][1].item())
    assert len(losses) == 3


def test_the_representation_is_the_class_token_after_the_final_norm(grafted, views):
    grafted.eval()
    tokens, _ = grafted.backbone.embed(views[0])
    for block in grafted.backbone.layers:
        tokens = block(tokens)
    torch.testing.assert_close(grafted.extract_feat(views[0])[-1], grafted.backbone.ln1(tokens)[:, 0])
