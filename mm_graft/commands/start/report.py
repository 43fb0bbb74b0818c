"""The page that `mm_graft start` ends with: curves, pictures and numbers, before training and after each part of it."""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from mm_graft.analysis.gallery import draw_gallery, nearest_images
from mm_graft.analysis.page import Section, render
from mm_graft.analysis.patch_pca import draw_patch_pca
from mm_graft.analysis.reconstruction import read_readable, reconstruct, visible
from mm_graft.analysis.reconstruction_figure import draw as draw_reconstructions
from mm_graft.analysis.training_curves import draw_curves, draw_measures, read_scalars
from mm_graft.checkpoints.model_weights import load_model
from mm_graft.commands.start.configs import last_checkpoint
from mm_graft.commands.start.labels import class_features, labeled, to_tensor
from mm_graft.encoders import Encoder, build_encoder, load_encoder
from mm_graft.equations import evenly_spaced
from mm_graft.evaluation.datasets import reading_of
from mm_graft.evaluation.label_free import label_free_measures
from mm_graft.files import write_text
from mm_graft.host.first_weights import initialize
from mm_graft.image_folders import ImageList

LOOKED_AT = 200  # images that the measures and the gallery take
SHOWN = 6  # images in a picture
MEASURES = {'rank_me': 'RankMe', 'lidar': 'LiDAR', 'alpha_req': 'α-ReQ'}


def write_report(stages: list[Config], images: ImageList, given: str | None, labels: tuple[str | None, str | None],
                 out: Path, command: str) -> Path:
    """Look at the encoder before and after each training, and write ``report.html``; its path.

    The first training started from the checkpoint ``given``, or from random weights. ``labels`` are folders of images
    of known classes, if any: to learn from, and to score on.
    """
    encoders = load_encoders(stages, given)
    size = next(iter(encoders.values())).image_size
    pixels = readable([Path(images.root) / name for name in images.names], size, **channels_of(stages[-1]))
    features = {name: class_features(encoder, pixels) for name, encoder in encoders.items()}
    sections = [measures(encoders, features, pixels), progress(stages)]
    if labels[0]:
        sections += labeled(encoders, *labels, size, **channels_of(stages[-1]))
    sections += [*reconstructions(stages, pixels), patches(encoders, pixels), gallery(features, visible(pixels)),
                 curves(stages)]
    page = out / 'report.html'
    write_text(page, render(f'An encoder for {Path(images.root).name}', str(images), sections, command))
    return page


def load_encoders(stages: list[Config], given: str | None) -> dict[str, Encoder]:
    """The encoder before training and after each part of it, by what it is called on the page."""
    cfg = stages[-1]
    if given:
        encoders = {'given weights': load_encoder(cfg, given, resize=True, channels=True)}
    else:
        encoders = {'random weights': untrained(cfg)}
    for stage in stages:
        encoders[f'after {Path(stage.work_dir).name}'] = load_encoder(cfg, last_checkpoint(stage))
    return encoders


def untrained(cfg: Config) -> Encoder:
    """The encoder with random weights."""
    torch.manual_seed(cfg.randomness.seed)
    encoder = build_encoder(cfg)
    initialize(encoder)
    return encoder.eval()


def channels_of(cfg: Config) -> dict:
    """How a config reads channels, as ``read_images`` takes it; nothing for RGB of eight bits."""
    reading = reading_of(cfg)
    return {'channels': reading['channels'], 'reading': reading} if 'channels' in reading else {}


def readable(paths: list[Path], size: tuple[int, int], count: int = LOOKED_AT, **channels: object) -> np.ndarray:
    """Centers of up to ``count`` images, evenly spread over the list, (N, H, W, 3); unreadable ones are left out."""
    return read_readable(paths[::max(1, len(paths) // count)][:count], size, **channels)[0]


def measures(encoders: dict[str, Encoder], features: dict[str, np.ndarray], pixels: np.ndarray) -> Section:
    """Label-free measures of every encoder."""
    found = [label_free_measures(encoder.encode_pixels, to_tensor(pixels), torch.from_numpy(features[name]))
             for name, encoder in encoders.items()]
    rows = [['measure', *encoders]]
    rows += [[name, *(values.get(key, '–') for values in found)] for key, name in MEASURES.items()]
    return Section('Without labels', 'RankMe and LiDAR count the directions that the features use, LiDAR only those '
                   'that cropping does not change: more is better, as long as one method is compared with itself. '
                   f'α-ReQ is the decay of the spectrum; near 1 is good. {len(pixels)} images.', rows)


def progress(stages: list[Config]) -> Section:
    """The same measures during the trainings, on fewer images, as the hook logged them."""
    runs = {Path(cfg.work_dir).name: read_scalars(cfg.work_dir, next(iter(MEASURES))) for cfg in stages}
    return Section('During training', 'The same measures, epoch by epoch, on fewer images.',
                   figure=draw_measures(runs, MEASURES), alternative='label-free measures over the epochs')


def reconstructions(stages: list[Config], pixels: np.ndarray) -> list[Section]:
    """What masked autoencoding fills in, if it was trained."""
    sections = []
    for cfg in stages:
        if Path(cfg.work_dir).name == 'mae':
            model, _ = load_model(cfg, last_checkpoint(cfg))
            torch.manual_seed(0)
            figure = draw_reconstructions(reconstruct(model, pixels[evenly_spaced(len(pixels), 3)]))
            sections.append(Section('Filled in', 'What masked autoencoding predicts where three quarters of each image '
                                    'are hidden.', figure=figure, alternative='reconstructions'))
    return sections


@torch.no_grad()
def patches(encoders: dict[str, Encoder], pixels: np.ndarray) -> Section:
    """Principal components of patches."""
    shown = pixels[evenly_spaced(len(pixels), SHOWN)]
    tokens = {name: encoder.patch_tokens(to_tensor(shown)).float().numpy() for name, encoder in encoders.items()}
    figure = draw_patch_pca(visible(shown), tokens, next(iter(encoders.values())).grid)
    return Section('Patches', 'The three strongest components of the patch features as colors: what has one color is '
                   'alike for the encoder.', figure=figure, alternative='principal components of patch features')


def gallery(features: dict[str, np.ndarray], pixels: np.ndarray) -> Section:
    """Nearest images before and after."""
    chosen = evenly_spaced(len(pixels), SHOWN).tolist()
    ends = [next(iter(features)), list(features)[-1]]
    k = min(5, len(pixels) - 1)
    found = {name: nearest_images(features[name], chosen, k) for name in ends}
    return Section('Neighbors', 'Each image beside those that the encoder finds most alike.',
                   figure=draw_gallery(pixels, chosen, found), alternative='nearest images')


def curves(stages: list[Config]) -> Section:
    """Losses and learning rates."""
    runs = {Path(cfg.work_dir).name: read_scalars(cfg.work_dir) for cfg in stages}
    return Section('Training', 'Loss, and the learning rate of each stage of the encoder.', figure=draw_curves(runs),
                   alternative='loss and learning rates')
