"""The search of learning rates: which trainings it makes, on which images it decides."""

import pytest

from experiments.methods import rates, rows, runs
from experiments.methods.rows import Length, Step

LENGTH = Length(4, 1, 2, 512)


@pytest.fixture
def asked(monkeypatch):
    """Instead of trainings, their commands by name; one image costs one operation in all methods."""
    found = {}

    def train(command, log, title, max_epochs):
        folder = log.with_suffix('')
        (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{max_epochs}.pth'))
        found[folder.name] = ' '.join(command)

    monkeypatch.setattr(runs, 'run_training', train)
    monkeypatch.setattr(rows, 'gflops_per_image', lambda label, cfg, options, cache: 1.0)
    return found


def test_a_rate_is_changed_in_the_last_training_alone():
    graft = (Step('heads', 1), Step('refined', 2, ('x=1', )))
    assert rates.rate_of(graft, LENGTH) == 2e-3
    assert rates.at_rate(graft, 6e-3, LENGTH) == (Step('heads', 1),
                                                  Step('refined', 2, ('x=1', 'optim_wrapper.optimizer.lr=0.006')))
    assert rates.at_rate((), 6e-4, LENGTH) == (Step('mae', 4, ('optim_wrapper.optimizer.lr=0.0006', )), )


def test_every_factor_is_trained_once_and_all_stand_on_the_mae_of_its_own_rate(tmp_path, asked, monkeypatch):
    scores = iter([70.0, 71.0, 72.0, 60.0])
    monkeypatch.setattr(rates, 'score', lambda checkpoint, row, cache, images: next(scores))
    found = rates.search('graft_images', (0.5, 1, 2), tmp_path, LENGTH)
    assert found == {'rate': 1.5e-3, 'knn': {'0.5': 70.0, '1': 71.0, '2': 72.0}}
    assert list(asked) == ['mae4_0', *(f'graft_images_at{percent}_graft_0' for percent in (50, 100, 200))]
    given = [command.partition('optimizer.lr=')[2].split(' ')[0] for command in asked.values()]
    assert given == ['', '0.00075', '', '0.003']
    assert all(f'checkpoint={tmp_path}/rates/mae4_0/epoch_4.pth' in command for command in list(asked.values())[1:])
    rates.search('mae', (1, ), tmp_path, LENGTH)
    assert len(asked) == 4  # MAE at its own rate is there
    assert rates.search('graft_images', (0.5, 1, 2), tmp_path, LENGTH) == found
    assert rates.search('graft_images', (2, ), tmp_path, LENGTH) == found  # what was found before stays


def test_training_images_decide_that_are_not_among_those_of_the_search(tmp_path, monkeypatch):
    def evaluate(cfg, checkpoint, settings):
        train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
        assert (train.indices, test.indices, settings.protocols) == (512, -512, ('knn', ))
        assert {**train, 'indices': 0} == {**test, 'indices': 0}
        return {'protocols': {'knn': {'top1': {'cls': 80.0, 'avg': 81.0}[settings.pool]}}}

    monkeypatch.setattr(rates, 'evaluate', evaluate)
    assert rates.score(tmp_path / 'epoch_4.pth', (), tmp_path, 512) == 81.0
