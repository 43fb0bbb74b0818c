"""Runs of Mask R-CNN in several processes, and killed ones that are resumed; in an environment with mmdetection."""

import pytest
import torch
from mmengine.config import Config

pytest.importorskip('mmdet', reason='mmdetection is not installed; make test-detection')

from tests.detection.drawn import PLAIN, draw, on_drawn, run, small
from tests.tiny import mae_file

WATCHED = 'from tests.resume_runs import Interruption'
BATCHES = dict(type='AspectRatioBatchSampler')
LIGHT = {'model.neck.1.out_channels': 16, 'model.rpn_head.in_channels': 16, 'model.rpn_head.feat_channels': 16,
         'model.roi_head.bbox_roi_extractor.out_channels': 16, 'model.roi_head.mask_roi_extractor.out_channels': 16,
         'model.roi_head.bbox_head.in_channels': 16, 'model.roi_head.bbox_head.conv_out_channels': 16,
         'model.roi_head.mask_head.in_channels': 16, 'model.roi_head.mask_head.conv_out_channels': 16}


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """Twelve drawn pictures, wide and tall ones, two epochs of three steps; batches of wide or of tall pictures."""
    folder = tmp_path_factory.mktemp('runs')
    train, val = draw(folder / 'train', 12, 0), draw(folder / 'val', 2, 1)
    cfg = on_drawn(small(PLAIN, **LIGHT), train, val, 2, mae_file(folder / 'mae.pth'))
    cfg.train_dataloader.batch_sampler = BATCHES
    cfg.custom_hooks = [dict(type='Interruption')]
    cfg.dump(folder / 'config.py')
    return folder / 'config.py'


def final(folder):
    state = torch.load(folder / 'epoch_2.pth', weights_only=False)
    return state['state_dict'], state['optimizer']['state']


def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(config, tmp_path):
    run('train', config, '--work-dir', tmp_path / 'whole', '--no-validate', before=WATCHED)
    words = 'train', config, '--work-dir', tmp_path / 'killed', '--no-validate', '--resume'
    run(*words, status=-9, before=f'{WATCHED}; Interruption.how = dict(signal="SIGKILL", iteration=4)')
    assert not (tmp_path / 'killed' / 'epoch_2.pth').exists()
    run(*words, before=WATCHED)
    (weights, moments), (other_weights, other_moments) = final(tmp_path / 'whole'), final(tmp_path / 'killed')
    assert all(torch.equal(value, other_weights[name]) for name, value in weights.items())
    assert all(torch.equal(value, other_moments[index][key]) for index, state in moments.items()
               for key, value in state.items() if isinstance(value, torch.Tensor))
    start = torch.load(tmp_path / 'killed' / 'epoch_1.pth', weights_only=False)['state_dict']
    assert not torch.equal(start['backbone.layers.0.attn.qkv.weight'], weights['backbone.layers.0.attn.qkv.weight'])


def test_two_processes_train_and_score_one_detector(config, tmp_path):
    cfg = Config.fromfile(config)
    cfg.custom_hooks = None
    group = dict(type='GN', num_groups=4)  # PyTorch synchronizes batch norm on GPUs alone
    for part in (*cfg.model.neck, cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head):
        part['norm_cfg'] = group
    cfg.train_dataloader.batch_size = 2
    cfg.dump(tmp_path / 'config.py')
    launcher = ('-m', 'torch.distributed.run', '--nproc-per-node', '2', '--standalone')
    said = run('train', tmp_path / 'config.py', '--launcher', 'pytorch', '--work-dir', tmp_path / 'run',
               launcher=launcher)
    assert 'Epoch(train) [2][3/3]' in said
    assert said.count('coco/segm_mAP:') == 1
    weights, _ = final(tmp_path / 'run')
    assert all(value.isfinite().all() for value in weights.values())
