"""Tiny models and files that several tests of the foundation share."""

from types import SimpleNamespace

import torch
from mmpretrain.structures import DataSample

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}
VIT = dict(arch=ARCH, img_size=32, patch_size=8)
PREPROCESSOR = dict(type='SelfSupDataPreprocessor', mean=[0., 0., 0.], std=[1., 1., 1.])


def mlp(num_layers: int) -> dict:
    return dict(type='NonLinearNeck', in_channels=16, hid_channels=16, out_channels=16, num_layers=num_layers,
                with_bias=False, with_last_bn=True, with_last_bn_affine=False, with_last_bias=False,
                with_avg_pool=False, norm_cfg=dict(type='BN1d'))


def contrastive(temperature: float = 0.2) -> dict:
    """What MoCo v3 has around the backbone."""
    return dict(
        data_preprocessor=PREPROCESSOR,
        neck=mlp(3),
        head=dict(type='MoCoV3Head', predictor=mlp(2), temperature=temperature,
                  loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature)))


def grafted_mocov3(momentum: float = 0.99, **backbone) -> dict:
    return dict(type='mm_graft.GraftedMoCoV3', momentum=momentum,
                backbone=dict(type='mm_graft.GraftViT', **VIT) | backbone, **contrastive())


def classifier() -> dict:
    return dict(type='ImageClassifier', backbone=dict(type='VisionTransformer', **VIT),
                head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16,
                          loss=dict(type='CrossEntropyLoss')))


def mae(**backbone) -> dict:
    return dict(
        type='MAE', data_preprocessor=PREPROCESSOR, backbone=dict(type='MAEViT', **VIT) | backbone,
        neck=dict(type='MAEPretrainDecoder', num_patches=16, patch_size=8, embed_dim=16, decoder_embed_dim=8,
                  decoder_depth=1, decoder_num_heads=2),
        head=dict(type='MAEPretrainHead', norm_pix=True, patch_size=8,
                  loss=dict(type='PixelReconstructionLoss', criterion='L2')))


NNA_HEAD = dict(type='mm_graft.NNAHead', hid_channels=12, out_channels=8, predictor_channels=12,
            norm_cfg=dict(type='BN1d'), queue=dict(type='mm_graft.SupportQueue', length=16, num_neighbors=3),
            loss=dict(type='mm_graft.NNALoss', pairs='described'))


def refiner(head=None, backbone=None, **kwargs):
    """Config of a refiner with heads on blocks 1, 2 and 3 of 4."""
    tapped = dict(type='mm_graft.GraftViT', **VIT, out_indices=[1, 2, 3], out_type='cls_token', stop_grad_conv1=False)
    return dict(type='mm_graft.MIMRefiner', data_preprocessor=PREPROCESSOR, backbone={**tapped, **(backbone or {})},
                head={**NNA_HEAD, **(head or {})}, **{'momentum': 0.9, **kwargs})


def self_distillation(**changes):
    """Config of class, patch and KoLeo terms over 24 prototypes, with constant temperatures."""
    return {**dict(
        type='mm_graft.SelfDistillation', data_preprocessor=PREPROCESSOR, koleo_weight=0.1,
        backbone=dict(type='mm_graft.GraftViT', **VIT, out_type='raw', stop_grad_conv1=False),
        head=dict(type='mm_graft.DINOHead', out_channels=24, hid_channels=16, bottleneck_channels=8),
        mask_generator=dict(type='mm_graft.SpreadBlockMask', img_size=32, patch_size=8, min_patches=1),
        teacher_temperature=dict(start=0.04, end=0.04), momentum=0.9, end_momentum=0.9), **changes}


def differ(model: torch.nn.Module) -> torch.nn.Module:
    """Let the momentum encoder differ from what it follows, so that a test can tell the two."""
    with torch.no_grad():
        for parameter in model.momentum_encoder.module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def start_from(model: torch.nn.Module, checkpoint: str, **options) -> torch.nn.Module:
    """The model as a run gets it that starts from a checkpoint."""
    from mm_graft.engine.hooks.load_backbone_hook import LoadBackboneHook
    LoadBackboneHook(checkpoint, **options).before_train(SimpleNamespace(model=model, iter=0))
    return model


