import pickle
import re
from argparse import Namespace

import cv2
import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from PIL import Image

from mm_graft.commands import test as command
from tests.commands.conftest import ROOT
from tests.tiny import recorded_checkpoint

WIDTH, SIZE, CLASSES = 16, 32, ('ant', 'bee', 'cat')


@pytest.fixture
def labeled(tmp_path):
    """A folder of twelve images with labels."""
    for index in range(12):
        folder = tmp_path / 'labeled' / CLASSES[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{index}.png'), pixels)
    return tmp_path / 'labeled'


def published(num_classes: int = 3) -> torch.nn.Module:
    """The authors' fine-tuned model, small and with random weights: timm's ViT, class token, linear classifier."""
    torch.manual_seed(0)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=SIZE, patch_size=8, embed_dim=WIDTH, depth=4, num_heads=2, mlp_ratio=2, num_classes=num_classes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if num_classes:
        torch.nn.init.normal_(model.head.weight, std=10)  # so that not all images look alike
    return model.eval()


def scoring_config(folder, images) -> str:
    """configs/wsp/vit-b_finetune_512px.py in the sizes of :func:`published`."""
    cfg = Config.fromfile(ROOT / 'configs/wsp/vit-b_finetune_512px.py')
    cfg.model.backbone.update(
        arch=dict(embed_dims=WIDTH, num_layers=4, num_heads=2, feedforward_channels=32), img_size=SIZE, patch_size=8)
    cfg.model.head.update(in_channels=WIDTH, num_classes=3)
    cfg.data_preprocessor.num_classes = 3
    cfg.test_evaluator.topk = (1, )
    cfg.test_dataloader.dataset.pipeline[1].scale = (SIZE, SIZE)
    cfg.test_dataloader.update(batch_size=5, num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset = dict(
        type='CustomDataset', data_root=str(images), pipeline=cfg.test_dataloader.dataset.pipeline)
    cfg.dump(folder / 'scoring.py')
    return str(folder / 'scoring.py')


@torch.no_grad()
def scores_by_hand(model, images) -> torch.Tensor:
    """Probabilities as the authors' evaluation has them: squashed to a square, ImageNet's normalization."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    scores = []
    for path in sorted(images.rglob('*.png')):
        squashed = Image.open(path).convert('RGB').resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        pixels = (torch.from_numpy(np.array(squashed)) / 255 - mean) / std
        scores.append(model(pixels.permute(2, 0, 1)[None])[0])  # (H, W, C) → (1, C, H, W)
    return torch.stack(scores).softmax(1)


def test_fine_tuned_weights_of_the_authors_score_as_their_own_forward_does(tmp_path, labeled, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = published()
    torch.save(model.state_dict(), tmp_path / 'vit_ft_in1k.pt')
    told = run('test', scoring_config(tmp_path, labeled), 'vit_ft_in1k.pt', '--out', 'scores.pkl', '--work-dir', 'out')
    found = pickle.loads((tmp_path / 'scores.pkl').read_bytes())
    expected = scores_by_hand(model, labeled)
    assert [sample['gt_label'].item() for sample in found] == [0] * 4 + [1] * 4 + [2] * 4
    torch.testing.assert_close(torch.stack([sample['pred_score'] for sample in found]), expected, rtol=1e-3, atol=1e-3)
    assert len(set(expected.argmax(1).tolist())) > 1
    right = (expected.argmax(1) == torch.tensor([0] * 4 + [1] * 4 + [2] * 4)).float().mean()
    assert f'accuracy/top1: {100 * right:.4f}' in told


def test_a_file_without_that_classifier_is_refused(tmp_path, labeled, refused):
    config = scoring_config(tmp_path, labeled)
    torch.save(published(num_classes=4).state_dict(), tmp_path / 'four.pt')
    assert re.search(r'head\.fc\.weight of shape \(3, 16\) is not in it \(its classifier has .*\(4, 16\)',
                     refused('test', config, 'four.pt'))
    torch.save(published(num_classes=0).state_dict(), tmp_path / 'none.pt')
    assert 'its classifier has no such part' in refused('test', config, 'none.pt')


def test_what_cannot_be_tested_is_refused(refused, config, tmp_path):
    assert 'has no test_dataloader' in refused('test', config, tmp_path / 'mae.pth')
    assert 'config no/where.py does not exist' in refused('test', 'no/where.py', 'file.pth')
    with config.open('a') as file:
        file.write('test_dataloader = dict(dataset=dict(data_root="no/where"))\n')
    assert 'checkpoint no/where.pth does not exist; check its path' in refused('test', config, 'no/where.pth')
    assert 'data folder no/where (test_dataloader.dataset.data_root)' in refused('test', config, tmp_path / 'mae.pth')


def test_a_file_does_not_choose_the_folder_of_its_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = dict(test_dataloader=dict(dataset=dict(type='CustomDataset')), work_dir=f'{tmp_path}/elsewhere/mine')
    checkpoint = recorded_checkpoint(tmp_path / 'a.pth', **given)
    args = Namespace(checkpoint=checkpoint, config=None, cfg_options=None, launcher='none', work_dir=None)
    assert command.check(args).work_dir == 'work_dirs/mine'
    assert command.check(Namespace(**vars(args) | dict(work_dir='here'))).work_dir == 'here'
    Config(dict(model=dict(), **given)).dump(tmp_path / 'config.py')
    assert command.check(Namespace(**vars(args) | dict(config='config.py'))).work_dir == given['work_dir']
