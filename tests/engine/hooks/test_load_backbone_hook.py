from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError
from mm_graft.engine.hooks.load_backbone_hook import LoadBackboneHook
from tests.tiny import grafted_mocov3, mae_file


@pytest.fixture
def classifier(tiny_arch):
    return MODELS.build({
        'type': 'ImageClassifier',
        'backbone': {'type': 'mm_graft.GraftViT', 'arch': tiny_arch, 'img_size': 32, 'patch_size': 16},
        'neck': {'type': 'mm_graft.FirstProjection', 'in_channels': 16, 'out_channels': 8},
        'head': {'type': 'LinearClsHead', 'num_classes': 3, 'in_channels': 8}})


@pytest.fixture
def checkpoint(classifier, tmp_path):
    """Both encoders of a contrastive run, with different weights, and their projectors."""
    tensors = {}
    slow = 'momentum_encoder.module'
    for branch, neck, value in (('backbone', 'neck', 1.0), (f'{slow}.0', f'{slow}.1', 2.0)):
        tensors |= {f'{branch}.{name}': torch.full_like(tensor, value)
                    for name, tensor in classifier.backbone.state_dict().items()}
        tensors[f'{neck}.fc0.weight'] = torch.full((8, 16), 10 * value)
    torch.save({'state_dict': tensors}, tmp_path / 'moco.pth')
    return str(tmp_path / 'moco.pth')


def run(hook, model, iteration=0):
    hook.before_train(SimpleNamespace(iter=iteration, model=model))


@pytest.mark.parametrize(('branch', 'value'), [('base', 1.0), ('momentum', 2.0)])
def test_chosen_encoder_and_its_first_projector_layer_are_loaded(classifier, checkpoint, branch, value):
    run(LoadBackboneHook(checkpoint, branch, projection='neck.layer'), classifier)
    assert (classifier.backbone.cls_token == value).all()
    assert (classifier.neck.layer.weight == 10 * value).all()


def test_projector_stays_without_a_name_and_a_resumed_run_is_left_alone(classifier, checkpoint):
    before = classifier.neck.layer.weight.clone()
    run(LoadBackboneHook(checkpoint), classifier, iteration=5)
    assert not (classifier.backbone.cls_token == 1).all()
    run(LoadBackboneHook(checkpoint), classifier)
    assert (classifier.backbone.cls_token == 1).all()
    assert torch.equal(classifier.neck.layer.weight, before)


def test_projector_of_another_width_is_refused(classifier, checkpoint):
    classifier.neck.layer = torch.nn.Linear(16, 9, bias=False)
    with pytest.raises(CheckpointError, match=r'\(8, 16\), neck\.layer is \(9, 16\)'):
        run(LoadBackboneHook(checkpoint, projection='neck.layer'), classifier)
    with pytest.raises(ValueError, match='branch='):
        LoadBackboneHook(checkpoint, branch='teacher')


def test_positions_of_another_image_size_are_resized_on_request_only(classifier, checkpoint, tiny_arch):
    classifier.backbone = MODELS.build(dict(
        type='mm_graft.GraftViT', arch=tiny_arch, img_size=64, patch_size=16))
    with pytest.raises(CheckpointError, match='resize=True'):
        run(LoadBackboneHook(checkpoint), classifier)
    run(LoadBackboneHook(checkpoint, resize=True), classifier)
    torch.testing.assert_close(classifier.backbone.pos_embed, torch.ones(1, 17, 16))


def test_a_momentum_encoder_starts_as_the_encoder_that_was_loaded(tmp_path):
    model = MODELS.build(grafted_mocov3())
    model.init_weights()
    run(LoadBackboneHook(mae_file(tmp_path / 'mae.pth')), model)
    slow = model.momentum_encoder.module[0]
    assert not torch.equal(slow.cls_token, torch.zeros_like(slow.cls_token))
    for (name, copied), loaded in zip(slow.state_dict().items(), model.backbone.state_dict().values(), strict=True):
        assert torch.equal(copied, loaded), name
