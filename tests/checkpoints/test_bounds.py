import pytest
import torch
from mmengine.config import Config
from torch import nn

from mm_graft.checkpoints.bounds import LARGEST, NUMBERS, PARAMETERS, RECORD, bounded_by
from mm_graft.checkpoints.reading import CheckpointError
from mm_graft.pretrained import load_pretrained
from tests.tiny import VIT

VAST = {
    'depth': dict(type='VisionTransformer', **VIT | dict(arch=VIT['arch'] | dict(num_layers=10**5))),
    'width': dict(type='VisionTransformer', **VIT | dict(arch=VIT['arch'] | dict(embed_dims=10**5))),
    'size': dict(type='VisionTransformer', **VIT | dict(img_size=10**6)),
    'timm': dict(type='mm_graft.TimmViT', model_name='vit_tiny_patch16_224', depth=10**5)}


def record(backbone, path):
    """A checkpoint of one small tensor whose config asks for a backbone."""
    cfg = Config(dict(model=dict(type='MAE', backbone=backbone))).pretty_text
    torch.save({'state_dict': {'backbone.cls_token': torch.zeros(1, 1, 16)}, 'meta': {'cfg': cfg}}, path)


@pytest.mark.parametrize('backbone', VAST.values(), ids=VAST)
def test_a_file_asks_for_no_model_that_it_cannot_fill(tmp_path, backbone):
    """Neither time nor memory goes by what a few bytes of settings say."""
    record(backbone, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'a\.pth has [\d,]+ bytes, and its config builds a model .*; give'):
        load_pretrained(tmp_path / 'a.pth')


def test_a_folder_of_timm_asks_for_none_either(tmp_path):
    torch.save({'patch_embed.proj.weight': torch.zeros(192, 3, 16, 16)}, tmp_path / 'pytorch_model.bin')
    (tmp_path / 'config.json').write_text('{"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 100000}}')
    with pytest.raises(CheckpointError, match='builds a model of more than'):
        load_pretrained(tmp_path)


@pytest.mark.parametrize('backbone', [
    VAST['depth'] | dict(arch=dict(num_layers=10**12)), VAST['size'] | dict(img_size=(32, -10**12)),
    VAST['timm'] | dict(depth=10**12)])
def test_a_size_beyond_any_model_builds_nothing(tmp_path, backbone):
    """Lists of a depth's length are made before the first parameter."""
    record(backbone, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'a\.pth: its config builds a model of .*=-?1,000,000,000,000, and no'):
        load_pretrained(tmp_path / 'a.pth')


def test_the_bound_is_the_files_size_and_something_for_what_starts_fresh(tmp_path):
    file = tmp_path / 'a.pth'
    file.write_bytes(bytes(10 * RECORD))
    with bounded_by(file, {}):
        for _ in range(PARAMETERS + 10):
            nn.Module().register_parameter('weight', nn.Parameter(torch.empty(0)))
        nn.Module().register_parameter('weight', None)
    with torch.device('meta'), bounded_by(file, {}):
        nn.Linear(NUMBERS + 10 * RECORD, 1, bias=False)
    more = pytest.raises(CheckpointError, match=f'more than {NUMBERS + 10 * RECORD:,} numbers')
    with torch.device('meta'), more, bounded_by(file, {}):
        nn.Linear(NUMBERS + 10 * RECORD + 1, 1, bias=False)
    with bounded_by(file, dict(depth=LARGEST)):
        pass
    with pytest.raises(CheckpointError, match='depth=1,048,577'), bounded_by(file, dict(depth=LARGEST + 1)):
        pass
    nn.Linear(2, 2)  # and nothing is counted behind it
    with pytest.raises(RuntimeError, match='another error'), bounded_by(file, {}):
        raise RuntimeError('another error')
