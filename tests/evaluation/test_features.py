import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mm_graft.encoders import Encoder
from mm_graft.evaluation import features as features_module
from mm_graft.evaluation.features import check_features, encode, encode_batches, encode_together, labels_of
from mm_graft.evaluation.reading import BadImage, ImageBatch


def vit(tiny_arch, type_='VisionTransformer', **kwargs):
    built = MODELS.build(
        {'type': f'mmpretrain.{type_}', 'arch': tiny_arch, 'img_size': 32, 'patch_size': 16, **kwargs})
    for parameter in built.parameters():
        nn.init.normal_(parameter.data, std=0.3)
    return built


def batches_of(images, size=2, labels=None):
    labels = range(len(images)) if labels is None else labels
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    return [ImageBatch(list(images[i:i + size]), samples[i:i + size], torch.arange(len(images))[i:i + size], [])
            for i in range(0, len(images), size)]


def test_pools_are_the_class_token_and_the_mean_patch_after_the_final_norm(tiny_arch):
    raw = vit(tiny_arch, out_type='raw')
    raw.eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = raw(images)[-1]
    torch.testing.assert_close(encode(raw, images, 'cls'), tokens[:, 0])
    torch.testing.assert_close(encode(raw, images, 'avg'), tokens[:, 1:].mean(1))
    assert raw.out_type == 'raw'


def test_the_class_token_is_given_by_a_backbone_that_is_set_to_maps(tiny_arch):
    maps = vit(tiny_arch, out_type='featmap')
    maps.eval()
    images = torch.randn(2, 3, 32, 32)
    cls = encode(maps, images, 'cls')
    maps.out_type = 'cls_token'
    torch.testing.assert_close(cls, maps(images)[-1])


def test_the_hosts_own_average_stays_with_its_norm(tiny_arch):
    averaged = vit(tiny_arch, out_type='avg_featmap')
    averaged.eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encode(averaged, images, 'avg'), averaged(images)[-1])


@pytest.mark.parametrize('registers', [0, 2])
def test_patches_of_timm_are_averaged_without_class_token_and_registers(registers):
    model = MODELS.build(dict(
        type='TIMMBackbone', model_name='vit_tiny_patch16_224', img_size=32, embed_dim=16, depth=1, num_heads=2,
        reg_tokens=registers))
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = model.timm_model.forward_features(images)
    assert tokens.shape == (2, 1 + registers + 4, 16)
    torch.testing.assert_close(encode(model, images, 'avg'), tokens[:, 1 + registers:].mean(1))
    torch.testing.assert_close(encode(model, images, 'cls'), tokens[:, 0])


def test_feature_maps_without_class_token_can_only_be_averaged():
    class Maps(nn.Module):
        def forward(self, x):
            return (x,)

    images = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(encode(Maps(), images, 'avg'), images.mean((2, 3)))
    with pytest.raises(ValueError, match="pool='avg'"):
        encode(Maps(), images, 'cls')


def test_batches_are_encoded_whole_normalized_and_in_eval_mode(tiny_arch):
    encoder = Encoder(vit(tiny_arch, 'MAEViT'), mean=[100., 110., 120.], std=[50., 60., 70.], to_rgb=True)
    encoder.backbone.train()
    encoder.backbone.layers[0].eval()
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    found = [list(encode_batches(encoder, batches_of(images, labels=[4, 3, 2, 1, 0]))) for _ in range(2)]
    features = torch.cat([batch[0] for batch in found[0]])
    assert torch.cat([batch[1] for batch in found[0]]).tolist() == [4, 3, 2, 1, 0]
    assert [batch[2].indices.tolist() for batch in found[0]] == [[0, 1], [2, 3], [4]]
    assert torch.equal(features, torch.cat([batch[0] for batch in found[1]]))  # no mask, no drop path
    assert encoder.backbone.training
    assert not encoder.backbone.layers[0].training
    encoder.backbone.eval()
    pixels = (images.flip(1).float() - torch.tensor([100., 110., 120.]).view(3, 1, 1)) / torch.tensor(
        [50., 60., 70.]).view(3, 1, 1)
    torch.testing.assert_close(features, encoder.backbone(pixels, mask=None)[-1][:, 0], rtol=1e-4, atol=1e-5)


def test_batches_without_images_come_with_what_was_left_out(tiny_arch):
    empty = ImageBatch([], [], torch.zeros(0, dtype=torch.long), [BadImage(3, 'x', 'y')])
    (features, labels, batch), = encode_batches(Encoder(vit(tiny_arch)), [empty])
    assert (features.shape, features.dtype) == ((0, 0), torch.float32)
    assert (labels.shape, labels.dtype, batch) == ((0, ), torch.int64, empty)


@pytest.mark.parametrize(('progress', 'main', 'shown'), [
    (True, True, True), (True, False, False), (False, True, False)])
def test_the_main_process_alone_shows_a_bar_and_only_if_asked(tiny_arch, monkeypatch, progress, main, shown):
    bars = []
    monkeypatch.setattr(features_module, 'is_main_process', lambda: main)
    monkeypatch.setattr(
        features_module, 'Progress', lambda batches, *args, disable, **kwargs: bars.append(disable) or batches)
    list(encode_batches(Encoder(vit(tiny_arch)), [], progress=progress))
    assert bars == [not shown]


