"""Our steps, and those of the same methods in mmpretrain's own parts."""

from collections.abc import Callable, Iterator

from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.registry import TRANSFORMS

from benchmarks.batch import CROPS, kind
from benchmarks.clock import PhaseClock
from benchmarks.loader import infos_of
from benchmarks.peers.contest import OURS, Entry, Size
from benchmarks.step import TrainingStep
from benchmarks.table import CONFIGS, ROOT, Variant, config_of
from mm_graft.engine.freezing.freeze_once import freeze_blocks
from mm_graft.nested import nodes

SIMCLR = 'SimCLR'
HOST = 'mmpretrain'
PIPELINES = {'MAE': 'imagenet_mae', 'LocalMIM': 'imagenet_mae', 'ConMIM': 'imagenet_paired_views',
             'MoCo v3': 'imagenet_two_views', SIMCLR: 'imagenet_two_views'}


def entries(method: str, size: Size) -> Iterator[Entry]:
    """Ours, and the host's as far as it has the method, each also with what makes it faster by one key."""
    load = loader(method, size, '_fast')
    yield Entry(OURS, '', training(method, size, Variant('')), load)
    if method == 'MoCo v3':
        yield Entry(f'{OURS}, `class_token_only`', '', training(method, size, Variant('', lean=True)), load)
        half = Variant('', frozen=size.blocks // 2)
        yield Entry(f'{OURS}, lower half frozen', '', training(method, size, half), load)
    if method != 'LocalMIM':
        load = loader(method, size)
        yield Entry(HOST, '', training(method, size, Variant('', plain=True)), load)
        yield Entry(HOST, 'fused AdamW', training(method, size, Variant('', plain=True), fused=True), load)


def training(method: str, size: Size, variant: Variant, fused: bool = False) -> Callable[[], None]:
    """A function that takes one training step; the host's attention is fused in any case.

    Args:
        method: a name of ``PIPELINES``.
        size: of model, images and batch.
        variant: whose parts.
        fused: the host's AdamW in one kernel; ours is by itself.
    """
    name = 'graft/vit-b_mae2simclr.py' if method == SIMCLR else CONFIGS[method]
    cfg = config_of(Config.fromfile(ROOT / 'configs' / name), method, variant, size.width, size.blocks, False)
    if method == SIMCLR and variant.plain:
        cfg.model.backbone.update(type='VisionTransformer', out_type='cls_token')
    if fused:
        cfg.optim_wrapper.optimizer.fused = True
    step = TrainingStep(cfg, size.batch, size.side)
    if variant.frozen:
        freeze_blocks(step.model, step.optim_wrapper.optimizer, variant.frozen)
    return lambda: step.step(PhaseClock())


def loader(method: str, size: Size, speed: str = '') -> Callable[[], dict]:
    """A function that makes a batch from files, with the host's pipeline, or with ours (``'_fast'``)."""
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / f'{PIPELINES[method]}{speed}.py')
    pipeline = cfg.train_pipeline
    for step in [node for _, node in nodes(pipeline) if isinstance(node, dict)]:
        if kind(step) in CROPS:
            step.scale = size.side
    made, infos = Compose([TRANSFORMS.build(step) for step in pipeline]), infos_of(size.photos)
    return lambda: default_collate([made(dict(info)) for info in infos[:size.batch]])
