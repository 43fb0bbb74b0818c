"""Tiny models and files that several tests of the foundation share."""

import torch

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}
VIT = dict(arch=ARCH, img_size=32, patch_size=8)
PREPROCESSOR = dict(type='SelfSupDataPreprocessor', mean=[0., 0., 0.], std=[1., 1., 1.])


def mlp(num_layers: int) -> dict:
    return dict(type='NonLinearNeck', in_channels=16, hid_channels=16, out_channels=16, num_layers=num_layers,
                with_bias=False, with_last_bn=True, with_last_bn_affine=False, with_last_bias=False,
                with_avg_pool=False)


def contrastive(temperature: float = 0.2) -> dict:
    """What MoCo v3 has around the backbone."""
    return dict(
        data_preprocessor=PREPROCESSOR,
        neck=mlp(3),
        head=dict(type='MoCoV3Head', predictor=mlp(2), temperature=temperature,
                  loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature)))


def grafted_mocov3(mim_checkpoint: str | None = None, momentum: float = 0.99, **backbone) -> dict:
    return dict(type='mm_graft.GraftedMoCoV3', mim_checkpoint=mim_checkpoint, momentum=momentum,
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
