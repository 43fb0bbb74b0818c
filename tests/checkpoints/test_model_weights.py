from copy import deepcopy

import pytest
import timm
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError
from mm_graft.checkpoints.conversion import convert_model
from mm_graft.checkpoints.model_weights import choose_part, choose_weights, load_model
from tests.tiny import ARCH, PREPROCESSOR, classifier, mae, mae_file


def build(config):
    model = MODELS.build(config)
    model.init_weights()
    return model


def saved(model, path, **extra):
    torch.save({'state_dict': model.state_dict(), 'meta': {}, **extra}, path)
    return str(path)


def test_a_file_of_the_same_model_is_taken_whole(tmp_path):
    model, other = build(classifier()), build(classifier())
    chosen, line = choose_weights(model, other.state_dict(), 'a.pth', complete=True)
    assert chosen.keys() == model.state_dict().keys()
    assert 'newly initialized' not in line


def test_a_head_of_other_classes_starts_new_in_a_run_and_is_an_error_in_a_test(tmp_path):
    model, other = build(classifier()), build(classifier() | dict(head=classifier()['head'] | dict(num_classes=5)))
    chosen, line = choose_weights(model, other.state_dict(), 'a.pth', complete=False)
    assert not any(name.startswith('head') for name in chosen)
    assert 'newly initialized: head.layers.head.weight' in line
    with pytest.raises(CheckpointError, match=r'lacks head\.layers\.head\.weight.* give a checkpoint of this config'):
        choose_weights(model, other.state_dict(), 'a.pth', complete=True)


def test_a_foreign_layout_fills_the_backbone(tmp_path):
    model, path = build(classifier()), mae_file(tmp_path / 'mae.pth')
    chosen, line = choose_weights(model, {'model': {}}, path, complete=False)
    assert chosen.keys() == {name for name in model.state_dict() if name.startswith('backbone.')}
    torch.testing.assert_close(chosen['backbone.cls_token'], torch.load(path)['model']['cls_token'])
    assert 'newly initialized: head' in line


def test_a_file_of_which_nothing_fits_is_refused(tmp_path):
    torch.save({'fc.weight': torch.ones(2, 2)}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=r'other\.pth'):
        choose_weights(build(classifier()), {'fc.weight': torch.ones(2, 2)}, str(tmp_path / 'other.pth'), False)


def test_half_a_backbone_is_refused(tmp_path):
    model = build(classifier())
    state = {name: tensor for name, tensor in model.state_dict().items() if 'layers.3' not in name}
    torch.save({'state_dict': state}, tmp_path / 'half.pth')
    with pytest.raises(CheckpointError, match=r'half\.pth'):
        choose_weights(model, state, str(tmp_path / 'half.pth'), complete=False)


def test_weights_that_are_not_finite_are_refused():
    model = build(classifier())
    state = deepcopy(model.state_dict())
    state['backbone.ln1.weight'][0] = float('nan')
    with pytest.raises(CheckpointError, match=r'NaN or infinite, first backbone\.ln1\.weight'):
        choose_weights(model, state, 'a.pth', complete=False)


def prefixed(state, start):
    return {start + name: tensor for name, tensor in state.items()}


def test_an_encoder_takes_any_layout_its_own_names_and_a_prefix(tmp_path):
    backbone, other = build(classifier()).backbone, build(classifier()).backbone
    state = other.state_dict()
    for name, file, prefix in (
            ('own', {'state_dict': state}, None), ('whole', {'state_dict': prefixed(state, 'backbone.')}, None),
            ('given', {'state_dict': prefixed(state, 'a.b.')}, 'a.b.'), ('no dot', prefixed(state, 'a.b.'), 'a.b')):
        torch.save(file, tmp_path / f'{name}.pth')
        chosen, line = choose_part(backbone, str(tmp_path / f'{name}.pth'), prefix)
        assert chosen.keys() == state.keys()
        assert all(torch.equal(chosen[key], state[key]) for key in state)
        assert line.startswith('loaded ')
    chosen, _ = choose_part(backbone, mae_file(tmp_path / 'mae.pth'))
    assert torch.equal(chosen['cls_token'], torch.load(tmp_path / 'mae.pth')['model']['cls_token'])


def of_timm(path):
    model = timm.models.vision_transformer.VisionTransformer(
        32, 8, embed_dim=16, depth=4, num_heads=2, mlp_ratio=2, num_classes=2)
    torch.save(model.state_dict(), path)
    return model.head


def of_torchvision(path):
    model = torchvision.models.VisionTransformer(32, 8, 4, 2, 16, 32, num_classes=2)
    torch.nn.init.normal_(model.heads.head.weight)
    torch.save(model.state_dict(), path)
    return model.heads.head


def of_hugging_face(path):
    """By the names of its ViTForImageClassification."""
    head = torch.nn.Linear(16, 2)
    encoder = convert_model(build(classifier()).backbone.state_dict(), 'mmpretrain', 'hf-vit').backbone
    torch.save({**prefixed(encoder, 'vit.'), **prefixed(head.state_dict(), 'classifier.')}, path)
    return head


