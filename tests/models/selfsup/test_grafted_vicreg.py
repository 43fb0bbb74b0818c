import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError
from mm_graft.models.losses.vicreg import VICRegLoss
from tests.models.selfsup.conmim_builders import build as conmim
from tests.tiny import PREPROCESSOR, VIT, grafted_mocov3, mae_file, mlp, start_from


def build():
    model = MODELS.build(dict(
        type='mm_graft.GraftedVICReg', data_preprocessor=PREPROCESSOR,
        backbone=dict(type='mm_graft.GraftViT', **VIT), neck=mlp(3), head=dict(type='mm_graft.VICRegLoss')))
    model.init_weights()
    return model.train()


@pytest.fixture
def views():
    return [torch.randn(6, 3, 32, 32) for _ in range(2)]


def test_the_loss_is_that_of_each_view_projected_alone(views):
    model = build().double()
    views = [view.double() for view in views]
    losses = model.loss(views)
    expected = VICRegLoss()(*(model.neck(model.backbone(view))[0] for view in views))
    assert list(losses) == ['loss_invariance', 'loss_variance', 'loss_covariance']
    for name in losses:
        torch.testing.assert_close(losses[name], expected[name])


def test_the_encoder_starts_from_the_checkpoint_and_the_projector_is_new(tmp_path):
    model = start_from(build(), mae_file(tmp_path / 'mae.pth'))
    official = torch.load(tmp_path / 'mae.pth', weights_only=True)['model']
    assert torch.equal(model.backbone.layers[3].ffn.layers[1].weight, official['blocks.3.mlp.fc2.weight'])
    assert torch.equal(model.backbone.pos_embed, official['pos_embed'])
    with pytest.raises(CheckpointError, match='another shape'):
        start_from(build(), mae_file(tmp_path / 'wide.pth', width=32))


def test_gradient_reaches_everything_but_the_embeddings(views):
    model = build()
    sum(model.loss(views).values()).backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in model.named_parameters()
                       if not name.startswith(('backbone.patch_embed.', 'backbone.pos_embed'))}
    for name in reached - {'backbone.ln1.bias'}:  # batch norm removes a shift of its input
        assert model.get_parameter(name).grad.any(), name


def test_exchanging_the_views_leaves_the_loss(views):
    model = build().double()
    first, second = (view.double() for view in views)
    for one, other in zip(model.loss([first, second]).values(), model.loss([second, first]).values()):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('method', ['VICReg', 'MoCo v3', 'ConMIM'])
def test_a_single_view_is_refused_and_not_halved(method, views):
    model = {'VICReg': build, 'MoCo v3': lambda: MODELS.build(grafted_mocov3()), 'ConMIM': conmim}[method]()
    for inputs in (views[:1], views[0]):
        with pytest.raises(ValueError, match='MultiView'):
            model.loss(inputs)
