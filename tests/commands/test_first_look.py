import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.registry import MODELS, PARAM_SCHEDULERS, init_default_scope
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mm_graft.commands.first_look import check_schedules, first_look
from tests.tiny import classifier, grafted_mocov3, mae


def drawn():
    """A number of each generator that transforms draw from."""
    return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002


class Images(Dataset):
    """Images of given sizes."""

    def __init__(self, sizes=((32, 32), ) * 8, channels=3):
        self.sizes, self.channels = sizes, channels

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        drawn()
        return {'inputs': torch.rand(self.channels, *self.sizes[index]), 'data_samples': DataSample()}


class Views(Images):

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return sample | {'inputs': [sample['inputs'], sample['inputs']]}


def look(model, data=None, val=None, batch=4, drop_last=False):
    model = model if isinstance(model, nn.Module) else MODELS.build(model)
    train, test = (DataLoader(data, size, collate_fn=default_collate, drop_last=drop) if data else None
                   for data, size, drop in ((data or Images(), batch, drop_last), (val, 4, False)))
    first_look(SimpleNamespace(model=model, train_dataloader=train, param_schedulers=None,
                               val_loop=val and SimpleNamespace(dataloader=test)))


@pytest.mark.parametrize(('model', 'data'), [(mae(), Images()), (classifier(), Images()), (grafted_mocov3(), Views()),
                                             (classifier(), Images([(64, 32)] * 4))])
def test_what_suits_is_passed(model, data):
    look(model, data, val=data)


def schedules_of(*parts):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9, weight_decay=0.1)
    return SimpleNamespace(train_dataloader=range(10), param_schedulers=[
        PARAM_SCHEDULERS.build(part, default_args=dict(optimizer=optimizer, epoch_length=10)) for part in parts])


COSINE = dict(type='mm_graft.WarmupCosineLR', warmup=1, end=4, convert_to_iter_based=True)


@pytest.mark.parametrize('other', [
    COSINE, dict(type='LinearLR', end=2), dict(type='StepLR', step_size=1, by_epoch=False, begin=39, end=50)])
def test_a_schedule_that_another_one_overwrites_is_named(other):
    for parts in ((COSINE, other), (other, COSINE)):
        run = schedules_of(*parts)
        for built in (run.param_schedulers, {'one': run.param_schedulers}):
            run.param_schedulers = built
            name = other['type'].split('.')[-1]
            with pytest.raises(ValueError, match=f'WarmupCosineLR sets `lr` .* so that {name} beside it has no effect'):
                check_schedules(run)


@pytest.mark.parametrize('parts', [
    [COSINE], [dict(type='LinearLR', end=2), dict(type='StepLR', step_size=1)],
    [COSINE, dict(type='mm_graft.CosineWeightDecay', end_ratio=2., end=4)],
    [COSINE, dict(type='StepLR', step_size=1, begin=4)], [COSINE, dict(type='LinearLR', by_epoch=False, begin=40)]])
def test_schedules_that_do_not_meet_pass(parts):
    check_schedules(schedules_of(*parts))


def refused(message, *args, **kwargs):
    with pytest.raises(ValueError, match=message):
        look(*args, **kwargs)


def test_images_that_make_no_batch_are_refused_with_their_sizes():
    data = Images([(32, 32)] * 3 + [(32, 40)])
    refused(r'^train_dataloader: images of a batch must have one size.*\(3, 32, 32\).*\(3, 32, 40\).*crop', mae(), data)
    refused(r'^val_dataloader: images of a batch must have one size', classifier(), Images(), val=data)


def test_hidden_patches_need_the_very_size_of_the_model():
    refused(r'gives images of 64×32, but model\.backbone\.img_size is 32×32', mae(), Images([(64, 32)] * 4))


def test_patches_that_do_not_divide_images_are_refused():
    refused(r'patches of 8×8 pixels do not divide an image of 36×32', classifier(), Images([(36, 32)] * 4))
    refused(r'do not divide an image of 30×32', classifier(), Images(), val=Images([(30, 32)] * 4))


def test_images_of_other_channels_are_refused():
    model = MODELS.build(classifier())
    refused(r'takes 3; set model\.backbone\.patch_cfg\.in_channels=1', model, Images(channels=1))


def test_a_vit_of_timm_is_looked_at_too():
    vit = dict(type='mm_graft.TimmViT', model_name='vit_tiny_patch16_224', img_size=32, depth=1)
    model = classifier() | {'backbone': vit}
    model['head'] = model['head'] | {'in_channels': 192}
    look(model, Images())
    refused(r'takes 3; set model\.backbone\.in_channels=1', model, Images(channels=1))
    refused(r'patches of 16×16 pixels do not divide an image of 36×32', model, Images([(36, 32)] * 4))
    model['backbone'] = vit | {'dynamic_img_pad': True}
    look(model, Images([(36, 32)] * 4))


class Broken(Images):

    def __getitem__(self, index):
        if index:
            raise FileNotFoundError('/data/b.jpg')
        return super().__getitem__(index)


def test_a_sample_that_cannot_be_made_is_refused_with_its_loader():
    refused(r'^val_dataloader: sample 7 of Broken cannot be made: /data/b\.jpg', classifier(), Images(), val=Broken())


@pytest.mark.parametrize(('part', 'changes', 'message'), [
    ('head', dict(patch_size=4), r'model\.head\.patch_size=4, but the patches of model\.backbone have 8×8'),
    ('neck', dict(patch_size=16), r'model\.neck predicts 768 numbers a patch.*8×8.*has 192.*patch_size=8'),
    ('backbone', dict(mask_ratio=0), r'mask_ratio=0 leaves nothing to predict'),
    ('backbone', dict(mask_ratio=1.0), r'mask_ratio=1\.0 leaves')])
def test_parts_that_do_not_suit_each_other_are_refused(part, changes, message):
    model = mae()
    model[part] = model[part] | changes
    refused(message, model)


@pytest.mark.parametrize(('images', 'batch', 'drop_last', 'message'), [
    (8, 1, False, r'every batch has a single image.*batch norm \(neck\.\S+\).*train_dataloader\.batch_size=2'),
    (9, 4, False, r'last batch of an epoch \(9 images by 4\).*train_dataloader\.drop_last=True'),
    (9, 4, True, None), (10, 4, False, None), (8, 2, False, None)])
def test_a_single_image_and_batch_norm_are_refused(images, batch, drop_last, message):
    data = Views([(32, 32)] * images)
    if message:
        refused(message, grafted_mocov3(), data, batch=batch, drop_last=drop_last)
    else:
        look(grafted_mocov3(), data, batch=batch, drop_last=drop_last)
    look(mae(), Images([(32, 32)] * images), batch=batch, drop_last=drop_last)


def test_nothing_that_the_run_draws_is_used_up():
    model = MODELS.build(mae())
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    expected = drawn()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    look(model, Images(), val=Images())
    assert drawn() == expected


def test_a_model_of_an_unknown_kind_is_left_alone():
    init_default_scope('mmpretrain')
    look(nn.Sequential(nn.Linear(1, 1)), Images([(3, 5)] * 4))
