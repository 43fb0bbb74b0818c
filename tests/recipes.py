"""The papers' and the authors' recipes of all configs: what :mod:`tests.test_recipes` compares the configs with."""

from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config

from mm_graft.commands.configs import load_config

CONFIGS = Path(__file__).parents[1] / 'configs'
GRAFT = [0.1, 0.1, 1.0]  # learning rates of the stages: 1.5e-5, 1.5e-5 and 1.5e-4 a batch of 256
# learning rate, β₂, weight decay, batch, epochs (or iterations), of them warm-up, last learning rate, depth rule
RECIPES = {
    'conmim/conmim_vit-small-p16_16xb128-amp-coslr-300e_in1k': (5e-4, 0.98, 0.05, 2048, 300, 10, 1e-5, None),
    'conmim/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k': (5e-4, 0.98, 0.05, 2048, 800, 10, 1e-5, None),
    'conmim/conmim_vit-large-p16_32xb64-amp-coslr-800e_in1k': (5e-4, 0.98, 0.05, 2048, 800, 10, 1e-5, None),
    'conmim/conmim_vit-base-p16_16xb128-amp-coslr-40e_yfcc15m': (5e-4, 0.98, 0.05, 2048, 40, 10, 1e-5, None),
    'conmim/benchmarks/vit-small-p16_conmim-pre_8xb128-amp-coslr-200e_in1k':
        (4e-3, 0.999, 0.05, 1024, 200, 5, 1e-6, 0.8),
    'conmim/benchmarks/vit-base-p16_conmim-pre_8xb128-amp-coslr-100e_in1k':
        (4e-3, 0.999, 0.05, 1024, 100, 20, 1e-6, 0.65),
    'conmim/benchmarks/vit-large-p16_conmim-pre_16xb64-amp-coslr-50e_in1k':
        (1e-3, 0.999, 0.05, 1024, 50, 5, 1e-6, 0.75),
    'conmim/benchmarks/vit-p16_conmim-pre_amp-coslr_in1k-384px size=small':
        (1e-3, 0.999, 0.05, 1024, 20, 1, 1e-6, 0.8),
    'conmim/benchmarks/vit-p16_conmim-pre_amp-coslr_in1k-384px':
        (1e-3, 0.999, 0.05, 1024, 10, 1, 1e-6, 0.65),
    'conmim/benchmarks/vit-p16_conmim-pre_amp-coslr_in1k-384px size=large':
        (1e-3, 0.999, 0.05, 1024, 5, 1, 1e-6, 0.75),
    'conmim/benchmarks/vit-small-p16_conmim-pre_upernet_8xb2-amp-160k_ade20k':
        (3e-5, 0.999, 0.05, 16, 160000, 1500, 0, 0.9),
    'conmim/benchmarks/vit-base-p16_conmim-pre_upernet_8xb2-amp-160k_ade20k':
        (3e-5, 0.999, 0.05, 16, 160000, 1500, 0, 0.9),
    'conmim/benchmarks/vit-large-p16_conmim-pre_upernet_8xb2-amp-160k_ade20k':
        (3e-5, 0.999, 0.05, 16, 160000, 1500, 0, 0.95),
    'eval/finetune_vit-b': (2e-3, 0.999, 0.05, 1024, 100, 5, 1e-6, 0.6),
    'eval/finetune_vit-l': (2e-3, 0.999, 0.05, 1024, 50, 5, 1e-6, 0.8),
    'eval/fewshot10_vit-b': (3e-5 * 1022 / 256, 0.999, 0.05, 1022, 200, 5, 1e-6, 0.75),
    'eval/fewshot10_vit-l': (3e-5 * 1024 / 256, 0.999, 0.05, 1024, 400, 5, 1e-6, 0.65),
    'eval/probe-depth_vit-b': (2e-3, 0.999, 0.05, 1024, 100, 5, 1e-6, 1.0),
    'eval/finetune_vit-s_own-images': (5e-4, 0.999, 0.05, 256, 100, 5, 1e-6, 0.65),
    'continue/vit_own-images': (5e-5, 0.999, 0.05, 256, 20, 2, 0, [0, 0.1, 1.0]),
    **{f'detection/mask-rcnn_{name}_8xb8-25e_coco': (1e-4, 0.999, 0.1, 64, 25, 1, 0, 0.75) for name in (
        'conmim-vit-base-p16', 'conmim-vit-small-p16', 'timm-vit-base-p16', 'vit-base-p16',
        'vit-base-p16_simple-pyramid')},
    'detection/mask-rcnn_vit-base-p16_8xb8-25e_lvis': (1e-4, 0.999, 0.1, 64, 25, 1, 0, 0.75),
    'dino/dino_vit-small-p16_8xb64-amp-coslr-100e_in1k': (1e-3, 0.999, 0.04, 512, 100, 10, 1e-6, None),
    'dino/vit-b_mae2ibot': (6e-4, 0.999, 0.04, 1024, 100, 10, 1e-6, GRAFT),
    'dino/vit-s_ibot_own-images': (1.25e-4, 0.999, 0.04, 64, 100, 10, 1e-6, [1.0, 1.0, 1.0]),
    'freezeout/localmim-freezeout_vit-base-p16_8xb256-amp-100e_in1k': (1.6e-3, 0.95, 0.05, 2048, 100, 10, 1e-6, None),
    'graft/vit-b_mae': (2.4e-3, 0.95, 0.05, 4096, 1600, 40, 0, None),
    'graft/vit-l_mae': (2.4e-3, 0.95, 0.05, 4096, 1600, 40, 0, None),
    'graft/vit-b_mocov3': (2.4e-3, 0.999, 0.1, 4096, 300, 40, 0, None),
    'graft/vit-b_joint-mae-mocov3': (2.4e-3, 0.999, 0.1, 4096, 300, 40, 0, None),
    **{f'graft/vit-b_{name}': (2.4e-3, 0.999, 0.1, 4096, 300, 40, 0, GRAFT) for name in (
        'mae2mocov3', 'mae2mocov3_freezeout', 'mae2vicreg', 'mae2simsiam', 'mae2byol', 'mae2simclr',
        'mae2barlowtwins', 'conmim2mocov3')},
    'graft/vit-l_mae2mocov3': (1.21875e-3, 0.999, 0.1, 2080, 300, 40, 0, GRAFT),
    'graft/vit-h_mae2mocov3_fsdp': (1.2e-3, 0.999, 0.1, 2048, 300, 40, 0, [0.1, 0.1, 1, 1]),
    'graft/vit-b_mocov32mae_frozen': (2.4e-3, 0.95, 0.05, 4096, 100, 40, 0, [0, 0, 1]),
    'graft/vit-s_mae_own-images': (1.5e-4, 0.95, 0.05, 256, 200, 20, 0, None),
    'graft/vit-s_mocov3_own-images': (1.5e-4, 0.999, 0.1, 256, 100, 10, 0, None),
    'graft/vit-s_mae2mocov3_own-images': (1.5e-4, 0.999, 0.1, 256, 100, 10, 0, GRAFT),
    'localmim/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k': (1.6e-3, 0.95, 0.05, 2048, 100, 10, 1e-6, None),
    'localmim/localmim_vit-large-p16_8xb128-accum4-amp-coslr-800e_in1k':
        (2.4e-3, 0.95, 0.05, 4096, 800, 40, 1e-6, None),
    'localmim/localmim_swin-base_8xb256-amp-coslr-400e_in1k': (8e-4, 0.95, 0.05, 2048, 400, 40, 0, None),
    'localmim/vit-base-p16_localmim-pre_8xb128-coslr-100e_in1k': (4e-3, 0.999, 0.05, 1024, 100, 20, 1e-6, 0.75),
    'localmim/vit-large-p16_localmim-pre_8xb128-coslr-50e_in1k': (3e-3, 0.999, 0.05, 1024, 50, 5, 1e-6, 0.75),
    'mixing/beit_vit-base_stage-lr': (1.5e-3, 0.999, 0.05, 2048, 300, 10, 1e-5, [0.1, 1.0, 1.0]),
    'mixing/simmim_swin-base_freezeout': (8e-4, 0.999, 0.05, 2048, 100, 10, 1e-5, None),
    'mixing/simmim_swin-base_localmim-neck': (8e-4, 0.999, 0.05, 2048, 100, 10, 4e-5, None),
    'mixing/vit-base_finetune_anchored': (2e-3, 0.999, 0.05, 1024, 100, 5, 1e-6, 0.65),
    'mixing/vit-base_upernet_conflict': (6e-5, 0.999, 0.01, 16, 80000, 1500, 0, None),
    'mixing/vit-base_upernet_freezeout': (6e-5, 0.999, 0.01, 16, 80000, 1500, 0, None),
    'refiner/vit-l_mae_heads': (8e-4, 0.95, 1e-5, 1024, 20, 4, 1e-6, None),
    'refiner/vit-l_mae_refined': (1.6e-3, 0.95, 0.05, 1024, 30, 4, 1e-6, 0.65),
    'refiner/vit-h_mae_refined': (8e-4, 0.95, 0.05, 512, 30, 4, 1e-6, 0.65),
    'refiner/vit-2b_mae_refined_fsdp': (8e-4, 0.95, 0.05, 512, 20, 4, 1e-6, 0.65),
    'refiner/vit-b_refined_own-images': (1e-4, 0.95, 0.05, 64, 30, 4, 1e-6, 0.65),
    **{f'segmentation/vit-{size}-p16_upernet_8xb2-amp-160k_ade20k': (
        1e-4, 0.999, 0.05, 16, 160000, 1500, 0, decay) for size, decay in (
        ('small', 0.65), ('base', 0.65), ('large', 0.75))},
    'wsp/vit-b_mae2wsp': (4e-4, 0.95, 0.1, 8192, 1, 0.05, 0, None),
    'wsp/vit-b_mae2wsp_shards': (4e-4, 0.95, 0.1, 8192, 1, 0.05, 0, None),
    'wsp/vit-b_mae2wsp_freezeout': (4e-4, 0.95, 0.1, 8192, 1, 0.05, 0, GRAFT),
    'wsp/vit-2b_mae2wsp_fsdp': (4e-4, 0.95, 0.1, 8192, 1, 0.05, 0, None),
    'wsp/vit-b_finetune_512px': (2e-3, 0.999, 0.05, 1024, 100, 5, 1e-6, 0.65),
    'wsp/vit-l_mae2wsp_grafted': (4e-4, 0.95, 0.1, 8192, 1, 0.05, 0, GRAFT),
    'wsp/vit-b_mae_captions': (2.4e-3, 0.95, 0.05, 4096, 2441, 122, 0, None),  # 10⁷ images once, 5 % of it warm-up
}


@cache
def read(name: str) -> Config:
    """A config by its name, and overrides behind it."""
    if name.startswith('detection/'):
        pytest.importorskip('mmdet', reason='mmdetection is not installed; make test-detection')
    name, *overrides = name.split()
    return load_config(str(CONFIGS / f'{name}.py'), dict(word.split('=') for word in overrides))
