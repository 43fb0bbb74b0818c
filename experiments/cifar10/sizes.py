"""The sizes of the experiment: ``cpu``, as the configs stand; ``long``, all images for it; ``full``, for a GPU."""

from pathlib import Path

from mmengine.config import Config

CONFIGS = Path(__file__).with_name('configs')
IMAGES = {'full': 50000, 'long': 50000, 'cpu': 5000}
EPOCHS = {'full': 20, 'long': 2, 'cpu': 6}  # of a method in one step; one in two steps has half of them for each

ALL_IMAGES = {'train_dataloader.dataset.ann_file': '', 'test_dataloader.dataset.ann_file': ''}
LONG = {**ALL_IMAGES, 'train_dataloader.batch_size': 128, 'param_scheduler.warmup': 0.25}
# a ViT-Ti: 12 blocks of width 192
DATA = {**ALL_IMAGES, 'train_dataloader.batch_size': 1024, 'train_dataloader.num_workers': 12,
        'test_dataloader.num_workers': 12}
LENGTH = {'train_cfg.max_epochs': EPOCHS['full'], 'param_scheduler.warmup': 2}
ENCODER = {'model.backbone.arch.embed_dims': 192, 'model.backbone.arch.num_layers': 12,
           'model.backbone.arch.num_heads': 3, 'model.backbone.arch.feedforward_channels': 768}
PROJECTOR = {'model.neck.in_channels': 192, 'model.neck.hid_channels': 1024, 'model.neck.out_channels': 128}
CONTRAST = {**PROJECTOR, 'model.head.predictor.in_channels': 128, 'model.head.predictor.hid_channels': 1024,
            'model.head.predictor.out_channels': 128, 'model.data_preprocessor.size': (32, 32)}
FULL = {
    'mae': {**DATA, **LENGTH, **ENCODER, 'model.neck.embed_dim': 192, 'model.neck.decoder_embed_dim': 96,
            'model.neck.decoder_depth': 2, 'model.head.norm_pix': True},
    'mocov3': {**DATA, **LENGTH, **ENCODER, **CONTRAST},
    'joint': {**DATA, **LENGTH, **ENCODER, **CONTRAST, 'model.decoder.embed_dim': 192,
              'model.decoder.decoder_embed_dim': 96, 'model.decoder.decoder_depth': 2,
              'model.pixel_head.norm_pix': True},
    'localmim': {**DATA, **LENGTH, **ENCODER, 'model.backbone.taps': [4, 8, 12], 'model.neck.in_channels': 192,
                 'model.neck.embed_dims': 96},
    'conmim': {**DATA, **LENGTH, **ENCODER, **PROJECTOR},
    'finetune': {**DATA, **ENCODER, 'model.head.in_channels': 192, 'train_dataloader.batch_size': 512,
                 'auto_scale_lr.base_batch_size': 512, 'optim_wrapper.optimizer.lr': 2e-3, 'train_cfg.max_epochs': 10,
                 'train_cfg.val_interval': 10, 'val_dataloader.num_workers': 12,
                 'val_dataloader.dataset.ann_file': ''},
}
FULL['mocov32mae_frozen'] = {**FULL['mae'], 'train_cfg.max_epochs': EPOCHS['full'] // 2}
FULL['mae2mocov3'] = {**FULL['mocov3'], 'train_cfg.max_epochs': EPOCHS['full'] // 2}
FULL['localmim_freezeout'] = FULL['localmim']


def overrides(name: str, scale: str) -> dict:
    """What a size changes in a config, by dotted key."""
    return {'full': FULL[name], 'long': LONG, 'cpu': {}}[scale]


def as_options(changes: dict) -> list[str]:
    """Overrides as words behind ``--cfg-options``."""
    return [f'{key}={str(value).replace(" ", "")}' for key, value in changes.items()]


def read_config(name: str, scale: str) -> Config:
    """A config of the experiment in one of its sizes."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.merge_from_dict(overrides(name, scale))
    return cfg
