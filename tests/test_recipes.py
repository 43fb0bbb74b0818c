"""The constants of the configs are those of the papers and of the authors' commands, value by value."""

import pytest
from mmengine.config import Config

from mm_graft.datasets.transforms.fast_views import FastCrop, FastPhotometric
from mm_graft.models.data_preprocessors.two_views import TwoViewPreprocessor
from mm_graft.models.data_preprocessors.views_and_image import ViewsAndImagePreprocessor
from tests.defaults import defaults
from tests.recipes import CONFIGS, RECIPES, read


def recipe(cfg: Config) -> tuple:
    """What the table lists, as the config has it."""
    optimizer, paramwise = cfg.optim_wrapper.optimizer, cfg.optim_wrapper.get('paramwise_cfg') or {}
    *first, last = [schedule for schedule in cfg.param_scheduler if schedule.type != 'mm_graft.CosineWeightDecay'] if (
        isinstance(cfg.param_scheduler, list)) else [cfg.param_scheduler]
    warmup, end = first[0].end if first else last.warmup, last.get('end') or cfg.train_cfg.max_epochs
    final = last.eta_min if first else optimizer.lr * last.get('min_ratio', 0)
    depth = paramwise.get('layer_decay_rate', paramwise.get('stage_lr_mult'))
    batch = cfg.get('auto_scale_lr', {}).get('base_batch_size', 8 * cfg.train_dataloader.batch_size)  # mmseg's 8 GPUs
    return (optimizer.lr, optimizer.get('betas', (0.9, 0.999))[1], optimizer.weight_decay, batch, end, warmup, final,
            depth)


@pytest.mark.parametrize('name', RECIPES)
def test_the_optimization_is_the_published_one(name):
    cfg = read(name)
    *numbers, depth = recipe(cfg)
    assert numbers == pytest.approx(RECIPES[name][:-1])
    assert depth == RECIPES[name][-1]
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    assert cfg.optim_wrapper.optimizer.get('betas', (0.9, 0.999))[0] == 0.9
    images = cfg.train_dataloader.batch_size * cfg.optim_wrapper.get('accumulative_counts', 1)
    assert numbers[3] % images == 0


def test_every_config_is_in_the_table():
    names = {str(path.relative_to(CONFIGS))[:-3] for path in CONFIGS.glob('**/*.py') if '_base_' not in path.parts}
    assert names == {name.split()[0] for name in RECIPES}


CLIPPED = {'conmim/conmim_vit-small': 3.0, 'conmim/conmim_vit-base': 3.0, 'conmim/conmim_vit-large': 1.0, 'dino/': 3.0,
           'mixing/beit': 3.0, 'mixing/simmim': 5.0}


def test_gradients_are_clipped_where_the_authors_do_and_nowhere_else():
    norms = {name: read(name).optim_wrapper.get('clip_grad') for name in RECIPES if 'detection/' not in name}
    assert {name: dict(clip) for name, clip in norms.items() if clip} == {
        name: {'max_norm': norm} for name in RECIPES for start, norm in CLIPPED.items() if name.startswith(start)}


def test_weight_decay_rises_tenfold_in_self_distillation_and_nowhere_else():
    ends = {name: [schedule.end_ratio for schedule in read(name).param_scheduler
                   if schedule.type == 'mm_graft.CosineWeightDecay']
            for name in RECIPES if 'detection/' not in name and isinstance(read(name).param_scheduler, list)}
    assert {name: end for name, end in ends.items() if end} == {
        name: [10.0] for name in RECIPES if name.startswith('dino/')}


IMAGENET = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
CROP = dict(type='RandomResizedCrop', scale=224, backend='pillow')
FLIP = dict(type='RandomFlip', prob=0.5)
JITTER = dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
GRAY = dict(type='RandomGrayscale', prob=0.2, keep_channels=True, channel_weights=(0.114, 0.587, 0.2989))
SOLARIZE = dict(type='Solarize', thr=128, prob=0.2)
FAST = dict(type='mm_graft.FastPhotometric')


def color(**settings):
    return dict(type='RandomApply', transforms=[{**JITTER, **settings}], prob=0.8)


