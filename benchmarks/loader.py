"""Throughput of a config's data pipeline: images per second of a core, and where the time goes."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from torch.utils.data import DataLoader, Dataset

from benchmarks.batch import pipeline_of
from benchmarks.clock import PhaseClock

SUFFIXES = ('.jpg', '.jpeg', '.png')


class TimedTransform:
    """A transform, each of whose calls is a phase under its class's name; transforms inside it are timed as well.

    Args:
        transform: what is called.
        clock: where the time goes.
    """

    def __init__(self, transform: object, clock: PhaseClock):
        self.name = type(transform).__name__
        self.transform, self.clock = transform, clock
        time_inside(transform, clock)

    def __call__(self, results: dict) -> dict | None:
        with self.clock.phase(self.name):
            return self.transform(results)


def time_inside(owner: object, clock: PhaseClock) -> None:
    """Replace the transforms that ``owner`` holds by timed ones, through every kind of composition."""
    held = getattr(owner, 'transforms', None)
    if isinstance(held, list | tuple):
        for item in held:
            if is_composition(item):
                time_inside(item, clock)
        owner.transforms = [item if is_composition(item) or isinstance(item, TimedTransform)
                            else TimedTransform(item, clock) for item in held]
    elif held is not None:
        time_inside(held, clock)


def is_composition(item: object) -> bool:
    """Whether an object only runs others in turn (mmengine and mmcv have such a class each)."""
    return type(item).__name__ == 'Compose'


class Samples(Dataset):
    """What the pipeline makes of each of a number of samples.

    Args:
        infos: what the pipeline starts from.
        pipeline: called with a copy.
    """

    def __init__(self, infos: list[dict], pipeline: Compose):
        self.infos, self.pipeline = infos, pipeline

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: int) -> dict:
        return self.pipeline(dict(self.infos[index]))


def make_photos(folder: Path, number: int, size: tuple[int, int] = (375, 500)) -> list[Path]:
    """Write JPEGs (quality 90) of smooth colors and fine grain; about as dear to decode as photographs."""
    random = np.random.default_rng(0)
    paths = [folder / f'{index:05d}.jpg' for index in range(number)]
    for path in paths:
        coarse = cv2.resize(random.integers(0, 256, (12, 16, 3), dtype=np.uint8), size[::-1],
                            interpolation=cv2.INTER_CUBIC)
        grain = cv2.GaussianBlur(random.normal(0, 24, (*size, 3)), (0, 0), 0.8)
        cv2.imwrite(str(path), np.clip(coarse + grain, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def infos_of(paths: Iterable[Path]) -> list[dict]:
    """What image data sets hand to their pipelines, for files."""
    return [{'img_path': str(path), 'gt_label': 0, 'sample_idx': index} for index, path in enumerate(paths)]


def infos_from(cfg: Config, number: int) -> list[dict]:
    """The first samples of a config's training set, before its pipeline."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return [dataset.get_data_info(index) for index in range(min(number, len(dataset)))]


def measure_loader(cfg: Config, number: int, folder: Path | None = None, synthetic: bool = False,
                   workers: int = 0) -> dict:
    """Run a config's training pipeline over ``number`` samples, on one core and, if asked, with a loader's processes.

    Args:
        cfg: a training config.
        number: samples.
        folder: images to take instead of the config's data set.
        synthetic: generate images instead.
        workers: processes of the loader; 0 leaves this out.

    Raises:
        ValueError: the config has no pipeline, or the folder no images.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    if not pipeline_of(cfg):
        raise ValueError('the config has no train_dataloader.dataset.pipeline, so there is nothing to measure')
    with tempfile.TemporaryDirectory() as made:
        if synthetic:
            infos = infos_of(make_photos(Path(made), number))
        elif folder:
            infos = infos_of(sorted(path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES)[:number])
        else:
            infos = infos_from(cfg, number)
        if not infos:
            raise ValueError(f'no images ({", ".join(SUFFIXES)}) in {folder}; name another folder, or use --synthetic')
        return {**one_core(cfg, infos), **(many_processes(cfg, infos, workers) if workers else {})}


def build_pipeline(cfg: Config) -> Compose:
    """The training pipeline of a config."""
    return Compose([TRANSFORMS.build(step) for step in pipeline_of(cfg)])


def one_core(cfg: Config, infos: list[dict]) -> dict:
    """Images per second of one thread, and milliseconds an image by transform."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    clock, pipeline = PhaseClock(), build_pipeline(cfg)
    time_inside(pipeline, clock)
    samples = Samples(infos, pipeline)
    samples[0]
    warm = len(clock.steps())
    start = time.perf_counter()
    for index in range(len(samples)):
        samples[index]
    seconds = time.perf_counter() - start
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])
    totals: dict[str, float] = defaultdict(float)
    for step in clock.steps()[warm:]:
        for name, value in step.items():
            totals[name] += value / len(samples)
    return {'images_per_s_per_core': len(samples) / seconds, 'images': len(samples),
            'transforms_ms': dict(sorted(totals.items(), key=lambda item: -item[1]))}


def many_processes(cfg: Config, infos: list[dict], workers: int) -> dict:
    """Images per second of a loader with processes of its own, start-up included."""
    loader = DataLoader(Samples(infos, build_pipeline(cfg)), cfg.train_dataloader.batch_size, num_workers=workers,
                        collate_fn=list)
    start = time.perf_counter()
    images = sum(len(batch) for batch in loader)
    return {'images_per_s': images / (time.perf_counter() - start), 'workers': workers}