def mae_file(path, seed: int = 1, width: int = 16, layers: int = 4) -> str:
    """Write a file in the layout of MAE's authors, encoder and a bit of decoder, with weights of its own."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) / 5

    state = {'cls_token': draw(1, 1, width), 'pos_embed': draw(1, 17, width), 'mask_token': draw(1, 1, 8),
             'patch_embed.proj.weight': draw(width, 3, 8, 8), 'patch_embed.proj.bias': draw(width),
             'norm.weight': draw(width), 'norm.bias': draw(width), 'decoder_norm.weight': draw(8)}
    shapes = {'norm1.weight': (width, ), 'norm1.bias': (width, ), 'attn.qkv.weight': (3 * width, width),
              'attn.qkv.bias': (3 * width, ), 'attn.proj.weight': (width, width), 'attn.proj.bias': (width, ),
              'norm2.weight': (width, ), 'norm2.bias': (width, ), 'mlp.fc1.weight': (32, width),
              'mlp.fc1.bias': (32, ), 'mlp.fc2.weight': (width, 32), 'mlp.fc2.bias': (width, )}
    state |= {f'blocks.{i}.{name}': draw(*shape) for i in range(layers) for name, shape in shapes.items()}
    torch.save({'model': state}, path)
    return str(path)


def recorded_checkpoint(path, model: dict | None = None, **cfg) -> str:
    """Write a checkpoint of an untrained model that says how it was made, as a run does."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope
    init_default_scope('mmpretrain')
    cfg = Config(dict(model=model or grafted_mocov3(), **cfg))
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {'cfg': cfg.pretty_text}}, path)
    return str(path)


def vit_state(width: int = 16, depth: int = 4, patch: int = 8, tokens: int = 17, mlp: int = 32, seed: int = 1) -> dict:
    """A whole ViT in the names of MAE's authors and of timm."""
    generator = torch.Generator().manual_seed(seed)
    block = {'norm1': (width, ), 'attn.qkv': (3 * width, width), 'attn.proj': (width, width), 'norm2': (width, ),
             'mlp.fc1': (mlp, width), 'mlp.fc2': (width, mlp)}
    shapes = {'cls_token': (1, 1, width), 'pos_embed': (1, tokens, width), 'norm.weight': (width, ),
              'patch_embed.proj.weight': (width, 3, patch, patch), 'patch_embed.proj.bias': (width, ),
              'norm.bias': (width, )}
    for i in range(depth):
        shapes |= {f'blocks.{i}.{name}.weight': shape for name, shape in block.items()}
        shapes |= {f'blocks.{i}.{name}.bias': shape[:1] for name, shape in block.items()}
    return {name: torch.randn(shape, generator=generator) / 5 for name, shape in shapes.items()}


class Noise(torch.utils.data.Dataset):
    """Two views of noise, a function of the index."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        views = [torch.rand(3, 32, 32, generator=generator) for _ in range(2)]
        return {'inputs': views, 'data_samples': DataSample()}


def settings(model: dict, folder, paramwise_cfg: dict | None = None, epochs: int = 1, **kwargs) -> dict:
    """Arguments of a Runner that trains four steps an epoch."""
    defaults = dict(
        model=model, work_dir=str(folder), experiment_name=f'{folder.parent.name}_{folder.name}_{epochs}',
        train_dataloader=dict(batch_size=4, num_workers=0, dataset=Noise(), drop_last=True,
                              sampler=dict(type='DefaultSampler', shuffle=True),
                              collate_fn=dict(type='default_collate')),
        optim_wrapper=dict(constructor='mm_graft.GraftOptimWrapperConstructor',
                           paramwise_cfg=paramwise_cfg or dict(stage_lr_mult=[0.1, 1.0]),
                           optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1)),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs), default_scope='mmpretrain', log_level='ERROR',
        randomness=dict(seed=0), default_hooks=dict(logger=dict(type='LoggerHook', interval=1)))
    return defaults | kwargs
