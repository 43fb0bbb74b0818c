"""From a plan to ordinary configs: files that the user owns, edits and runs again by ``mm_graft train``."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from mm_graft.commands.configs import content_root, set_init
from mm_graft.commands.start.plan import Channels, Encoder, Plan, Stage
from mm_graft.files import write_text

LEAVES = {'mae': 'graft/vit-s_mae_own-images.py', 'graft': 'graft/vit-s_mae2mocov3_own-images.py',
          'continue': 'continue/vit_own-images.py'}
FAST = {'mae': 'imagenet_mae_fast.py', 'graft': 'imagenet_two_views_fast.py', 'continue': 'imagenet_two_views_fast.py'}
TITLES = {'mae': 'MAE on your own images', 'graft': 'Layer grafting on your own images',
          'continue': 'Given weights, continued on your own images'}
# multiples of the learning rate by number of stages, of which the first divides the blocks
CONTINUED = {3: [0, 0.1, 1.0], 4: [0, 0.1, 1.0, 1.0], 2: [0, 1.0]}


def stage_config(leaf: Config, plan: Plan, stage: Stage, images: str, work_dir: Path, seed: int,
                 weights: str | None) -> Config:
    """The config of one training: the leaf for own images at the sizes of the plan.

    ``images`` is a folder, or a file with the path of an image a line; ``weights`` a file to start from, if any.
    """
    cfg = leaf.copy()
    encoder = plan.encoder
    cfg.model.backbone = encoder_config(cfg.model.backbone, encoder)
    cfg.train_dataloader.update(
        batch_size=plan.batch_size, num_workers=plan.workers, persistent_workers=plan.workers > 0,
        pin_memory=plan.device == 'cuda')
    listed = Path(images).is_file()
    cfg.train_dataloader.dataset.update(dict(data_root=str(Path(images).parent), ann_file=Path(images).name) if listed
                                        else dict(data_root=images))
    cfg.optim_wrapper.type = 'mm_graft.AutocastOptimWrapper' if plan.autocast else 'OptimWrapper'
    cfg.optim_wrapper.optimizer.update(lr=stage.lr, **({} if plan.speed.fused else {'fused': False}))
    cfg.param_scheduler.warmup = stage.warmup
    cfg.train_cfg.max_epochs = stage.epochs
    cfg.auto_scale_lr.base_batch_size = plan.batch_size
    cfg.default_hooks.checkpoint.update(interval=max(1, stage.epochs // 5), max_keep_ckpts=2)
    cfg.default_hooks.logger.interval = max(1, min(50, plan.steps_per_epoch))
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(
        type='mm_graft.OnlineKNNHook', interval=stage.look_every, at_start=True,
        probe=dict(type='mm_graft.LabelFreeProbe', images=plan.looked_at))]
    cfg.randomness.seed = seed
    cfg.work_dir = str(work_dir)
    if weights is not None:
        set_init(cfg, weights)
        cfg.default_hooks.init.update(resize=True, channels=plan.channels is not None)
    else:
        cfg.default_hooks.pop('init', None)
    make_fast(cfg, plan, stage)
    SIZES[stage.name](cfg, plan)
    if plan.channels:
        read_channels(cfg, plan, stage, plan.channels)
    return cfg


def make_fast(cfg: Config, plan: Plan, stage: Stage) -> None:
    """Take the parts of the fast path that a plan names: views, the last block, compiled blocks."""
    speed, size = plan.speed, plan.encoder.image_size
    reader = speed.reader(stage.name)
    if reader == 'opencv':
        base = Config.fromfile(content_root() / 'configs' / '_base_' / FAST[stage.name])
        cfg.train_dataloader.dataset.pipeline = base.train_pipeline
    elif reader == 'device':
        colors = {key: cfg.data_preprocessor[key] for key in ('mean', 'std', 'to_rgb')}
        cfg.data_preprocessor = dict(type='mm_graft.TwoViewPreprocessor', size=(size, size), **colors)
        cfg.train_dataloader.dataset.pipeline = [
            dict(type='mm_graft.TolerantLoadImageFromFile'), *square(size * 8 // 7), dict(type='PackInputs')]
    if speed.class_token_only and stage.name == 'graft':
        cfg.model.backbone.class_token_only = True
    if speed.compiled:
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type='mm_graft.CompileBlocksHook', check=True)]


def square(size: int) -> list[dict]:
    """The middle of an image, for views that are made on the device."""
    return [dict(type='mm_graft.ResizeToCover', scale=(size, size), interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=size)]


def encoder_config(backbone: ConfigDict, encoder: Encoder) -> ConfigDict:
    """The backbone of a leaf as the encoder of the plan, or the given one in its place, at the size of the plan."""
    if encoder.backbone is not None:
        return ConfigDict({**encoder.backbone, 'img_size': encoder.image_size})
    return ConfigDict({**backbone, 'arch': encoder.name, 'img_size': encoder.image_size,
                       'patch_size': encoder.patch_size})


def size_continued(cfg: Config, plan: Plan) -> None:
    """Views, projector and stages for a given encoder, and the normalization that it was trained with."""
    size_graft(cfg, plan)
    cfg.data_preprocessor.update(plan.encoder.pixels)
    rates = next((rates for stages, rates in CONTINUED.items() if plan.encoder.blocks % stages == 0), [1.0])
    cfg.optim_wrapper.paramwise_cfg.stage_lr_mult = rates


def read_channels(cfg: Config, plan: Plan, stage: Stage, channels: Channels) -> None:
    """Let a config read images of any number of channels; views lose what is for RGB alone: saturation, hue, gray."""
    count, size = len(channels.mean), plan.encoder.image_size
    if 'model_name' in cfg.model.backbone:  # timm's
        cfg.model.backbone.in_chans = count
    else:
        cfg.model.backbone.patch_cfg = dict(in_channels=count)
    cfg.train_dataloader.dataset.extensions = channels.extensions
    normalization = dict(mean=channels.mean, std=channels.std)
    loader = dict(type='mm_graft.LoadChannels', channels=count, value_range=channels.value_range)
    if stage.name == 'mae':
        cfg.model.neck.in_chans = cfg.model.head.in_channels = count
        cfg.data_preprocessor = dict(type='mm_graft.ChannelPreprocessor', **normalization)
        views = [dict(type='mm_graft.FastCrop', scale=size, crop_ratio_range=(0.2, 1.0), interpolation='bicubic')]
    else:
        cfg.data_preprocessor = dict(type='mm_graft.TwoViewPreprocessor', **normalization, jitter=(0.4, 0.4, 0.0, 0.0),
                                     gray_probability=0.0, solarize_probability=(0.0, 0.0))
        views = square(size)
    cfg.train_dataloader.dataset.pipeline = [loader, *views, dict(type='PackInputs')]


def size_mae(cfg: Config, plan: Plan) -> None:
    """Decoder and views of masked autoencoding for the encoder."""
    encoder = plan.encoder
    cfg.model.neck.update(
        grid=encoder.image_size // encoder.patch_size, patch_size=encoder.patch_size, embed_dim=encoder.width,
        decoder_embed_dim=encoder.width // 2, decoder_depth=4, decoder_num_heads=encoder.heads)
    cfg.model.head.patch_size = encoder.patch_size
    set_crops(cfg.train_dataloader.dataset.pipeline, encoder.image_size)


def size_graft(cfg: Config, plan: Plan) -> None:
    """Projector, predictor and views of contrastive learning for the encoder."""
    encoder = plan.encoder
    cfg.model.neck.update(in_channels=encoder.width, hid_channels=min(4096, 4 * encoder.width))
    cfg.model.head.predictor.hid_channels = min(4096, 4 * encoder.width)
    set_crops(cfg.train_dataloader.dataset.pipeline, encoder.image_size)


def set_crops(node: object, size: int) -> None:
    """Let all random crops of a pipeline have this size."""
    if isinstance(node, dict):
        if node.get('type') in ('RandomResizedCrop', 'mm_graft.FastCrop'):
            node['scale'] = size
        node = list(node.values())
    if isinstance(node, list | tuple):
        for part in node:
            set_crops(part, size)


SIZES = {'mae': size_mae, 'graft': size_graft, 'continue': size_continued}


def last_checkpoint(cfg: Config) -> Path:
    """The file that a finished training ends with."""
    return Path(cfg.work_dir) / f'epoch_{cfg.train_cfg.max_epochs}.pth'


def write_config(cfg: Config, plan: Plan, stage: Stage, path: Path) -> None:
    """Write a config with the reasons of its choices on top, where a user would change them."""
    reasons = '\n'.join(f'{what + ":":<11}{value} ({why})' for what, value, why in plan.reasons
                        if what not in {other.name for other in plan.stages} - {stage.name})
    text = f'"""{TITLES[stage.name]}, as `mm_graft start` planned it; yours to change.\n\n{reasons}\n\n' \
           f'Again:     mm_graft train {path}\n"""\n\n'
    write_text(path, text + cfg.pretty_text)
