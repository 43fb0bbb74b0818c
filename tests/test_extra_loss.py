import pytest
import torch
from mmengine.model import BaseModel
from torch import distributed, nn

from mm_graft.extra_loss import add_loss


class Model(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight, self.other = (nn.Parameter(torch.ones(())) for _ in range(2))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return {'loss': 2 * self.weight, 'accuracy': torch.tensor(7.0)} if mode == 'loss' else 'features'


class Wrapper:
    """What a model needs of an optimizer wrapper."""

    def optim_context(self, model):
        return torch.autocast('cpu', torch.bfloat16)

    def update_params(self, loss):
        loss.backward()


def test_a_term_joins_the_sum_and_the_total_keeps_its_name():
    model = Model()
    handles = [add_loss(model, 'loss_first', lambda: torch.tensor(10.0)),
               add_loss(model, 'loss_second', lambda: torch.tensor(100.0))]
    logged = model.train_step({'inputs': None}, Wrapper())
    assert {name: value.item() for name, value in logged.items()} == {
        'loss': 112, 'loss_task': 2, 'loss_first': 10, 'loss_second': 100, 'accuracy': 7}
    handles[0].remove()
    assert set(model(None, mode='loss')) == {'loss_task', 'loss_second', 'accuracy'}
    handles[1].remove()
    assert set(model(None, mode='loss')) == {'loss', 'accuracy'}


def test_other_modes_give_what_they_gave():
    model = Model()
    add_loss(model, 'loss_more', lambda: 1 / 0)
    assert model(None, mode='tensor') == 'features'


def test_the_term_is_differentiated_and_computed_in_full_precision():
    """Fails if MMEngine no longer asks the model itself for the losses that it differentiates."""
    model, seen = Model(), []

    def term():
        seen.append(torch.is_autocast_enabled('cpu'))
        return 3 * model.weight

    add_loss(model, 'loss_more', term)
    model.train_step({'inputs': None}, Wrapper())
    assert model.weight.grad == pytest.approx(5.0)
    assert seen == [False]


def test_a_distributed_model_sends_the_terms_gradient_too(tmp_path):
    """Where a parameter is in the added term alone, the wrapper has to find it in what the model returns."""
    distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = Model()
        add_loss(model, 'loss_more', lambda: 3 * model.other)
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        losses = wrapped(None, mode='loss')
        (losses['loss_task'] + losses['loss_more']).backward()
        assert (model.weight.grad.item(), model.other.grad.item()) == (2, 3)
        wrapped(None, mode='loss')  # which would say that the step before did not reduce all gradients
    finally:
        distributed.destroy_process_group()
