"""`--branch` of every command that takes a checkpoint: another encoder is looked at, or the option is refused."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mmpretrain.registry import MODELS
from PIL import Image

from mm_graft.checkpoints import onnx_export, read_checkpoint
from mm_graft.commands.main import build_parser, main
from tests.models.selfsup.test_joint_mim_cl import config

CONFIG = """
default_scope = 'mmpretrain'
model = {model!r}
data_preprocessor = model['data_preprocessor']
views = dict(type='MultiView', num_views=[1, 1], transforms=[[dict(type='ColorJitter', brightness=0.4)]] * 2)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root={root!r}, data_prefix='train',
                 pipeline=[dict(type='LoadImageFromFile'), views, dict(type='PackInputs')]))
"""
EXTERNAL = ('checkpoint', 'checkpoint_sha256', 'seconds', 'seconds_features', 'branch')


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Pictures; a checkpoint, and another one whose encoder is the momentum encoder of the first."""
    random = np.random.default_rng(0)
    for split in ('train', 'test'):
        for index in range(24):
            path = tmp_path / split / f'class{index % 2}' / f'{index}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    (tmp_path / 'config.py').write_text(CONFIG.format(model=config(), root=str(tmp_path)))
    state = MODELS.build(config()).state_dict()
    slow = {name: torch.randn_like(tensor) if tensor.is_floating_point() else tensor
            for name, tensor in state.items() if name.startswith('momentum_encoder.module.')}
    swapped = {name.replace('momentum_encoder.module.0.', 'backbone.'): tensor for name, tensor in slow.items()
               if name.startswith('momentum_encoder.module.0.')}
    torch.save({**state, **slow}, tmp_path / 'model.pth')
    torch.save({**state, **slow, **swapped}, tmp_path / 'swapped.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words_for(name: str, checkpoint: str, out: Path) -> list:
    """A command line of each command that looks at an encoder, without ``--branch``."""
    small = ['--device', 'cpu', '--batch-size', 4]
    known = {
        'evaluate': ['config.py', checkpoint, '--protocols', 'knn', 'linear', '--ks', 1, 3, 5, 7, '--linear-epochs', 3,
                     '--out', out, '--cache', out / 'cache', '--workers', 0, *small],
        'embed': ['config.py', checkpoint, 'test', '--out', out / 'a.npz', *small],
        'convert layout': [checkpoint, out / 'a.pth'],
        'convert publish': [checkpoint, out, '--name', 'a'],
        'convert onnx': ['config.py', checkpoint, out / 'a.onnx'],
        'analyze layers': ['--train-images', 8, '--test-images', 8],
        'analyze vic': ['--batches', 1], 'analyze tsne': ['--perplexity', 2, '--per-class', 4],
        'analyze attention-distance': ['--count', 4], 'analyze attention-map': ['--count', 4],
        'analyze patch-retrieval': ['--count', 4], 'analyze conflict': [], 'analyze segmentation': [],
        'analyze detection': [], 'analyze reconstruction': ['--images', 'test/class0/0.png']}[name]
    if name.startswith('analyze'):
        known = ['config.py', checkpoint, '--out', out, *small, *known]
    return [str(word) for word in (*name.split(), *known)]


def leaves(parser: argparse.ArgumentParser, name: str = '') -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, by its name."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name.strip(), parser
    for word, inner in (item for action in below for item in action.choices.items()):
        yield from leaves(inner, f'{name} {word}')


def result(out: Path) -> object:
    """What a command wrote, without what names the checkpoint."""
    if (out / 'report.json').exists():
        protocols = json.loads((out / 'report.json').read_text())['protocols']
        return {name: {key: value for key, value in found.items() if key not in EXTERNAL}
                for name, found in protocols.items()}
    file, = (path for path in out.iterdir() if path.suffix in ('.json', '.npz', '.pth', '.onnx'))
    if file.suffix == '.json':
        models = json.loads(file.read_text())['models']
        return list(models.values())
    if file.suffix == '.npz':
        return np.load(file)['features'].tolist()
    return {name: tensor.tolist() for name, tensor in read_checkpoint(file).items() if name.startswith('backbone.')}


COMMANDS = dict(leaves(build_parser()))
TAKES = {name for name, parser in COMMANDS.items() if name != 'split'  # whose source is a data set
         and {'checkpoint', 'source'} & {action.dest for action in parser._actions if not action.option_strings}}
WHOLE = {f'analyze {name}' for name in ('conflict', 'reconstruction', 'segmentation', 'detection')}


def test_every_command_that_takes_a_checkpoint_is_looked_at_here():
    branched = {name for name, parser in COMMANDS.items() if '--branch' in parser._option_string_actions}
    assert branched | {'test'} == TAKES  # test runs the whole model, and knows no branch
    assert 'evaluate' in TAKES
    assert WHOLE < TAKES


@pytest.mark.parametrize('name', sorted(TAKES - WHOLE - {'test'}))
def test_the_branch_is_the_encoder_that_is_looked_at(place, name, monkeypatch):
    def export(backbone, path, size):
        torch.save({'state_dict': {f'backbone.{key}': value for key, value in backbone.state_dict().items()}}, path)

    monkeypatch.setattr(Figure, 'savefig', lambda *args, **kwargs: None)
    monkeypatch.setattr(onnx_export, 'export_onnx', export)
    monkeypatch.setattr(onnx_export, 'largest_difference', lambda *args: 0.0)
    found = []
    for checkpoint, branch in (('model.pth', 'base'), ('model.pth', 'momentum'), ('swapped.pth', 'base')):
        out = place / f'{checkpoint}-{branch}'
        out.mkdir()
        main(arguments=[*words_for(name, checkpoint, out), '--branch', branch])
        found.append(result(out))
    base, momentum, swapped = found
    assert momentum == swapped
    assert momentum != base


@pytest.mark.parametrize('name', sorted(WHOLE))
def test_what_runs_the_whole_model_refuses_a_branch(place, name, capsys):
    with pytest.raises(SystemExit):
        main(arguments=[*words_for(name, 'model.pth', place / 'out'), '--branch', 'momentum'])
    what = name.split()[1]
    assert re.search(f'--branch momentum picks an encoder .* {what} runs the whole model', capsys.readouterr().err)
    assert not (place / 'out').exists()
