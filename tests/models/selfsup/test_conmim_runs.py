"""ConMIM under the Runner and on two processes."""

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import distributed, nn
from torch.utils.data import Dataset

from mm_graft.process_group import leave_group
from tests.models.selfsup.conmim_builders import build, config
from tests.own_process import in_processes


class Pairs(Dataset):
    """Eight images in two views."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(index))
        return {'inputs': list(pixels), 'data_samples': index}


def runner(work_dir, epochs, **settings) -> Runner:
    return Runner(
        model=config(teacher={'momentum': 0.9}), work_dir=str(work_dir),
        train_dataloader={'dataset': Pairs(), 'batch_size': 4, 'num_workers': 0,
                          'sampler': {'type': 'DefaultSampler', 'shuffle': False},
                          'collate_fn': {'type': 'default_collate'}},
        train_cfg={'by_epoch': True, 'max_epochs': epochs},
        optim_wrapper={'optimizer': {'type': 'AdamW', 'lr': 0.01}},
        default_scope='mmpretrain', experiment_name=f'conmim_{work_dir.name}_{epochs}', log_level='ERROR',
        randomness={'seed': 0}, **settings)


def test_a_run_leaves_the_averaged_teacher_in_its_last_checkpoint(tmp_path):
    run = runner(tmp_path, 2)
    run.train()
    state = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['state_dict']
    assert state['momentum_encoder.steps'] == 4
    weights = run.model.neck.fc0.weight
    assert not torch.equal(state['momentum_encoder.module.1.fc0.weight'], weights)
    torch.testing.assert_close(state['momentum_encoder.module.1.fc0.weight'],
                               run.model.momentum_encoder.module[1].fc0.weight)


class FixedMask(nn.Module):
    """The same half of every image, on any number of processes."""

    grid = (4, 4)

    def forward(self, batch_size, device):
        return (torch.arange(16, device=device) % 2 == 0).expand(batch_size, -1)


LAYER_NORM_NECK = {'type': 'NonLinearNeck', 'in_channels': 16, 'hid_channels': 32, 'out_channels': 8, 'num_layers': 3,
                   'with_avg_pool': False, 'with_last_bn': False, 'norm_cfg': {'type': 'LN'}}


def fixed_model(neck: dict | None):
    model = build(**({} if neck is None else {'neck': neck}))
    model.mask_generator = FixedMask()
    return model


def train_two_steps(model, batches):
    wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5))
    for views in batches:
        model.train_step({'inputs': views, 'data_samples': None}, wrapper)


def worker(rank, folder, neck, batches):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    model = fixed_model(neck)
    train_two_steps(MMDistributedDataParallel(model), [[v[2 * rank:2 * rank + 2] for v in b] for b in batches])
    if rank == 0:
        torch.save(model.state_dict(), f'{folder}/state.pth')
    leave_group()


def parameters_after_ddp(folder, neck, batches) -> dict[str, torch.Tensor]:
    in_processes(worker, str(folder), neck, batches, processes=2)
    return torch.load(folder / 'state.pth', weights_only=True)


@pytest.fixture
def batches():
    return [[torch.randn(4, 3, 32, 32) for _ in range(2)] for _ in range(2)]


def assert_same_parameters(model, state):
    for name, parameter in model.named_parameters():  # the running statistics are those of one device
        torch.testing.assert_close(state[name], parameter.detach(), rtol=1e-4, atol=1e-6, msg=name)


def test_two_processes_equal_one_with_the_same_batch_where_no_batch_norm_is(tmp_path, batches):
    model = fixed_model(LAYER_NORM_NECK)
    train_two_steps(model, batches)
    assert_same_parameters(model, parameters_after_ddp(tmp_path, LAYER_NORM_NECK, batches))


def test_two_processes_equal_one_that_normalizes_each_half_by_itself(tmp_path, batches):
    model = fixed_model(None)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for views in batches:
        optimizer.zero_grad()
        for half in (slice(0, 2), slice(2, 4)):
            (model.loss([v[half] for v in views])['loss_contrast'] / 2).backward()
        optimizer.step()
    assert_same_parameters(model, parameters_after_ddp(tmp_path, None, batches))
