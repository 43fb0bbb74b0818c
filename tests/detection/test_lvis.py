"""LVIS by its config: the classes of the heads, and perfect boxes and masks scored as perfect."""

import json
import shutil

import pytest
import torch

pytest.importorskip('mmdet', reason='mmdetection is not installed; make test-detection')
pytest.importorskip('lvis', reason='LVIS is read by a package of its own; pip install lvis')

from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, init_default_scope

import mm_graft.host.mmcv_operators  # noqa: F401 (before mmpretrain's models, which import mmdet's)
from tests.detection.drawn import ROOT, draw


@pytest.fixture
def cfg(tmp_path):
    """The published config on six drawn pictures in the format of LVIS."""
    for split in ('train', 'val'):
        content = json.loads((draw(tmp_path / split, 6, 0) / 'coco.json').read_text())
        known = {found['id'] for found in content['categories']}
        content['categories'] += [dict(id=index, name=f'class {index}') for index in range(1, 1204)
                                  if index not in known]
        for category in content['categories']:
            category.update(frequency='f', image_count=6, instance_count=6)
        for image in content['images']:
            image.update(coco_url=f'http://images.cocodataset.org/{split}2017/{image["file_name"]}',
                         neg_category_ids=[], not_exhaustive_category_ids=[])
        (tmp_path / 'annotations').mkdir(exist_ok=True)
        (tmp_path / 'annotations' / f'lvis_v1_{split}.json').write_text(json.dumps(content))
        shutil.copytree(tmp_path / split / 'images', tmp_path / f'{split}2017')
    cfg = Config.fromfile(ROOT / 'configs/detection/mask-rcnn_vit-base-p16_8xb8-25e_lvis.py')
    cfg.train_dataloader.dataset.dataset.data_root = cfg.val_dataloader.dataset.data_root = f'{tmp_path}/'
    cfg.val_evaluator.ann_file = str(tmp_path / 'annotations' / 'lvis_v1_val.json')
    init_default_scope('mmdet')
    return cfg


def test_the_classes_are_as_many_as_the_heads_have(cfg):
    train, val = DATASETS.build(cfg.train_dataloader.dataset), DATASETS.build(cfg.val_dataloader.dataset)
    assert (len(train), len(val)) == (6, 6)
    heads = cfg.model.roi_head
    assert len(val.metainfo['classes']) == heads.bbox_head.num_classes == heads.mask_head.num_classes == 1203
    assert train[0]['data_samples'].gt_instances.labels.numel() > 0


def test_what_is_true_scores_as_perfect(cfg):
    val, metric = DATASETS.build(cfg.val_dataloader.dataset), METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = val.metainfo
    for index in range(len(val)):
        sample = val[index]['data_samples']
        truth = sample.gt_instances  # in pixels of the picture as it is, as it is read after resizing
        metric.process({}, [dict(img_id=sample.img_id, ori_shape=sample.ori_shape, pred_instances=dict(
            bboxes=truth.bboxes.tensor, labels=truth.labels, scores=torch.ones(len(truth.labels)),
            masks=torch.from_numpy(truth.masks.masks).bool()))])
    scores = metric.evaluate(len(val))
    assert scores['lvis/bbox_AP'] == pytest.approx(1)
    assert scores['lvis/segm_AP'] == pytest.approx(1)
