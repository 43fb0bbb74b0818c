import pytest
import torch
from mmengine.model import BaseModel

from mm_graft.host.extra_loss import add_loss, remove_losses


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return {'loss': 2 * self.weight}


def test_a_term_joins_the_sum_and_the_total_keeps_its_name():
    model = Model()
    add_loss(model, 'loss_first', lambda: torch.tensor(10.0))
    add_loss(model, 'loss_second', lambda: torch.tensor(100.0))
    total, logged = model.parse_losses({'loss': torch.tensor(1.0), 'accuracy': torch.tensor(7.0)})
    assert total == 111
    assert {name: value.item() for name, value in logged.items()} == {
        'loss': 111, 'loss_task': 1, 'loss_first': 10, 'loss_second': 100, 'accuracy': 7}
    remove_losses(model)
    assert model.parse_losses({'loss': torch.tensor(1.0)})[0] == 1


def test_the_host_sums_what_parse_losses_gets():
    """Fails if MMEngine no longer asks ``parse_losses`` for the total that it differentiates."""
    model = Model()
    add_loss(model, 'loss_more', lambda: 3 * model.weight)

    class Wrapper:
        def optim_context(self, model):
            return torch.enable_grad()

        def update_params(self, loss):
            loss.backward()

    model.train_step({'inputs': None}, Wrapper())
    assert model.weight.grad == pytest.approx(5.0)
