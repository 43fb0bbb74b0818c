"""Small configs of every method for runs that are interrupted; for programs that are started in this folder."""

import tiny
from engine.freezing import freezeout_runs

VIEWS = "dict(type='MultiView', num_views=[2], transforms=[view])"
ONE = "dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.3, 1.0)), dict(type='RandomFlip', prob=0.5)"
FREEZEOUT = """
param_scheduler = dict(type='mm_graft.FreezeOutLR', t0=0.5, schedule='linear', warmup=0.4, convert_to_iter_based=True)
optim_wrapper.update(paramwise_cfg=dict(by_depth=True))
custom_hooks += [dict(type='mm_graft.FreezeOutHook')]
"""
INIT = """
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='{folder}/mae.pth'))
"""
ACCUMULATED = """
optim_wrapper.update(accumulative_counts=2)
"""
ANCHOR = INIT + """
custom_hooks += [dict(type='mm_graft.WeightAnchor', weight=0.1, max_depth=2)]
"""
FINETUNE = """
custom_hooks += [dict(type='EMAHook', momentum=0.1)]
train_dataloader['dataset'].update(with_label=True)
val_dataloader = dict(
    batch_size=4, num_workers=2, persistent_workers=True, collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
        type='CustomDataset', data_root='{folder}/images', with_label=True,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')]))
val_cfg = dict()
val_evaluator = dict(type='Accuracy', topk=1)
default_hooks = dict(checkpoint=dict(save_best='auto'))
"""


DINO = INIT + """
optim_wrapper.update(clip_grad=dict(max_norm=3.0))
param_scheduler = [
    dict(type='mm_graft.WarmupCosineLR', warmup=1, convert_to_iter_based=True),
    dict(type='mm_graft.CosineWeightDecay', end_ratio=10.0, convert_to_iter_based=True)]
custom_hooks += [dict(type='mm_graft.HeldParametersHook', parts=['head.last_layer'], epochs=1)]
"""


def vicreg() -> dict:
    return dict(type='mm_graft.GraftedVICReg', data_preprocessor=tiny.PREPROCESSOR,
                backbone=dict(type='mm_graft.GraftViT', **tiny.VIT), neck=tiny.mlp(3),
                head=dict(type='mm_graft.VICRegLoss'))


def supervised() -> dict:
    return tiny.classifier() | dict(
        data_preprocessor=dict(type='ClsDataPreprocessor', num_classes=2, mean=[128.] * 3, std=[64.] * 3),
        train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]),
        head=tiny.classifier()['head'] | dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))


def method(name: str) -> tuple[dict, str, str]:
    """Model, crops of the pipeline and further lines of the config of a method."""
    return {
        'graft': (tiny.grafted_mocov3(drop_path_rate=0.2), VIEWS, ANCHOR),
        'vicreg': (vicreg(), VIEWS, INIT),
        'refiner': (tiny.refiner(), VIEWS, INIT),
        'mae': (tiny.mae(), ONE, ACCUMULATED),  # epochs of five iterations, which end within a step
        'localmim with FreezeOut': (freezeout_runs.localmim(), ONE, FREEZEOUT),
        'graft with FreezeOut': (tiny.grafted_mocov3(momentum=0.5), VIEWS, INIT + FREEZEOUT),
        'self-distillation': (tiny.self_distillation(teacher_temperature=dict(warmup=0.5)), VIEWS, DINO),
        'conmim': (freezeout_runs.conmim(), VIEWS, ''),
        'fine-tuning': (supervised(), ONE, FINETUNE),
    }[name]
