import pytest
from mmengine.config import Config

from mm_graft.commands.batches import accumulation, processes, scale_by_effective_batch, share_batch


def config(batch=8, steps=None, **keys):
    wrapper = dict(type='OptimWrapper', **({'accumulative_counts': steps} if steps else {}))
    return Config(dict(train_dataloader=dict(batch_size=batch), optim_wrapper=wrapper, **keys))


@pytest.fixture(autouse=True)
def _eight_processes(monkeypatch):
    for name, number in (('WORLD_SIZE', 8), ('SLURM_NTASKS', 16), ('OMPI_COMM_WORLD_SIZE', 32)):
        monkeypatch.setenv(name, str(number))


@pytest.mark.parametrize(('launcher', 'number'), [('none', 1), ('pytorch', 8), ('slurm', 16), ('mpi', 32)])
def test_each_launcher_says_how_many_processes_there_are(launcher, number):
    assert processes(config(launcher=launcher)) == number
    assert processes(config()) == 1


def test_an_effective_batch_is_shared():
    cfg = config(launcher='pytorch', steps=2)
    assert share_batch(cfg, 64) == 'train_dataloader.batch_size = 4 (batch_size / 16)'
    assert cfg.train_dataloader.batch_size == 4


@pytest.mark.parametrize('batch', [0, -16, 24, 1.5])
def test_what_cannot_be_shared_is_refused(batch):
    with pytest.raises(ValueError, match='by 8 processes with 2 iterations a step; choose a multiple of 16'):
        share_batch(config(launcher='pytorch', steps=2), batch)


def test_the_host_scales_by_the_images_of_a_step():
    cfg = config(steps=4, auto_scale_lr=dict(base_batch_size=4096, enable=True))
    scale_by_effective_batch(cfg)
    assert cfg.auto_scale_lr.base_batch_size == 4096 / 4
    for scaling in (dict(base_batch_size=4096), dict(base_batch_size=4096, enable=False)):
        cfg = config(steps=4, auto_scale_lr=scaling)
        scale_by_effective_batch(cfg)
        assert cfg.auto_scale_lr.base_batch_size == 4096


def several(first, second):
    return Config(dict(optim_wrapper=dict(constructor='Own', paramwise_cfg=dict(a=dict(lr_mult=1)), **{
        name: dict(optimizer=dict(type='SGD', lr=1), **({'accumulative_counts': count} if count else {}))
        for name, count in (('encoder', first), ('decoder', second))})))


@pytest.mark.parametrize(('cfg', 'iterations'), [
    (config(), 1), (config(steps=4), 4), (several(None, 1), 1), (several(2, 2), 2), (Config({}), 1),
    (Config(dict(optim_wrapper=object())), 1), (Config(dict(strategy=dict(gradient_accumulation_steps=4))), 4),
    (Config(dict(strategy=dict(config=dict(gradient_accumulation_steps=8)))), 8)])
def test_iterations_of_a_step_are_found_wherever_they_are_set(cfg, iterations):
    assert accumulation(cfg) == iterations


def test_optimizers_that_step_at_different_times_have_no_batch_in_common():
    with pytest.raises(ValueError, match=r"accumulative_counts \{'encoder': 2, 'decoder': 1\}.*give them the same"):
        accumulation(several(2, None))
