"""What a training on one's own images should look like: a pure function from facts to settings and their reasons.

Nothing here is measured or read: :mod:`mm_graft.commands.start.facts` looks at the folder and the machine, so that the
choices can be tested for machines that are not at hand.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from mm_graft.commands.run_defaults import workers_for
from mm_graft.commands.start.speed import PLAIN, Speed, choose_rest, choose_views

VISIBLE = 0.25  # share of the patches that MAE encodes
SHARE_OF_PEAK = 0.4  # of the measured matrix product rate, in a whole training step
SHARE_OF_BFLOAT16, SHARE_IN_LOOKS = 0.24, 0.14  # of the rate in bfloat16 on a CPU; looks compute in float32
DECODE_SECONDS = 0.006  # a picture of some 500 pixels, decoded and cropped by one core
BUDGET_CPU = 2.0  # minutes of training where there is no GPU and no wish: a first look
MAE_SHARE = 0.6  # of the time, where both are trained
VIEWS = 1_200_000  # images that MAE sees on a GPU where nobody limits the time
ACTIVATIONS = 17  # numbers that a block keeps for the backward pass, per token and unit of width
GENTLER = 3  # the learning rate from given weights is so much lower, that they are not forgotten
LAUNCH = 1.2  # a step costs this much more than its matrix products at small batches


@dataclass(frozen=True)
class Folder:
    """What is in the folder."""

    images: int  #: readable pictures
    side: int  #: median of the shorter side, in pixels
    channels: 'Channels | None' = None  #: how the channels are read, if they are other than RGB of eight bits


@dataclass(frozen=True)
class Channels:
    """Images that keep their channels and depth."""

    mean: tuple[float, ...]  #: of each channel, in 0…255
    std: tuple[float, ...]  #: of each channel, in 0…255
    #: values that become 0 and 255, where the type of the files does not say it
    value_range: tuple[float, float] | None
    extensions: tuple[str, ...]  #: endings of the files


@dataclass(frozen=True)
class Machine:
    """What it is trained on."""

    device: str  #: 'cuda' or 'cpu'
    cores: int  #: that may be used
    memory: float  #: of the device (of the machine, on a CPU), in GiB
    flops: float  #: multiply-adds of matrix products, times two, a second
    bfloat16: bool  #: whether the device multiplies bfloat16 in hardware


@dataclass(frozen=True)
class Encoder:
    """A ViT: its name for the host, its size, and the patches it cuts images into."""

    name: str
    width: int
    blocks: int
    heads: int
    image_size: int
    patch_size: int
    backbone: dict | None = None  #: config of one that is given by a checkpoint
    pixels: dict | None = None  #: mean and standard deviation of the channels in 0…255 that it was trained with

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    def flops(self, tokens: int) -> float:
        """Of one image's forward pass with this many tokens: 2 · blocks · (12 N D² + 2 N² D)."""
        return 2.0 * self.blocks * (12 * tokens * self.width ** 2 + 2 * tokens ** 2 * self.width)


@dataclass(frozen=True)
class Stage:
    """One training: its name, length, warm-up and learning rate."""

    name: str  #: 'mae', 'graft', or 'continue' from given weights
    epochs: int  #: passes over the folder
    warmup: int  #: epochs of rising learning rate
    lr: float  #: largest learning rate, of the upper stage
    seconds: float  #: what it should take
    look_every: int  #: epochs between two measurements of the encoder


@dataclass(frozen=True)
class Plan:
    """Everything that was chosen, and why."""

    encoder: Encoder
    batch_size: int  #: images of a step
    workers: int  #: processes that read images
    autocast: bool  #: whether steps run in bfloat16
    stages: tuple[Stage, ...]  #: trainings in their order
    reasons: tuple[tuple[str, str, str], ...]  #: (what, value, why), in the order of printing
    device: str  #: what it is trained on
    steps_per_epoch: int  #: batches of the folder
    looked_at: int  #: images on which the encoder is measured during training
    channels: Channels | None = None  #: of the folder
    speed: Speed = PLAIN  #: how the steps are taken

    @property
    def seconds(self) -> float:
        """Of all trainings together."""
        return sum(stage.seconds for stage in self.stages)


