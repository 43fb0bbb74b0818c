import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import Runner

from mm_graft.host.first_weights import after_init_weights, entries, initialize, is_pretrained
from tests.tiny import grafted_mocov3, settings


@pytest.mark.parametrize(('settings', 'expected'), [
    (None, False), ([], False), ({}, False), ({'type': 'Xavier', 'layer': 'Linear'}, False), ('Pretrained', False),
    *(({'type': kind}, True) for kind in (
        'Pretrained', 'PretrainedInit', 'mmengine.Pretrained', 'mmengine.model.PretrainedInit', PretrainedInit))])
def test_a_file_is_recognized_by_each_of_its_names(settings, expected):
    assert is_pretrained(settings) == expected


def test_entries_are_one_or_several():
    one = {'type': 'Xavier'}
    assert [entries(given) for given in (one, [one], (one, one), None, [])] == [[one], [one], [one, one], [], []]


class Initialized(BaseModule):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def init_weights(self):
        self.calls.append('own')


@pytest.mark.parametrize(('build', 'expected'), [
    (Initialized, ['own', 'then', 'own']), (lambda calls: torch.nn.Linear(1, 1), ['then'])])
def test_it_follows_the_next_initialization_and_no_other(build, expected):
    calls = []
    model = build(calls)
    after_init_weights(model, lambda: calls.append('then'))
    model.init_weights()
    if hasattr(model, 'init_weights'):
        model.init_weights()
    assert calls == expected


def test_the_runner_initializes_by_the_models_own_method(tmp_path):
    runner, calls = Runner(**settings(grafted_mocov3(), tmp_path)), []
    after_init_weights(runner.model, lambda: calls.append(runner.iter))
    runner.train()
    assert calls == [0]


def test_weights_are_initialized_without_a_line_for_each_of_them():
    logger, lines, calls = MMLogger.get_current_instance(), [], []
    model, before = Initialized(calls), (logger.level, list(logger.handlers))
    logger.handlers[0].addFilter(keep := lambda record: bool(lines.append(record)))
    try:
        initialize(model)
        assert (calls, lines) == (['own'], [])
        logger.info('as before')
    finally:
        logger.handlers[0].removeFilter(keep)
    assert len(lines) == 1
    assert (logger.level, logger.handlers) == before


def test_what_fails_to_initialize_leaves_the_logger_as_it_was():
    level = MMLogger.get_current_instance().level
    with pytest.raises(AttributeError):
        initialize(torch.nn.Linear(1, 1))
    assert MMLogger.get_current_instance().level == level
