"""Mask R-CNN on drawn pictures, from a pre-trained file to boxes and masks; in an environment with mmdetection."""

import json

import pytest
import timm
import torch

pytest.importorskip('mmdet', reason='mmdetection is not installed; make test-detection')

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

import mm_graft.host.mmcv_operators  # noqa: F401 (before mmpretrain's models, which import mmdet's)
from mm_graft.checkpoints import CheckpointError, Origin, convert_file
from tests.detection.drawn import ARCH, CONFIGS, PLAIN, draw, on_drawn, run, small
from tests.tiny import mae_file, start_from

EXPERIMENT = PLAIN.parents[2] / 'experiments' / 'detection' / 'configs' / 'mask-rcnn_camvid-half.py'


def build(cfg):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    return model


def one_image(size=64):
    """Pixels and one square in them, as mmdet's pipelines give them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size),
                                         batch_input_shape=(size, size), scale_factor=(1., 1.)))
    mask = torch.zeros(1, size, size, dtype=torch.uint8)
    mask[:, 10:40, 20:50] = 1
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[20., 10, 50, 40]]), labels=torch.tensor([1]),
                                       masks=BitmapMasks(mask.numpy(), size, size))
    pixels = torch.full((1, 3, size, size), 100, dtype=torch.uint8)
    pixels[..., 10:40, 20:50] = 220
    return dict(inputs=list(pixels), data_samples=[sample])


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_takes_a_finite_step_that_reaches_every_part(path):
    model = build(small(path, **{'model.backbone.drop_path_rate': 0.0}))
    maps = model.extract_feat(torch.randn(2, 3, 64, 64))
    assert [tuple(level.shape[1:]) for level in maps] == [(256, 32, 32), (256, 16, 16), (256, 8, 8), (256, 4, 4),
                                                         (256, 2, 2)]
    data = model.data_preprocessor(one_image(), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    trained = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in trained.values())
    assert set(dict(model.named_parameters())) - set(trained) <= {'backbone.cls_token'}
    blocks = {name for name in trained if name.startswith('backbone.')}
    silent = {name for name in trained if not trained[name].any()}
    assert not blocks & silent
    assert {'rpn_head.rpn_reg.weight', 'roi_head.bbox_head.fc_cls.weight', 'roi_head.mask_head.conv_logits.weight'
            } <= set(trained) - silent


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_rates_fall_from_block_to_block_and_positions_have_no_decay(path):
    cfg = small(path)
    model = build(cfg)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {}
    for group in build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups:
        found.update({names[parameter]: (group['lr'], group['weight_decay']) for parameter in group['params']})
    start = next(name for name in names.values() if name.endswith('0.attn.qkv.weight'))
    rates = [found[start.replace('0.attn', f'{index}.attn')][0] for index in range(4)]
    assert rates == pytest.approx([1e-4 * 0.75**(4 - index) for index in range(4)])
    assert found['roi_head.bbox_head.fc_cls.weight'] == (1e-4, 0.1)
    assert all(decay == 0 for name, (_, decay) in found.items() if name.endswith('pos_embed'))


@pytest.mark.parametrize(('kind', 'branch'), [
    ('mae', 'base'), ('timm', 'base'), ('mocov3', 'base'), ('mocov3', 'momentum'), ('graft', 'base'),
    ('graft', 'momentum'), ('localmim', 'base'), ('mmpretrain', 'base')])
def test_the_checkpoints_of_the_table_go_into_the_detector_whole(kind, branch, tmp_path):
    theirs = 'mm_graft.LocalMIMViT' if kind == 'localmim' else 'mmpretrain.VisionTransformer'
    source = MODELS.build(dict(type=theirs, img_size=32, patch_size=8, arch=ARCH))
    tensors = {f'backbone.{name}': torch.randn_like(value) for name, value in source.state_dict().items()}
    slow = {name.replace('backbone.', 'momentum_encoder.module.0.'): torch.randn_like(value)
            for name, value in tensors.items()}
    torch.save({'state_dict': {**tensors, **(slow if kind in ('mocov3', 'graft') else {})}}, tmp_path / 'host.pth')
    convert_file(Origin(tmp_path / 'host.pth'), tmp_path / 'theirs.pth', kind)
    model = start_from(build(small(PLAIN)), str(tmp_path / 'theirs.pth'), resize=True, branch=branch)
    wanted = slow if branch == 'momentum' and kind in ('mocov3', 'graft') else tensors
    prefix = next(iter(wanted)).removesuffix('cls_token')
    for name, value in model.backbone.state_dict().items():
        assert name == 'pos_embed' or torch.equal(value, wanted[prefix + name]), name
    assert model.backbone.pos_embed.shape == (1, 65, 16)


@pytest.mark.parametrize('tuned', [False, True])
def test_conmim_comes_with_its_shared_table_or_with_those_of_fine_tuning(tuned, tmp_path):
    path, = (path for path in CONFIGS if 'conmim-vit-small' in path.name)
    tables = dict(use_rel_pos_bias=tuned, use_shared_rel_pos_bias=not tuned)
    source = MODELS.build(dict(type='mm_graft.ConMIMViT', img_size=32, patch_size=8, arch=ARCH, **tables))
    torch.save({'state_dict': {f'backbone.{name}': torch.randn_like(value)
                               for name, value in source.state_dict().items()}}, tmp_path / 'conmim.pth')
    model = start_from(build(small(path)), str(tmp_path / 'conmim.pth'), resize=True)
    read = torch.load(tmp_path / 'conmim.pth')['state_dict']
    name = 'layers.2.attn.rel_pos_bias.' if tuned else 'rel_pos_bias.'
    assert torch.equal(model.backbone.layers[2].attn.rel_pos_bias.relative_position_bias_table,
                       read[f'backbone.{name}relative_position_bias_table'])
    assert torch.equal(model.backbone.layers[3].attn.qkv.weight, read['backbone.layers.3.attn.qkv.weight'])


def test_windows_refuse_blocks_of_another_kind_by_name(tmp_path):
    other = timm.create_model('vit_base_patch16_dinov3', img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2)
    torch.save(other.state_dict(), tmp_path / 'dinov3.pth')
    with pytest.raises(CheckpointError, match='reg_token'):
        start_from(build(small(PLAIN)), str(tmp_path / 'dinov3.pth'), resize=True)
    path, = (path for path in CONFIGS if 'timm' in path.name)
    model = start_from(build(small(path)), str(tmp_path / 'dinov3.pth'), resize=True)
    assert torch.equal(model.backbone.timm_model.reg_token, other.reg_token)


def test_half_precision_has_the_losses_of_single_precision():
    model = build(small(PLAIN, **{'model.backbone.drop_path_rate': 0.0}))
    data = model.data_preprocessor(one_image(), True)
    found = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            losses = model(**data, mode='loss')
            assert model.backbone(data['inputs'])[0].dtype == torch.float32  # the residual stream
        model.zero_grad()
        model.parse_losses(losses)[0].backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
        found.append(float(model.parse_losses(losses)[0]))
    assert found[0] != found[1]
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_the_config_of_the_experiment_reads_a_pretraining_on_half_its_grid(tmp_path):
    cfg = Config.fromfile(EXPERIMENT)
    cfg.model.backbone.update(arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32), img_size=64)
    cfg.model.neck[0].embed_dim, cfg.model.neck[1].in_channels = 16, [16] * 4
    model = start_from(build(cfg), mae_file(tmp_path / 'mae.pth'), resize=True)
    maps = model.extract_feat(torch.randn(1, 3, *cfg.padded))
    assert [tuple(level.shape[2:]) for level in maps] == [(48, 64), (24, 32), (12, 16), (6, 8), (3, 4)]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A config on drawn pictures, the folder of its run of three epochs, and what that printed."""
    folder = tmp_path_factory.mktemp('drawn')
    train, val = draw(folder / 'train', 12, 0), draw(folder / 'val', 4, 1)
    start = mae_file(folder / 'mae.pth')
    cfg = on_drawn(small(PLAIN), train, val, 3, start)
    cfg.dump(folder / 'config.py')
    return folder / 'config.py', folder / 'run', run('train', folder / 'config.py', '--work-dir', folder / 'run')


