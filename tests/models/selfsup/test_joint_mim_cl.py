import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.gradients import parameters_by_block, terms_conflict
from mm_graft.models.ema import cosine_momentum
from mm_graft.models.selfsup.joint_mim_cl import JointMIMCL
from tests.defaults import defaults
from tests.tiny import VIT, contrastive, differ, mae


def config(**kwargs):
    vit = dict(type='MAEViT', out_type='cls_token', **VIT)
    pixels = mae()
    return dict(type='mm_graft.JointMIMCL', backbone=vit, decoder=pixels['neck'], pixel_head=pixels['head'],
                **contrastive(), **kwargs)


def build(**kwargs):
    torch.manual_seed(1)
    model = MODELS.build(config(**kwargs))
    model.init_weights()
    model.momentum_encoder.max_iters = 10
    return model.train()


@pytest.fixture
def versions():
    return [torch.randn(4, 3, 32, 32) for _ in range(3)]


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_each_loss_is_that_of_its_method_alone(versions):
    model = differ(build().double())
    versions = [images.double() for images in versions]
    moco = MODELS.build(dict(type='mm_graft.GraftedMoCoV3', backbone=dict(type='mm_graft.GraftViT', **VIT),
                             **contrastive())).double().train()
    own = model.state_dict()
    moco.load_state_dict({name: own[name] for name in moco.state_dict()}, strict=True)
    assert model.contrastive_loss(*versions[:2]).item() == pytest.approx(moco.loss(versions[:2])['loss'].item())
    alone = MODELS.build(mae()).double().train()
    alone.load_state_dict({name: own[name.replace('neck.', 'decoder.')] for name in alone.state_dict()}, strict=True)
    torch.manual_seed(5)
    expected = alone.loss(versions[2], None)['loss'].item()
    torch.manual_seed(5)
    assert model.pixel_loss(versions[2]).item() == pytest.approx(expected)


def test_each_weight_scales_its_own_term_and_nothing_else(versions):
    def terms(**weights):
        model = build(momentum=1.0, **weights)
        torch.manual_seed(3)
        return {name: term.item() for name, term in model.loss(versions).items()}

    unweighted = build(momentum=1.0)
    torch.manual_seed(3)
    contrastive, pixel = unweighted.contrastive_loss(*versions[:2]), unweighted.pixel_loss(versions[2])
    assert terms() == {'loss_contrast': contrastive.item(), 'loss_pixels': pixel.item()}
    plain, pixels, contrast = terms(), terms(pixel_weight=3.0), terms(contrast_weight=0.5)
    assert pixels == {**plain, 'loss_pixels': pytest.approx(3 * plain['loss_pixels'])}
    assert contrast == {**plain, 'loss_contrast': pytest.approx(0.5 * plain['loss_contrast'])}
    for weight in ('pixel_weight', 'contrast_weight'):
        assert 0 in terms(**{weight: 0}).values()
        with pytest.raises(ValueError, match=f'{weight}=-0.5'):
            build(**{weight: -0.5})
    assert defaults(JointMIMCL) == {'momentum': 0.99, 'contrast_weight': 1.0, 'pixel_weight': 1.0}


def test_every_loss_reaches_the_shared_encoder_and_its_own_head_only(versions):
    model = build()
    contrast = gradients(model, model.contrastive_loss(*versions[:2]))
    pixels = gradients(model, model.pixel_loss(versions[2]))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    encoder = {name for name in trained if name.startswith('backbone.')}
    assert 'backbone.pos_embed' not in trained
    assert not any(name.startswith('momentum_encoder.') for name in trained)
    assert contrast == encoder | {name for name in trained if name.startswith(('neck.', 'head.'))}
    assert pixels == encoder | {name for name in trained if name.startswith('decoder.')}


def test_the_sum_of_the_terms_gives_the_sum_of_the_gradients(versions):
    def gradient(choose):
        model = build(momentum=1.0).double()
        torch.manual_seed(3)
        choose(model.loss([images.double() for images in versions])).backward()
        return model.backbone.layers[2].attn.qkv.weight.grad

    both = gradient(lambda terms: terms['loss_pixels'] + terms['loss_contrast'])
    torch.testing.assert_close(both, gradient(lambda terms: terms['loss_pixels'])
                               + gradient(lambda terms: terms['loss_contrast']))


def test_the_momentum_encoder_moves_after_a_step_with_the_momentum_of_the_next(versions):
    model = build(momentum=0.9)
    slow, own = model.momentum_encoder.module[0].cls_token, model.backbone.cls_token
    before = slow.clone()
    assert torch.equal(before, own)
    sum(model.loss(versions).values()).backward()
    assert torch.equal(slow, before)
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    torch.testing.assert_close(slow, before.lerp(own.detach(), 1 - cosine_momentum(1, 10, 0.9)))
    assert not torch.equal(slow, before)


def test_the_conflict_of_its_terms_can_be_measured(versions):
    model = build()
    cosine = terms_conflict(model, lambda: model.loss(versions), ('loss_pixels', 'loss_contrast')).cosine
    assert cosine.shape == (len(parameters_by_block(model)), )
    assert torch.isfinite(cosine).all()
    assert cosine.abs().max() < 0.999


def test_features_are_class_tokens_of_whole_images(versions):
    model = build().eval()
    whole = model.extract_feat(versions[0])[-1]
    assert whole.shape == (4, 16)
    assert torch.equal(whole, model.extract_feat(versions[0])[-1])  # nothing is hidden at random


def test_two_views_and_encoders_without_a_class_token_are_refused(versions):
    with pytest.raises(ValueError, match=r'num_views=\[1, 1, 1\]'):
        build().loss(versions[:2])
    with pytest.raises(ValueError, match=r'Tensor of length 3'):
        build().loss(torch.stack(versions))
    cfg = config()
    cfg['backbone']['out_type'] = 'raw'
    with pytest.raises(ValueError, match="out_type='cls_token'"):
        MODELS.build(cfg)
