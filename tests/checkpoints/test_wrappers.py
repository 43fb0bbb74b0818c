import re

import pytest
import torch
from mmengine.registry import MODELS
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from mm_graft.checkpoints import load_backbone
from mm_graft.checkpoints.layouts import mmpretrain_to_timm
from mm_graft.checkpoints.wrappers import unwrapped
from tests.tiny import VIT


@pytest.fixture
def vit():
    return MODELS.build(dict(type='VisionTransformer', **VIT))


def arrives(vit, state, tmp_path, **options):
    torch.save(state, tmp_path / 'a.pth')
    other = MODELS.build(dict(type='VisionTransformer', **VIT))
    load_backbone(other, tmp_path / 'a.pth', **options)
    return all(torch.equal(value, other.state_dict()[name]) for name, value in vit.state_dict().items())


def test_blocks_that_were_compiled_or_recomputed_are_read_as_they_are(vit, tmp_path):
    """By the wrappers themselves, around parts of the model."""
    expected = set(vit.state_dict())
    state = torch.compile(vit).state_dict()
    vit.layers[0], vit.layers[1].attn = torch.compile(vit.layers[0]), torch.compile(vit.layers[1].attn)
    vit.layers[2] = checkpoint_wrapper(vit.layers[2])
    wrapped = dict(vit.state_dict())
    assert set(unwrapped(state).values()) == set(unwrapped(wrapped).values()) == expected
    assert 'layers.0._orig_mod.ln1.weight' in wrapped
    plain = MODELS.build(dict(type='VisionTransformer', **VIT))
    plain.load_state_dict({name: wrapped[key] for key, name in unwrapped(wrapped).items()})
    assert arrives(plain, wrapped, tmp_path)


def test_blocks_in_chunks_are_read_by_their_own_numbers(vit, tmp_path):
    timm = mmpretrain_to_timm(vit.state_dict())
    chunked = {re.sub(r'^blocks\.(\d)', lambda match: f'blocks.{int(match[1]) // 2}.{match[1]}', name): value
               for name, value in timm.items()}
    assert 'blocks.1.3.norm1.weight' in chunked
    assert arrives(vit, {'teacher': {f'backbone.{name}': value for name, value in chunked.items()}}, tmp_path)


@pytest.mark.parametrize('prefix', ['_orig_mod.', 'module._orig_mod.', 'module._orig_mod', None])
def test_a_prefix_may_be_given_with_the_wrappers_that_the_file_has(vit, tmp_path, prefix):
    state = {f'{(prefix or "_orig_mod.").rstrip(".")}.{name}': value
             for name, value in mmpretrain_to_timm(vit.state_dict()).items()}
    prefix = prefix if prefix is None else prefix.rstrip('.') + '.'
    assert arrives(vit, state, tmp_path, prefix=prefix)


def test_names_that_would_become_one_stay():
    names = ['blocks.0.0.conv.weight', 'blocks.1.0.conv.weight', 'a._orig_mod.b', 'a.b', 'my_orig_mod.c']
    assert unwrapped(names) == {name: name for name in names}
    assert unwrapped(['my_orig_mod.c', '_orig_mod.c']) == {'my_orig_mod.c': 'my_orig_mod.c', '_orig_mod.c': 'c'}