@pytest.mark.parametrize('save', [of_timm, of_torchvision, of_hugging_face])
def test_a_test_takes_the_linear_classifier_of_another_layout_too(save, tmp_path):
    theirs, model = save(tmp_path / 'theirs.pth'), build(classifier())
    state = torch.load(tmp_path / 'theirs.pth')
    chosen, line = choose_weights(model, state, str(tmp_path / 'theirs.pth'), complete=True)
    assert chosen.keys() == model.state_dict().keys()
    assert torch.equal(chosen['head.layers.head.weight'], theirs.weight)
    assert torch.equal(chosen['head.layers.head.bias'], theirs.bias)
    assert 'the classifier went into head.layers.head.weight' in line
    without, line = choose_weights(model, state, str(tmp_path / 'theirs.pth'), complete=False)
    assert not any(name.startswith('head') for name in without)


def test_a_part_that_lacks_a_tensor_is_refused(tmp_path):
    model = build(classifier())
    half = {name: tensor for name, tensor in model.backbone.state_dict().items() if 'layers.3' not in name}
    torch.save(half, tmp_path / 'half.pth')
    with pytest.raises(CheckpointError, match=r'half\.pth'):
        choose_part(model.backbone, str(tmp_path / 'half.pth'))
    torch.save(prefixed(model.head.state_dict(), 'head.'), tmp_path / 'head.pth')
    assert len(choose_part(model.head, str(tmp_path / 'head.pth'), 'head')[0]) == 2
    wide = build(classifier() | dict(head=classifier()['head'] | dict(num_classes=5))).head
    with pytest.raises(CheckpointError, match=r'0 of 2 tensors of VisionTransformerClsHead; it lacks layers\.head'):
        choose_part(wide, str(tmp_path / 'head.pth'), 'head')
    with pytest.raises(CheckpointError, match=r"no tensors below 'neck\.'"):
        choose_part(wide, str(tmp_path / 'head.pth'), 'neck')


def test_a_part_with_a_backbone_follows_the_rule_of_whole_models(tmp_path):
    model, path = build(classifier()), mae_file(tmp_path / 'mae.pth')
    chosen, line = choose_part(model, path)
    assert chosen.keys() == {name for name in model.state_dict() if name.startswith('backbone.')}
    assert 'newly initialized: head' in line


def test_counters_of_old_files_may_be_missing_and_weights_may_not(tmp_path):
    norm = torch.nn.BatchNorm2d(2)
    state = {name: tensor for name, tensor in norm.state_dict().items() if 'num_batches' not in name}
    torch.save(state, tmp_path / 'old.pth')
    assert choose_part(norm, str(tmp_path / 'old.pth'))[0].keys() == state.keys()
    del state['running_var']
    torch.save(state, tmp_path / 'less.pth')
    with pytest.raises(CheckpointError, match='lacks running_var'):
        choose_part(norm, str(tmp_path / 'less.pth'))


def test_an_address_is_opened_by_the_host_and_compared_by_names(monkeypatch):
    norm = torch.nn.BatchNorm2d(2)
    opened = []
    monkeypatch.setattr('mmengine.runner.CheckpointLoader.load_checkpoint',
                        lambda path, map_location: opened.append(path) or {'state_dict': norm.state_dict()})
    assert choose_part(norm, 'torchvision://norm')[0].keys() == norm.state_dict().keys()
    assert opened == ['torchvision://norm']


def drawn(config):
    """A built model whose every tensor is random."""
    model = MODELS.build(config)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = torch.randn_like(tensor) if tensor.is_floating_point() else tensor
    return model


@pytest.mark.parametrize('outside', [False, True])
def test_a_whole_model_is_built_from_its_config_and_loaded(tmp_path, outside):
    theirs, config = drawn(mae()), mae()
    if outside:  # as in the host's configs
        del config['data_preprocessor']
    cfg = Config(dict(model=config, **(dict(data_preprocessor=PREPROCESSOR | dict(mean=[7.] * 3)) if outside else {})))
    model, line = load_model(cfg, saved(theirs, tmp_path / 'a.pth'))
    assert not model.training
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.data_preprocessor.mean.flatten().tolist() == [7. if outside else 0.] * 3
    assert line.startswith('loaded ')


def test_the_authors_file_of_an_mae_with_its_decoder_is_read_whole(tmp_path):
    own = drawn(mae()).state_dict()
    torch.save({'model': convert_model(own, 'mmpretrain', 'mae').backbone}, tmp_path / 'mae.pth')
    model, _ = load_model(Config(dict(model=mae())), tmp_path / 'mae.pth')
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_a_whole_model_is_loaded_from_a_file_of_its_own_alone(tmp_path):
    cfg = Config(dict(model=mae()))
    with pytest.raises(CheckpointError, match=r'it lacks neck\.mask_token.*give a checkpoint of this config'):
        load_model(cfg, saved(build(classifier()), tmp_path / 'classifier.pth'))
    deeper = build(mae(arch=ARCH | dict(num_layers=5)))
    with pytest.raises(CheckpointError, match=r'it has a larger backbone, with backbone\.layers\.4\.'):
        load_model(cfg, saved(deeper, tmp_path / 'deeper.pth'))
    with pytest.raises(CheckpointError, match='does not say of which algorithm it is'):
        load_model(Config(dict(model=dict(backbone=mae()['backbone']))), tmp_path / 'deeper.pth')