TINY = Encoder('deit-tiny', 192, 12, 3, 224, 16)
SMALL = Encoder('deit-small', 384, 12, 6, 224, 16)
BASE = Encoder('deit-base', 768, 12, 12, 224, 16)


def make_plan(folder: Folder, machine: Machine, minutes: float | None = None, given: Encoder | None = None,
              without: Collection[str] = ()) -> Plan:
    """Choose encoder, batch, epochs and precision.

    Args:
        folder: what there is to learn from.
        machine: what it is trained on.
        minutes: limit for the trainings together; without it two on a CPU, none on a GPU.
        given: the encoder of a checkpoint to continue from: its width and patches are kept, and it is trained once.
        without: parts of the fast path on a GPU that are switched off.
    """
    if folder.images < 8:
        raise ValueError(f'{folder.images} readable images are too few to learn from; give a folder with at least 8')
    encoder, why_encoder = fit_size(given, folder, machine) if given else choose_encoder(folder, machine)
    batch, why_batch = choose_batch(folder, machine, encoder)
    names = ('continue', ) if given else ('mae', 'graft')
    on_gpu = machine.device == 'cuda'
    limit = BUDGET_CPU if minutes is None and not on_gpu else minutes
    speed, why_views = choose_views(machine.cores, folder.side, compute_seconds('graft', encoder, machine),
                                    folder.channels is not None, without) if on_gpu else (PLAIN, '')
    stages = tuple(choose_stage(name, names, folder, machine, encoder, batch, limit, speed) for name in names)
    speed, parts = choose_rest(speed, why_views, sum(stage.seconds for stage in stages), given is not None,
                               without) if on_gpu else (replace(PLAIN, fused='fused' not in without), [])
    workers = workers_for(machine.cores, on_gpu)
    reasons = (
        ('encoder', f'{encoder.name}, {encoder.image_size}×{encoder.image_size} pixels, patches of '
         f'{encoder.patch_size}', why_encoder),
        ('batch', f'{batch} images', why_batch),
        *((stage.name, f'{stage.epochs} epoch{"s" * (stage.epochs > 1)} ({stage.warmup} of warm-up), learning rate '
           f'{stage.lr:.2g}', why_epochs(limit, minutes)) for stage in stages),
        ('precision', 'bfloat16' if machine.bfloat16 else 'float32',
         'in hardware' if machine.bfloat16 else f'this {machine.device} has no bfloat16 in hardware'),
        ('workers', str(workers), f'{machine.cores} cores'), *parts)
    return Plan(encoder, batch, workers, machine.bfloat16, stages, reasons, machine.device, folder.images // batch,
                looks(machine)[1], folder.channels, speed)


