from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError
from mm_graft.engine.hooks.load_backbone_hook import LoadBackboneHook
from tests.tiny import grafted_mocov3, mae_file, refiner


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


def test_no_file_leaves_the_weights_as_they_are(classifier):
    before = classifier.backbone.layers[0].attn.qkv.weight.clone()
    run(LoadBackboneHook(None), classifier)
    assert torch.equal(classifier.backbone.layers[0].attn.qkv.weight, before)


def test_further_parts_come_from_the_same_file_whole_or_not_at_all(classifier, checkpoint, tmp_path):
    state = {name: torch.randn_like(tensor) for name, tensor in classifier.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'tuned.pth')
    neck = classifier.neck.layer.weight.clone()
    run(LoadBackboneHook(str(tmp_path / 'tuned.pth'), parts=['head']), classifier)
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, neck if name == 'neck.layer.weight' else state[name]), name
    classifier.head.fc = torch.nn.Linear(8, 4)
    with pytest.raises(CheckpointError, match=r'head\.fc\.weight is \(3, 8\), in this model \(4, 8\)'):
        run(LoadBackboneHook(str(tmp_path / 'tuned.pth'), parts=['head']), classifier)
    with pytest.raises(CheckpointError, match=r"no head\.fc\.weight \(2 of 2 .* of head it has nothing.*'head' out of"):
        run(LoadBackboneHook(checkpoint, parts=['head']), classifier)


@pytest.mark.parametrize('wrong', [{'parts': ['heads']}, {'projection': 'neck.fc0'}])
def test_a_part_that_the_algorithm_does_not_have_is_told_with_those_that_it_has(classifier, checkpoint, wrong):
    with pytest.raises(ValueError, match=r"has no part '(heads|neck\.fc0)' to load; it has .*backbone, neck, head"):
        run(LoadBackboneHook(checkpoint, **wrong), classifier)


def test_parts_that_this_model_does_not_have_stay_behind(tmp_path, caplog):
    source = MODELS.build(refiner())
    torch.save({'state_dict': source.state_dict()}, tmp_path / 'heads.pth')
    model = MODELS.build(refiner(backbone=dict(out_indices=[2, 3])))
    run(LoadBackboneHook(str(tmp_path / 'heads.pth'), parts=['heads']), model)
    for name, tensor in model.heads.state_dict().items():
        assert torch.equal(tensor, source.heads.state_dict()[name])
    more = MODELS.build(refiner(backbone=dict(out_indices=[1, 2, 3])))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'fewer.pth')
    with pytest.raises(CheckpointError, match=r"no heads\.block1.*of heads it has \['block2', 'block3'\]"):
        run(LoadBackboneHook(str(tmp_path / 'fewer.pth'), parts=['heads']), more)


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
