"""Every segmentation config takes a converted tiny checkpoint through the Runner's own hooks and learns from it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPERS, init_default_scope
from mmengine.structures import PixelData

from mm_graft.checkpoints import Origin, convert_file, detect_layout, read_checkpoint
from tests.test_configs import build

ROOT = Path(__file__).parents[1]
FOLDERS = ('configs/segmentation', 'configs/conmim/benchmarks', 'experiments/camvid/configs')
CONFIGS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob('*upernet*.py'))
ADE20K = [path for path in CONFIGS if 'ade20k' in path.name]
BASE, = (path for path in ADE20K if path.name.startswith('vit-base-p16_upernet'))
BACKBONES = {'localmim': 'mm_graft.VisiblePatchViT', 'conmim': 'mm_graft.ConMIMViT'}


def kind_of(path):
    """The layout of the checkpoints that a config starts from."""
    return 'conmim' if 'conmim' in path.name else 'mae' if 'camvid' in path.name else 'mocov3'


CASES = [*((path, kind_of(path)) for path in CONFIGS), (BASE, 'mae'), (BASE, 'localmim')]


def ids(value):
    return getattr(value, 'stem', value)


@pytest.fixture
def checkpoint(tmp_path):
    """A pre-trained model of 224 pixels in the layout of a method's authors, with weights of its own."""

    def make(backbone, kind):
        source = MODELS.build(dict(
            type=BACKBONES.get(kind, 'mmpretrain.VisionTransformer'), img_size=224,
            patch_size=backbone.patch_embed.projection.kernel_size[0], arch=backbone.arch_settings))
        tensors = {f'backbone.{name}': torch.randn_like(tensor) / 10 for name, tensor in source.state_dict().items()
                   if tensor.is_floating_point()}
        if kind == 'mocov3':
            tensors |= {name.replace('backbone.', 'momentum_encoder.module.0.'): torch.randn_like(tensor) / 10
                        for name, tensor in tensors.items()}
        torch.save({'state_dict': tensors}, tmp_path / 'host.pth')
        convert_file(Origin(tmp_path / 'host.pth'), tmp_path / 'converted.pth', kind)
        return tmp_path / 'converted.pth', tensors

    return make


def start(cfg, model, file, **options):
    """What the Runner's hooks do before the first iteration."""
    init_default_scope('mmseg')
    hook, = (HOOKS.build({**config, 'checkpoint': str(file), **options}) for config in [cfg.default_hooks.init])
    hook.before_train(SimpleNamespace(iter=0, model=model))


def batch(cfg, model):
    from mmseg.structures import SegDataSample
    side, classes = model.backbone.img_size[0], model.decode_head.num_classes
    images = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8)] * 2
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, classes, (1, side, side)))) for _ in images]
    return model.data_preprocessor(dict(inputs=images, data_samples=samples), True)


def last_qkv(backbone):
    return f'layers.{len(backbone.layers) - 1}.attn.qkv.weight'


def test_all_announced_configs_exist():
    assert len(ADE20K) == 6
    assert {kind for _, kind in CASES} == {'mocov3', 'mae', 'localmim', 'conmim'}


@pytest.mark.parametrize(('path', 'kind'), CASES, ids=ids)
def test_a_segmentation_config_loads_a_converted_checkpoint_and_takes_a_step(path, kind, checkpoint):
    cfg, model, optim_wrapper = build(path)
    file, tensors = checkpoint(model.backbone, kind)
    name = last_qkv(model.backbone)
    assert detect_layout(read_checkpoint(file)) == kind
    start(cfg, model, file)
    assert model.backbone.get_parameter(name).equal(tensors[f'backbone.{name}'])

    for group in optim_wrapper.optimizer.param_groups:
        group['lr'] = 1e-3
    before = model.backbone.get_parameter(name).detach().clone()
    loss, log = model.parse_losses(model._run_forward(batch(cfg, model), mode='loss'))
    optim_wrapper.update_params(loss)
    assert torch.isfinite(loss)
    assert not model.backbone.get_parameter(name).equal(before)
    assert ('aux.loss_ce' in log) == ('auxiliary_head' in cfg.model)


@pytest.mark.parametrize('path', [path for path in ADE20K if kind_of(path) == 'mocov3'], ids=ids)
def test_either_encoder_of_a_contrastive_checkpoint_is_taken(path, checkpoint):
    cfg, model, _ = build(path)
    file, tensors = checkpoint(model.backbone, kind_of(path))
    name = last_qkv(model.backbone)
    start(cfg, model, file, branch='momentum')
    assert model.backbone.get_parameter(name).equal(tensors[f'momentum_encoder.module.0.{name}'])


@pytest.mark.parametrize('path', ADE20K, ids=ids)
def test_a_segmentation_config_is_that_of_the_protocol(path):
    cfg = Config.fromfile(path)
    assert cfg.train_cfg.max_iters == 160000
    assert cfg.model.test_cfg == dict(mode='slide', crop_size=(512, 512), stride=(341, 341))
    assert cfg.optim_wrapper.type == 'mm_graft.AutocastOptimWrapper'
    assert cfg.optim_wrapper.constructor == 'mm_graft.GraftOptimWrapperConstructor'
    assert 0 < cfg.optim_wrapper.paramwise_cfg.layer_decay_rate < 1
    assert cfg.train_dataloader.dataset.type == 'ADE20KDataset'
    assert not cfg.model.backbone.final_norm
    assert len(cfg.model.backbone.out_indices) == 4
    assert cfg.default_hooks.init.resize


@pytest.fixture(params=[path for path in ADE20K if 'vit-base' in path.name], ids=ids)
def built(request):
    return build(request.param)


def test_half_precision_is_on(built):
    cfg, model, optim_wrapper = built
    seen = []
    for module in (model.backbone.layers[0].attn.proj, model.decode_head.conv_seg):
        module.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    wrapper = OPTIM_WRAPPERS.build(dict(type=cfg.optim_wrapper.type, optimizer=optim_wrapper.optimizer))
    with torch.no_grad(), wrapper.optim_context(model.eval()):
        model(torch.randn(1, 3, 64, 64))
    assert seen == [torch.bfloat16] * 2


def test_an_image_larger_than_the_crop_is_predicted_by_sliding(built, monkeypatch):
    from mmseg.structures import SegDataSample
    _, model, _ = built
    sides = []
    inner = model.encode_decode
    monkeypatch.setattr(
        model, 'encode_decode', lambda images, metas: sides.append(images.shape[-2:]) or inner(images, metas))
    sample = SegDataSample(metainfo=dict(ori_shape=(512, 600), img_shape=(512, 600), pad_shape=(512, 600)))
    result, = model.eval().test_step(
        dict(inputs=[torch.zeros(3, 512, 600, dtype=torch.uint8)], data_samples=[sample]))
    assert result.pred_sem_seg.data.shape == (1, 512, 600)
    assert sides == [(512, 512)] * 2