def test_a_tiny_set_is_trained_scored_and_gone_on_with(trained):
    config, folder, said = trained
    assert 'coco/bbox_mAP' in said
    assert 'coco/segm_mAP' in said
    more = run('train', config, '--work-dir', folder, '--resume', '--cfg-options', 'train_cfg.max_epochs=4',
               'train_cfg.val_interval=4')
    assert 'Epoch(train) [4][3/3]' in more
    assert 'Epoch(train) [3]' not in more
    assert 'coco/segm_mAP' in more


def test_a_checkpoint_is_tested_and_its_detections_are_drawn(trained, tmp_path):
    config, folder, _ = trained
    assert 'coco/segm_mAP' in run('test', config, folder / 'epoch_3.pth', '--work-dir', tmp_path / 'test')
    words = ('detection', config, folder / 'epoch_3.pth', '--device', 'cpu', '--out', tmp_path, '--indices', 0, 2)
    run('analyze', *words, '--score', 0.0)
    found = json.loads((tmp_path / 'detection.json').read_text())['models']['config']
    assert len(found) == 2
    assert all(len(image['boxes']) == len(image['scores']) == len(image['labels']) > 0 for image in found)
    assert (tmp_path / 'detection.png').stat().st_size > 5000
    run('analyze', *words, '--score', 1.01)
    found = json.loads((tmp_path / 'detection.json').read_text())['models']['config']
    assert [image['boxes'] for image in found] == [[], []]
    assert 'the images 0 to 3' in run('analyze', *words[:-1], 4, status=1)


def test_the_truth_of_an_image_is_in_the_pixels_of_its_file(trained):
    from mmdet.registry import DATASETS

    from mm_graft.analysis.detection_figure import truth
    init_default_scope('mmdet')
    data = DATASETS.build(Config.fromfile(trained[0]).test_dataloader.dataset)
    objects = truth(data, 1)
    assert objects.masks.shape == (2, 64, 64)
    assert objects.scores is None
    for mask, (left, top, right, bottom) in zip(objects.masks, objects.boxes.astype(int)):
        assert mask[top:bottom, left:right].sum() == mask.sum() > 0
    assert sorted(objects.labels.tolist()) == [0, 1]