def blur(prob):
    return dict(type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf', prob=prob)


def fast_crop(smallest, scale=224, largest=1.0, **settings):
    return dict(type='mm_graft.FastCrop', scale=scale, crop_ratio_range=(smallest, largest), **settings)


BICUBIC = {'interpolation': 'bicubic'}
SMALL = {**CROP, 'crop_ratio_range': (0.08, 1.0)}  # smallest share of the image: 8 %
STRONG = [{**FAST, 'blur_probability': 0.1, 'solarize_probability': 0.2}]
VIEWS = {
    'imagenet_mae': [{**CROP, 'crop_ratio_range': (0.2, 1.0), **BICUBIC}, FLIP],
    'imagenet_mae_fast': [fast_crop(0.2, **BICUBIC)],
    'tagged_images': [{**CROP, **BICUBIC}, FLIP],
    'imagenet_two_views': [dict(type='MultiView', num_views=[1, 1], transforms=[
        [SMALL, color(), GRAY, blur(1.0), FLIP], [SMALL, color(), GRAY, blur(0.1), SOLARIZE, FLIP]])],
    'imagenet_two_views_fast': [dict(type='MultiView', num_views=[1, 1], transforms=[
        [fast_crop(0.08), {**FAST, 'blur_probability': 1.0}], [fast_crop(0.08), *STRONG]])],
    'imagenet_paired_views': [FLIP, {**SMALL, **BICUBIC}, dict(type='MultiView', num_views=[1, 1], transforms=[
        [], [color(backend='pillow'), GRAY, blur(0.1), SOLARIZE]])],
    'imagenet_paired_views_fast': [
        fast_crop(0.08, **BICUBIC), dict(type='MultiView', num_views=[1, 1], transforms=[[], STRONG])],
    'imagenet_multi_crop': [dict(type='MultiView', num_views=[1, 1, 10], transforms=[
        [fast_crop(0.25, **BICUBIC), {**FAST, 'blur_probability': 1.0}], [fast_crop(0.25, **BICUBIC), *STRONG],
        [fast_crop(0.05, 96, 0.25, **BICUBIC), {**FAST, 'blur_probability': 0.5}]])],
}


@pytest.mark.parametrize('name', VIEWS)
def test_the_views_are_the_published_ones(name):
    cfg = read(f'_base_/{name}')
    pipeline = [step.to_dict() for step in cfg.train_dataloader.dataset.pipeline]
    assert pipeline[1:-1] == VIEWS[name]
    assert (cfg.data_preprocessor.mean, cfg.data_preprocessor.std) == IMAGENET
    assert cfg.data_preprocessor.to_rgb


@pytest.mark.parametrize(('name', 'whole', 'local', 'count'), [
    ('dino/dino_vit-small-p16_8xb64-amp-coslr-100e_in1k', 0.4, 0.4, 8), ('dino/vit-b_mae2ibot', 0.25, 0.25, 10),
    ('dino/vit-s_ibot_own-images', 0.25, 0.25, 6)])
def test_the_crops_of_self_distillation_are_the_published_ones(name, whole, local, count):
    _, views, _ = read(name).train_dataloader.dataset.pipeline
    assert views.num_views == [1, 1, count]
    blurred, solarized, small = views.to_dict()['transforms']
    assert blurred == [fast_crop(whole, **BICUBIC), {**FAST, 'blur_probability': 1.0}]
    assert solarized == [fast_crop(whole, **BICUBIC), *STRONG]
    assert small == [fast_crop(0.05, 96, local, **BICUBIC), {**FAST, 'blur_probability': 0.5}]


def test_views_of_the_fast_transforms_and_the_device_are_those_of_moco_v3():
    jitter = {'jitter': (0.4, 0.4, 0.2, 0.1), 'jitter_probability': 0.8, 'gray_probability': 0.2,
              'blur_sigma': (0.1, 2.0)}
    square = (3 / 4, 4 / 3)
    assert defaults(FastCrop) == {'crop_ratio_range': (0.08, 1.0), 'aspect_ratio_range': square, 'flip': 0.5,
                                  'interpolation': 'bilinear'}
    assert defaults(FastPhotometric) == {**jitter, 'blur_probability': 0, 'solarize_probability': 0,
                                         'solarize_threshold': 128}
    assert defaults(TwoViewPreprocessor) == {
        **jitter, 'to_rgb': False, 'size': None, 'scale': (0.08, 1.0), 'ratio': square, 'flip_probability': 0.5,
        'blur_probability': (1.0, 0.1), 'solarize_probability': (0.0, 0.2), 'non_blocking': True}
    assert defaults(ViewsAndImagePreprocessor)['image_scale'] == (0.2, 1.0)


def test_rare_tags_are_shown_by_the_inverse_root_of_their_frequency():
    assert read('wsp/vit-b_mae2wsp').train_dataloader.sampler.power == 0.5


def test_the_graft_is_fine_tuned_on_images_around_one_half_and_others_on_imagenets_mean():
    for name, mean, std in (('eval/finetune_vit-b', [127.5] * 3, [127.5] * 3),
                            ('localmim/vit-base-p16_localmim-pre_8xb128-coslr-100e_in1k', *IMAGENET)):
        cfg = read(name)
        assert (cfg.data_preprocessor.mean, cfg.data_preprocessor.std) == (mean, std), name
        pipeline = cfg.train_dataloader.dataset.pipeline
        assert pipeline[1].to_dict() == {**CROP, **BICUBIC}
        assert pipeline[2].prob == 0.5


NO_DECAY = {'decay_mult': 0.0}


def test_class_token_and_positions_are_not_decayed_where_the_authors_do_not():
    optional = {**NO_DECAY, 'optional': True}
    for name, keys in {
            'conmim/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k': {'cls_token': NO_DECAY, 'pos_embed': optional},
            'segmentation/vit-base-p16_upernet_8xb2-amp-160k_ade20k': {'cls_token': NO_DECAY, 'pos_embed': NO_DECAY},
            'conmim/benchmarks/vit-base-p16_conmim-pre_upernet_8xb2-amp-160k_ade20k': {
                'cls_token': NO_DECAY, 'pos_embed': optional},
            'conmim/benchmarks/vit-base-p16_conmim-pre_8xb128-amp-coslr-100e_in1k': {
                'cls_token': NO_DECAY, 'pos_embed': optional}}.items():
        assert read(name).optim_wrapper.paramwise_cfg.custom_keys.to_dict() == keys, name


def test_the_last_probabilities_of_fine_tuning_are_mixup_cutmix_erasing_and_smoothing():
    for name in ('eval/finetune_vit-b', 'conmim/benchmarks/vit-base-p16_conmim-pre_8xb128-amp-coslr-100e_in1k',
                 'localmim/vit-base-p16_localmim-pre_8xb128-coslr-100e_in1k'):
        cfg = read(name)
        assert [dict(augment) for augment in cfg.model.train_cfg.augments] == [
            dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)], name
        assert cfg.model.head.loss.label_smooth_val == 0.1
        steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
        policy = steps['RandAugment']
        assert (policy.num_policies, policy.magnitude_level, policy.total_level) == (2, 9, 10)
        assert policy.magnitude_std == 0.5
        erasing = steps['RandomErasing']
        assert (erasing.erase_prob, erasing.min_area_ratio) == (0.25, 0.02)
        assert erasing.max_area_ratio == pytest.approx(1 / 3)
        test = {step.type: step for step in cfg.test_dataloader.dataset.pipeline}
        assert (test['ResizeEdge'].scale, test['CenterCrop'].crop_size) == (256, 224)