def choose_encoder(folder: Folder, machine: Machine) -> tuple[Encoder, str]:
    """The largest encoder that the data and the device are good for, and image and patch size to go with it."""
    if machine.device != 'cuda':
        side = max(16, min(96, folder.side // 16 * 16))
        return replace(TINY, image_size=side, patch_size=patch_for(side)), 'small enough for a CPU'
    side = max(32, min(224, folder.side // 16 * 16))
    size = BASE if folder.images >= 500_000 and machine.memory >= 30 else SMALL if folder.images >= 2_000 else TINY
    return replace(size, image_size=side, patch_size=patch_for(side)), f'for {folder.images:,} images on a GPU'


def fit_size(given: Encoder, folder: Folder, machine: Machine) -> tuple[Encoder, str]:
    """A given encoder at an image size that pictures and device are good for, at most its own."""
    most = min(given.image_size, folder.side, 224 if machine.device == 'cuda' else 96)
    side = max(2, most // given.patch_size) * given.patch_size
    return replace(given, image_size=side), 'of the checkpoint' + (
        '' if side == given.image_size else f', whose positions are for {given.image_size} pixels and are resampled')


def patch_for(side: int) -> int:
    """Patches that cut a side into 4 to 14."""
    return 16 if side >= 96 else 8 if side >= 32 else 4


def choose_batch(folder: Folder, machine: Machine, encoder: Encoder) -> tuple[int, str]:
    """A power of two with at least four steps an epoch, as large as memory and sense allow."""
    numbers = 2 * ACTIVATIONS * encoder.blocks * (encoder.patches + 1) * encoder.width  # two views
    room = max(1, int(0.7 * machine.memory * 2 ** 30 / (numbers * (2 if machine.bfloat16 else 4))))
    most = 256 if machine.device == 'cuda' else 64
    batch = 2 ** int(math.log2(max(2, min(most, room, folder.images // 4))))
    if batch == most:
        return batch, 'as large as it helps'
    return batch, 'four steps an epoch' if folder.images // 4 <= room else f'{machine.memory:.0f} GiB of memory'


def compute_seconds(name: str, encoder: Encoder, machine: Machine) -> float:
    """What the device needs for one image of a training step; backward costs twice the forward pass.

    MAE encodes a quarter of the patches and decodes all of them at half the width; the graft encodes two views with
    gradient and two without.
    """
    tokens = encoder.patches + 1
    if name == 'mae':
        decoder = replace(encoder, width=encoder.width // 2, blocks=4)
        work = 3 * (encoder.flops(round(VISIBLE * encoder.patches) + 1) + decoder.flops(tokens))
    else:
        work = (3 * 2 + 2) * encoder.flops(tokens)
    return LAUNCH * work / (share_of_peak(machine) * machine.flops)


def share_of_peak(machine: Machine, looking: bool = False) -> float:
    """How much of the matrix product rate a training step, or a look at the encoder, gets."""
    if machine.device == 'cpu' and machine.bfloat16:
        return SHARE_IN_LOOKS if looking else SHARE_OF_BFLOAT16
    return SHARE_OF_PEAK


def seconds_per_image(name: str, folder: Folder, encoder: Encoder, machine: Machine, speed: Speed) -> float:
    """A training step's time for one image: a GPU computes while the cores read, a CPU does one after the other."""
    compute = compute_seconds(name, encoder, machine)
    if machine.device == 'cuda':
        return max(compute, speed.reading(name, folder.side, machine.cores))
    return compute + (DECODE_SECONDS + 0.002 * (1 if name == 'mae' else 2)) / max(1, machine.cores - 1)


def choose_stage(name: str, names: tuple[str, ...], folder: Folder, machine: Machine, encoder: Encoder, batch: int,
                 minutes: float | None, speed: Speed) -> Stage:
    """Epochs that fit into a share of the time, or enough images seen, and what follows from them."""
    used = folder.images // batch * batch
    epoch = used * seconds_per_image(name, folder, encoder, machine, speed)
    share = 1.0 if len(names) == 1 else MAE_SHARE if name == 'mae' else 1 - MAE_SHARE
    wanted = math.ceil(min(1600, max(100, math.ceil(VIEWS / used))) / (1 if name == 'mae' else 2))
    times, images = looks(machine)
    # a look encodes its images, and half of them four times more
    looking = (times + 1) * 3 * images * encoder.flops(encoder.patches + 1) / (
        share_of_peak(machine, looking=True) * machine.flops)
    epochs = wanted if minutes is None else max(1, min(wanted, int((share * minutes * 60 - looking) / epoch)))
    warmup = min(40, math.ceil(epochs / 10)) if epochs > 1 else 0
    lr = 1.5e-4 * batch / 256 if machine.device == 'cuda' else 1e-3 * math.sqrt(batch / 64)
    if name == 'continue':
        lr /= GENTLER
    return Stage(name, epochs, warmup, lr, epochs * epoch + looking, math.ceil(epochs / times))


def looks(machine: Machine) -> tuple[int, int]:
    """How often during a training the encoder is measured, and on how many images."""
    return (20, 500) if machine.device == 'cuda' else (4, 48)


def why_epochs(limit: float | None, asked: float | None) -> str:
    """Where the number of epochs comes from."""
    if limit is None:
        return 'enough images seen; --minutes N limits the time'
    return f'--minutes {asked:g}' if asked is not None else \
        f'a first look of {limit:g} minutes on a CPU; --minutes 60 is a real run'
