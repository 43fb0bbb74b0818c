"""A training step of each method, small, in bf16 with all that a config turns on."""

from mmengine.config import Config

from benchmarks.step import TrainingStep
from tests import tiny
from tests.engine.freezing.freezeout_runs import conmim, localmim, mae, mlp, moco

VIEWS = [dict(type='MultiView', num_views=2, transforms=[[]])]
DEVICE_VIEWS = dict(type='mm_graft.TwoViewPreprocessor', mean=[100.] * 3, std=[50.] * 3, blur_sigma=(0.1, 0.5))


def graft(**kwargs):
    return moco('mm_graft.GraftedMoCoV3', 'mm_graft.GraftViT', **kwargs)


def around_vit(kind, head, layers=2):
    return dict(type=kind, data_preprocessor=tiny.PREPROCESSOR, backbone=dict(type='mm_graft.GraftViT', **tiny.VIT),
                neck=mlp(layers), head=head)


METHODS = {
    'mae': (mae(), []), 'localmim': (localmim(), []), 'conmim': (conmim(), VIEWS), 'graft': (graft(), VIEWS),
    'device views': ({**graft(), 'data_preprocessor': DEVICE_VIEWS}, []),
    'simclr': (around_vit('SimCLR', dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'))), VIEWS),
    'vicreg': (around_vit('mm_graft.GraftedVICReg', dict(type='mm_graft.VICRegLoss')), VIEWS),
    'refiner': (tiny.refiner(), VIEWS),
    'self-distillation': (tiny.self_distillation(), VIEWS),
    'fine-tuning': (tiny.classifier() | {'data_preprocessor': dict(type='ClsDataPreprocessor', num_classes=2)}, []),
}


def training_step(name):
    model, views = METHODS[name]
    return TrainingStep(Config(dict(
        default_scope='mmpretrain', model=model, custom_hooks=[],
        train_dataloader=dict(batch_size=4, dataset=dict(type='ImageNet', pipeline=views)),
        optim_wrapper=dict(
            type='mm_graft.AutocastOptimWrapper', constructor='mm_graft.GraftOptimWrapperConstructor',
            paramwise_cfg=dict(stage_lr_mult=[1.0]), optimizer=dict(type='AdamW', lr=1e-3),
            clip_grad=dict(max_norm=1.)))))
