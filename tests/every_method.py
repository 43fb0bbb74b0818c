"""A training step of every method as its config has it, in small widths; and of what only an override chooses."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from benchmarks.step import TrainingStep
from mm_graft.commands.configs import load_config
from tests.shrink import small

CONMIM = 'conmim/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k'
IBOT = 'dino/vit-b_mae2ibot'
# a config and overrides
METHODS = {name: (name, {}) for name in (
    'graft/vit-b_mae', 'graft/vit-b_mocov32mae_frozen', 'graft/vit-b_mae2mocov3', 'graft/vit-b_joint-mae-mocov3',
    'graft/vit-b_mae2simsiam', 'graft/vit-b_mae2barlowtwins', 'graft/vit-b_mae2vicreg',
    'graft/vit-b_mae2byol', 'graft/vit-b_mae2simclr', CONMIM,
    'localmim/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k',
    'localmim/localmim_swin-base_8xb256-amp-coslr-400e_in1k', 'refiner/vit-l_mae_heads',
    'refiner/vit-b_refined_own-images', IBOT,
    'dino/dino_vit-small-p16_8xb64-amp-coslr-100e_in1k', 'wsp/vit-b_mae2wsp', 'mixing/beit_vit-base_stage-lr',
    'mixing/simmim_swin-base_freezeout')} | {
    'conmim over the batch': (CONMIM, {'model.contrast.type': 'mm_graft.BatchDictionaryContrastLoss'}),
    'conmim filtered': (CONMIM, {'model.contrast.type': 'mm_graft.FilteredContrastLoss'}),
    'conmim by image': (CONMIM, {'model.contrast.type': 'mm_graft.InstanceContrastLoss', 'model.mask_generator': None}),
    'conmim of blocks': (CONMIM, {'model.mask_generator': dict(_delete_=True, type='mm_graft.BlockMask')}),
    'conmim without teacher': (CONMIM, {'model.teacher': None}),
    **{f'{name} of views from the device': (f'graft/vit-b_{config}', {
        'data_preprocessor.type': f'mm_graft.{kind}', 'train_dataloader.dataset.pipeline': [], **options})
       for name, config, kind, options in (
           ('graft', 'mae2mocov3', 'TwoViewPreprocessor', {}),
           ('vicreg', 'mae2vicreg', 'MultiCropPreprocessor', {
               'data_preprocessor.num_local': 2, 'data_preprocessor.local_size': (96, 96)}),
           ('joint', 'joint-mae-mocov3', 'ViewsAndImagePreprocessor', {}))},
    'balanced ibot': (IBOT, {'model.targets': dict(type='mm_graft.SinkhornKnopp')}),
}


def config_of(name: str) -> Config:
    """A method's config with a small model."""
    config, options = METHODS[name]
    cfg = load_config(str(Path(__file__).parents[1] / 'configs' / f'{config}.py'), options)
    cfg.model = ConfigDict(small(cfg.model.to_dict()))
    if cfg.optim_wrapper.type == 'AmpOptimWrapper':  # the host's, which takes a GPU
        cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=cfg.optim_wrapper.optimizer)
    return cfg


def training_step(name: str) -> TrainingStep:
    """The step of a method, of two images."""
    return TrainingStep(config_of(name), batch_size=2)