MODELS = {
    'graft/vit-b_mae2mocov3': {
        'momentum': 0.99, 'neck.hid_channels': 4096, 'neck.out_channels': 256, 'neck.num_layers': 3,
        'head.predictor.hid_channels': 4096, 'head.predictor.out_channels': 256, 'head.predictor.num_layers': 2,
        'head.temperature': 0.2, 'head.loss.loss_weight': 0.4},
    'graft/vit-b_mae': {
        'backbone.mask_ratio': 0.75, 'neck.decoder_embed_dim': 512, 'neck.decoder_depth': 8,
        'neck.decoder_num_heads': 16, 'head.norm_pix': True},
    'graft/vit-b_joint-mae-mocov3': {
        'contrast_weight': 1.0, 'pixel_weight': 1.0, 'momentum': 0.99, 'backbone.mask_ratio': 0.75,
        'head.temperature': 0.2, 'head.loss.loss_weight': 0.4},
    'graft/vit-b_mae2vicreg': {
        'neck.hid_channels': 8192, 'neck.out_channels': 8192, 'neck.num_layers': 3, 'head.invariance_weight': 25.0,
        'head.variance_weight': 25.0, 'head.covariance_weight': 1.0},
    'conmim/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k': {
        'backbone.layer_scale_init_value': 0.1, 'neck.hid_channels': 4096, 'neck.out_channels': 256,
        'neck.num_layers': 3, 'contrast.temperature': 0.1, 'mask_generator.cell_size': 32, 'mask_generator.ratio': 0.75,
        'teacher.momentum': 0.996, 'teacher.end_momentum': 1.0},
    'conmim/conmim_vit-small-p16_16xb128-amp-coslr-300e_in1k': {
        'backbone.drop_path_rate': 0.1, 'mask_generator.cell_size': 16, 'mask_generator.ratio': 0.75},
    'conmim/conmim_vit-large-p16_32xb64-amp-coslr-800e_in1k': {
        'backbone.layer_scale_init_value': 1e-5, 'mask_generator.cell_size': 32},
    'localmim/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k': {
        'backbone.mask_ratio': 0.75, 'neck.scales': [4, 2, 1, 0.5], 'neck.out_channels': 27, 'neck.embed_dims': 256,
        'neck.num_heads': 8, 'neck.depth': 1, 'target_generator.nbins': 9, 'target_generator.cells': [4, 8, 16, 32]},
    'localmim/localmim_vit-large-p16_8xb128-accum4-amp-coslr-800e_in1k': {
        'backbone.mask_ratio': 0.75, 'neck.out_channels': 54, 'target_generator.nbins': 18,
        'target_generator.random_bias': True},
    'localmim/localmim_swin-base_8xb256-amp-coslr-400e_in1k': {
        'backbone.drop_path_rate': 0.0, 'neck.grids': [28, 14, 7, 7], 'neck.embed_dims': [64, 128, 128, 128],
        'neck.num_heads': 4, 'target_generator.nbins': 18, 'target_generator.cells': [8, 16, 32, 32]},
    **{f'refiner/vit-{name}': {
        'num_global_views': 2, 'momentum': 0.9999, 'head.loss.temperature': temperature, 'head.queue.num_neighbors': 20,
        'head.queue.length': 65536} for name, temperature in (
            ('l_mae_refined', 0.2), ('h_mae_refined', 0.3), ('2b_mae_refined_fsdp', 0.35))},
    'dino/dino_vit-small-p16_8xb64-amp-coslr-100e_in1k': {
        'momentum': 0.996, 'student_temperature': 0.1, 'teacher_temperature': dict(start=0.04, end=0.04),
        'num_global_views': 2, 'targets.type': 'mm_graft.Centering', 'head.hid_channels': 2048,
        'head.bottleneck_channels': 256, 'head.out_channels': 65536, 'backbone.drop_path_rate': 0.1},
    'dino/vit-b_mae2ibot': {
        'mask_generator.ratio': [0.1, 0.5], 'mask_generator.share': 0.5, 'koleo_weight': 0.1, 'momentum': 0.996,
        'teacher_temperature': dict(start=0.04, end=0.07, warmup=0.3), 'backbone.stop_grad_conv1': True},
    'dino/vit-s_ibot_own-images': {
        'momentum': 0.9995, 'head.out_channels': 8192, 'koleo_weight': 0.1, 'mask_generator.ratio': [0.1, 0.5]},
    'refiner/vit-l_mae_heads': {
        'train_encoder': False, 'momentum': None, 'backbone.out_indices': list(range(16, 24)),
        'head.queue.length': 65536, 'head.queue.num_neighbors': 1, 'head.loss.pairs': 'published',
        'head.hid_channels': 2048, 'head.out_channels': 256, 'head.predictor_channels': 4096},
    **{f'segmentation/vit-{size}-p16_upernet_8xb2-amp-160k_ade20k': {
        'backbone.out_indices': taps, 'neck.rescales': [4, 2, 1, 0.5], 'decode_head.pool_scales': [1, 2, 3, 6],
        'decode_head.num_classes': 150, 'decode_head.loss_decode.loss_weight': 1.0, 'auxiliary_head.in_index': 2,
        'auxiliary_head.channels': 256, 'auxiliary_head.loss_decode.loss_weight': 0.4, 'test_cfg.crop_size': [512, 512],
        'test_cfg.stride': [341, 341]} for size, taps in (('base', [3, 5, 7, 11]), ('large', [7, 11, 15, 23]))},
    'wsp/vit-b_mae2wsp': {
        'backbone.stop_grad_conv1': False, 'head.num_classes': 28000, 'head.loss.type': 'mm_graft.TagCrossEntropyLoss'},
    'wsp/vit-b_mae_captions': {'backbone.mask_ratio': 0.75, 'neck.decoder_depth': 8, 'head.norm_pix': True},
    'eval/finetune_vit-b': {'backbone.drop_path_rate': 0.1},
    'eval/finetune_vit-l': {'backbone.drop_path_rate': 0.2},
    'conmim/benchmarks/vit-base-p16_conmim-pre_8xb128-amp-coslr-100e_in1k': {'backbone.drop_path_rate': 0.1},
    'conmim/benchmarks/vit-large-p16_conmim-pre_16xb64-amp-coslr-50e_in1k': {'backbone.drop_path_rate': 0.2},
}


@pytest.mark.parametrize('name', MODELS)
def test_the_models_constants_are_the_published_ones(name):
    model = read(name).model
    found = {}
    for key in MODELS[name]:
        value = model
        for part in key.split('.'):
            value = value[part]
        found[key] = list(value) if isinstance(value, tuple) else value
    assert found == MODELS[name]


def test_freezing_and_the_anchor_have_the_published_constants():
    freezing = read('freezeout/localmim-freezeout_vit-base-p16_8xb256-amp-100e_in1k').param_scheduler
    assert (freezing.t0, freezing.schedule, freezing.lr_scaling) == (0.8, 'cubic', 'scaled')
    grafted = read('graft/vit-b_mae2mocov3_freezeout').param_scheduler
    assert (grafted.t0, grafted.schedule, grafted.lr_scaling) == (0.65, 'cubic', 'unscaled')
    anchor = next(hook for hook in read('graft/vit-l_mae2mocov3').custom_hooks if hook.type == 'mm_graft.WeightAnchor')
    assert (anchor.weight, anchor.get('p', 1)) == (1e-5, 1)
