# ruff: noqa: NPY002 - pipelines draw from numpy's global state
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import distributed, nn

from mm_graft.engine.hooks.gradient_conflict_hook import GradientConflictHook, summary
from mm_graft.gradients import terms_conflict, undisturbed
from mm_graft.process_group import leave_group
from tests.models.selfsup.test_joint_mim_cl import config
from tests.own_process import in_processes


class Images(torch.utils.data.Dataset):
    """Three versions of an image, drawn anew each time."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        noise = random.random() + np.random.rand()
        return {'inputs': [torch.rand(3, 32, 32) + noise for _ in range(3)], 'data_samples': DataSample()}


def train(folder, hooks, contrast_weight=1., **optim_wrapper):
    torch.manual_seed(0)
    runner = Runner(
        MODELS.build(config(contrast_weight=contrast_weight)), str(folder), default_scope='mmpretrain',
        randomness={'seed': 3}, custom_hooks=hooks,
        train_dataloader={'batch_size': 2, 'num_workers': 0, 'dataset': Images(),
                          'collate_fn': {'type': 'default_collate'},
                          'sampler': {'type': 'DefaultSampler', 'shuffle': True}},
        optim_wrapper={'optimizer': {'type': 'AdamW', 'lr': 0.01}, **optim_wrapper},
        train_cfg={'by_epoch': True, 'max_epochs': 2}, log_level='INFO',
        experiment_name=f'{folder.name}_{len(hooks)}_{len(optim_wrapper)}')
    runner.train()
    return runner


@pytest.mark.parametrize('optim_wrapper', [{}, {'accumulative_counts': 2}], ids=['plain', 'accumulated'])
def test_a_run_with_and_without_the_hook_has_the_same_weights(tmp_path, optim_wrapper):
    hook = GradientConflictHook(interval=1)
    with_hook = train(tmp_path / 'with', [hook], **optim_wrapper).model.state_dict()
    without = train(tmp_path / 'without', [], **optim_wrapper).model.state_dict()
    assert hook.seconds > 0
    assert all(torch.equal(with_hook[name], without[name]) for name in without)


def test_every_block_is_logged_at_every_interval_with_its_cost(tmp_path, caplog):
    seen = []
    hook = GradientConflictHook(interval=3)
    measure = hook.measure

    def spy(runner, batch):
        seen.append((runner.iter, measure(runner, batch)))
        return seen[-1][1]

    hook.measure = spy
    runner = train(tmp_path, [hook])
    assert [iteration for iteration, _ in seen] == [0, 3]
    assert all(cosine.shape == (4, ) and torch.isfinite(cosine).all() for _, cosine in seen)
    log = next(tmp_path.rglob('*.log')).read_text()
    assert 'conflict of loss_pixels and loss_contrast' in log
    assert '% of the time since training began' in log
    scalars = '\n'.join(path.read_text() for path in tmp_path.rglob('scalars.json')) if runner else ''
    assert 'cos_conflict/block_04' in scalars


def test_it_measures_the_batch_and_the_mask_that_are_about_to_be_trained():
    torch.manual_seed(1)
    model = MODELS.build(config()).train()
    model.momentum_encoder.max_iters = 10
    batch = {'inputs': [torch.rand(3, 3, 32, 32) for _ in range(3)], 'data_samples': [DataSample()] * 3}
    torch.manual_seed(7)
    found = GradientConflictHook().measure(SimpleNamespace(model=model), batch)
    with undisturbed(model):
        data = model.data_preprocessor(batch, True)
        expected = terms_conflict(model, lambda: model(**data, mode='loss'), ('loss_pixels', 'loss_contrast'))
    torch.testing.assert_close(found, expected.cosine)


def test_any_algorithm_with_two_terms_will_do():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2, bias=False)])

        def forward(self, inputs, mode):
            output = self.layers[0](inputs)
            return {'loss_a': output[:, 0].sum(), 'loss_b': (output[:, 0] - output[:, 1]).sum()}

        def data_preprocessor(self, batch, training):
            return batch

    cosine = GradientConflictHook(losses=('loss_a', 'loss_b')).measure(
        SimpleNamespace(model=Two()), {'inputs': torch.ones(1, 2)})
    torch.testing.assert_close(cosine, torch.tensor([0.5**0.5]))


def test_blocks_without_both_gradients_are_left_out_and_none_at_all_is_said(tmp_path):
    assert summary(torch.tensor([0.5, float('nan'), -0.25])) == 'cosine -0.250 to 0.500, negative in 1 of 2 blocks'
    train(tmp_path, [GradientConflictHook(interval=3)], contrast_weight=0.)
    assert 'no block has both gradients' in next(tmp_path.rglob('*.log')).read_text()


def test_wrong_settings_are_named_early():
    with pytest.raises(ValueError, match='interval=0'):
        GradientConflictHook(interval=0)
    with pytest.raises(ValueError, match='two different terms'):
        GradientConflictHook(losses=('loss', 'loss'))


def worker(rank, folder):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    found = {}
    for measured in (True, False):
        torch.manual_seed(1)
        model = MODELS.build(config())
        model.momentum_encoder.max_iters = 10
        model = MMDistributedDataParallel(model.train())
        torch.manual_seed(7 + rank)
        batch = {'inputs': [torch.rand(4, 3, 32, 32) for _ in range(3)], 'data_samples': [DataSample()] * 4}
        if measured:
            found['cosine'] = GradientConflictHook().measure(SimpleNamespace(model=model), batch)
        data = model.module.data_preprocessor(batch, True)
        sum(model(**data, mode='loss').values()).backward()
        found[measured] = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    torch.save(found, f'{folder}/{rank}.pth')
    leave_group()


def test_two_processes_log_the_same_mean_and_train_as_without(tmp_path):
    in_processes(worker, str(tmp_path), processes=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    assert torch.equal(first['cosine'], second['cosine'])
    for one, other, alone in zip(first[True], second[True], first[False]):
        assert torch.equal(one, other)
        assert torch.equal(one, alone)
