"""A tiny ConMIM on real images: what it learns has to beat what it started from."""

from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.datasets import FashionMNIST
from torch.utils.data import Dataset

from experiments.fashion_mnist import prepare_fashion_mnist
from mm_graft.evaluation.features import encode
from mm_graft.evaluation.knn import knn_accuracy

MEAN, STD = 73.0, 90.0
MODEL = {
    'type': 'mm_graft.ConMIM',
    'data_preprocessor': {'type': 'SelfSupDataPreprocessor', 'mean': [MEAN], 'std': [STD]},
    'backbone': {
        'type': 'mm_graft.ConMIMViT', 'img_size': 28, 'patch_size': 7, 'in_channels': 1, 'layer_scale_init_value': 1.0,
        'arch': {'embed_dims': 64, 'num_layers': 4, 'num_heads': 4, 'feedforward_channels': 128}
    },
    'neck': {
        'type': 'NonLinearNeck', 'in_channels': 64, 'hid_channels': 128, 'out_channels': 32, 'num_layers': 3,
        'with_avg_pool': False, 'with_last_bn_affine': False, 'norm_cfg': {'type': 'BN1d'}
    },
    'contrast': {'type': 'mm_graft.DenoisingContrastLoss', 'temperature': 0.1},
    'mask_generator': {
        'type': 'mm_graft.RandomCellMask', 'img_size': 28, 'patch_size': 7, 'cell_size': 7, 'ratio': 0.5
    },
    'teacher': {'momentum': 0.95},
}


@pytest.fixture(scope='module')
def images() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    try:
        root = prepare_fashion_mnist(Path(__file__).parents[1] / 'data' / 'fashion_mnist')
    except (RuntimeError, OSError) as error:
        pytest.skip(f'Fashion-MNIST is not to be had: {error}')
    splits = {}
    for split, count in (('train', 8192), ('test', 2000)):
        data = FashionMNIST(str(root), split=split, test_mode=split == 'test', download=False, indices=count)
        items = [data.get_data_info(index) for index in range(count)]
        splits[split] = (torch.stack([torch.as_tensor(item['img']) for item in items])[:, None],
                         torch.tensor([int(item['gt_label']) for item in items]))
    return splits


class Views(Dataset):
    """Each image shifted and mirrored as one, the second view with another brightness and contrast."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict:
        weak = torch.nn.functional.pad(self.pixels[index], (2, 2, 2, 2))
        top, left, flip = torch.randint(0, 5, (2, )).tolist() + torch.randint(0, 2, (1, )).tolist()
        weak = weak[:, top:top + 28, left:left + 28].float()
        weak = weak.flip(-1) if flip else weak
        contrast, brightness = torch.rand(2).tolist()
        strong = weak * (0.6 + 0.8 * contrast) + 36 * (brightness - 0.5)
        return {'inputs': [weak, strong], 'data_samples': index}


def knn(model: BaseModel, images: dict) -> float:
    model.eval()
    features = {}
    with torch.no_grad():
        for split, (pixels, _) in images.items():
            batches = ((pixels[:4096].float() - MEAN) / STD).split(512)
            features[split] = torch.cat([encode(model.backbone, batch, 'avg') for batch in batches])
    labels = {split: label[:4096] for split, (_, label) in images.items()}
    model.train()
    return knn_accuracy(features['train'], labels['train'], features['test'], labels['test'], ks=(10, ))[10]


@pytest.mark.slow
def test_a_tiny_conmim_beats_its_own_initialization_in_knn(images, tmp_path):
    run = Runner(
        model=MODEL, work_dir=str(tmp_path),
        train_dataloader={
            'dataset': Views(images['train'][0]), 'batch_size': 64, 'num_workers': 0, 'drop_last': True,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True}, 'collate_fn': {'type': 'default_collate'}
        },
        train_cfg={'by_epoch': True, 'max_epochs': 10},
        optim_wrapper={
            'constructor': 'mm_graft.GraftOptimWrapperConstructor', 'paramwise_cfg': {'stage_lr_mult': [1.0]},
            'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'betas': (0.9, 0.98), 'weight_decay': 0.05}
        },
        param_scheduler={'type': 'mm_graft.WarmupCosineLR', 'warmup': 1, 'convert_to_iter_based': True},
        default_scope='mmpretrain', randomness={'seed': 0}, experiment_name=f'learns_{tmp_path.name}')
    run.model.init_weights()
    before = knn(run.model, images)
    run.train()
    after = knn(run.model, images)
    assert after > before + 0.03, f'kNN {before:.3f} → {after:.3f}'