@pytest.mark.parametrize('rank', [0, 1])
def test_a_process_with_fewer_images_than_another_gives_nothing_for_the_last_batch(tiny_arch, monkeypatch, rank):
    class Images(list):
        def __getitem__(self, index):
            return {'inputs': torch.full((3, 32, 32), float(index)), 'data_samples': DataSample().set_gt_label(index)}

        def get_data_info(self, index):
            return {}

    encoder, indices, gathered = Encoder(vit(tiny_arch)), [2, 0, 1], []
    alone = [torch.cat(column) for column in zip(*encode_together(encoder, Images(range(3)), indices, 'cls', 1, 0))]
    other = [list(encode_together(encoder, Images(range(3)), indices[place::2], 'cls', 1, 0)) for place in range(2)]

    def all_gather(share):
        step = len(gathered)
        gathered.append(share)
        kept = [(*part[step], torch.tensor(indices[place::2][step:step + 1])) if step < len(part)
                else (torch.zeros(0, 0), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
                for place, part in enumerate(other)]
        assert all(torch.equal(own, expected) for own, expected in zip(share, kept[rank]))
        assert [own.shape for own in share] == [expected.shape for expected in kept[rank]]
        kept[rank] = share
        return kept

    monkeypatch.setattr(features_module, 'get_world_size', lambda: 2)
    monkeypatch.setattr(features_module, 'get_rank', lambda: rank)
    monkeypatch.setattr(features_module, 'all_gather_object', all_gather)
    found = [torch.cat(column) for column in zip(*encode_together(encoder, Images(range(3)), indices, 'cls', 1, 0))]
    assert len(gathered) == 2
    torch.testing.assert_close(found[0], alone[0])
    assert found[1].tolist() == alone[1].tolist() == indices


def test_a_label_may_be_a_bare_number():
    assert labels_of([DataSample(gt_label=torch.tensor(3)), DataSample().set_gt_label(5)]).tolist() == [3, 5]


def test_one_process_encodes_all_images_in_their_order(tiny_arch):
    class Images(list):
        def __getitem__(self, index):
            if index == 1:
                raise OSError('broken')
            return {'inputs': torch.full((3, 32, 32), float(index)), 'data_samples': DataSample().set_gt_label(index)}

        def get_data_info(self, index):
            return {}

    encoder = Encoder(vit(tiny_arch))
    found = list(encode_together(encoder, Images(range(6)), [5, 1, 0, 1, 1, 4], 'cls', 2, 0))
    assert torch.cat([labels for _, labels in found]).tolist() == [5, 0, 4]
    assert [len(features) for features, _ in found] == [1, 1, 1]


def test_bad_input_is_named(tiny_arch):
    model = vit(tiny_arch)
    with pytest.raises(ValueError, match='unknown'):
        encode(model, torch.randn(1, 3, 32, 32), 'max')
    with pytest.raises(ValueError, match='no class token'):
        encode(vit(tiny_arch, with_cls_token=False, out_type='featmap'), torch.randn(1, 3, 32, 32), 'cls')
    segments = vit(tiny_arch)
    segments.with_cls_token = False  # mmseg's ViT has one then, and does not give it
    with pytest.raises(ValueError, match='no class token'):
        encode(segments, torch.randn(1, 3, 32, 32), 'cls')
    with pytest.raises(ValueError, match=r'no labels.*--cfg-options train_dataloader\.dataset\.with_label=True'):
        labels_of([DataSample()])
    with pytest.raises(ValueError, match='several an image'):
        labels_of([DataSample().set_gt_label([0, 1])])
    two_views = ImageBatch([[torch.zeros(3, 32, 32)] * 2], [DataSample().set_gt_label(0)], torch.zeros(1), [])
    with pytest.raises(ValueError, match='several views'):
        list(encode_batches(Encoder(model), [two_views]))


@pytest.mark.parametrize(('model', 'images', 'option'), [(1, 3, 'grayscale'), (3, 1, 'color')])
def test_another_number_of_channels_is_named_with_the_option_that_loads_it(tiny_arch, model, images, option):
    encoder = Encoder(vit(tiny_arch, patch_cfg=dict(in_channels=model)))
    named = f"{images} channels and the encoder {model}; load them with color_type='{option}'"
    with pytest.raises(ValueError, match=named):
        list(encode_batches(encoder, batches_of(torch.zeros(2, images, 32, 32))))
    (features, *_), = encode_batches(encoder, batches_of(torch.zeros(2, model, 32, 32)))
    assert features.shape == (2, 16)


FEATURES, LABELS = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])


def test_the_number_of_classes_is_given_or_the_largest_label_of_either_set():
    assert check_features(FEATURES, LABELS, FEATURES, LABELS) == 3
    assert check_features(FEATURES, LABELS, FEATURES, LABELS + 2) == 5
    assert check_features(FEATURES, LABELS + 2, FEATURES, LABELS) == 5
    assert check_features(FEATURES, LABELS, FEATURES, LABELS, 7) == 7


@pytest.mark.parametrize(('change', 'message'), [
    ({0: FEATURES[0]}, r'\(4,\) and test features \(6, 4\)'), ({2: FEATURES[:, :3]}, r'test features \(6, 3\)'),
    ({0: FEATURES[:0], 1: LABELS[:0]}, r'training features \(0, 4\)'),
    ({2: FEATURES[:0], 3: LABELS[:0]}, r'test features \(0, 4\)'), ({1: LABELS[:-1]}, 'give one label each'),
    ({3: LABELS[:-1]}, 'give one label each'), ({4: 2}, 'go from 0 to 2, outside the 2 classes'),
    ({1: LABELS - 1}, 'go from -1 to 2'), ({3: LABELS - 1}, 'go from -1'),
    ({0: FEATURES / 0}, 'NaN or infinite; is the checkpoint'), ({2: FEATURES * float('nan')}, 'NaN or infinite')])
def test_sets_that_do_not_fit_each_other_are_named(change, message):
    arguments = [FEATURES, LABELS, FEATURES, LABELS, None]
    for place, value in change.items():
        arguments[place] = value
    with pytest.raises(ValueError, match=message):
        check_features(*arguments)
