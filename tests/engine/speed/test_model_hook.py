"""What hooks that change a model share."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.registry import MODELS

from mm_graft.engine.speed.channels_last_hook import ChannelsLastHook
from mm_graft.engine.speed.checkpoint_blocks_hook import CheckpointBlocksHook
from mm_graft.engine.speed.model_hook import ModelHook, apply_configured
from tests.tiny import classifier


def test_of_a_configs_hooks_only_the_wanted_kind_is_applied():
    hooks = [dict(type='mm_graft.ChannelsLastHook'), dict(type='EMAHook')]
    assert apply_configured(MODELS.build(classifier()), hooks, ChannelsLastHook) == 1
    assert apply_configured(MODELS.build(classifier()), hooks, CheckpointBlocksHook) == 0
    assert apply_configured(MODELS.build(classifier()), None, ChannelsLastHook) == 0


def test_a_run_changes_its_model_before_training_and_says_so(caplog):
    class Counting(ModelHook):
        title = 'counting'

        def apply(self, model):
            return model

    logger = logging.getLogger('model_hook')
    with caplog.at_level(logging.INFO, logger='model_hook'):
        Counting().before_train(SimpleNamespace(model=7, logger=logger))
    assert caplog.messages == ['counting: 7 modules']


def test_who_does_not_say_how_is_refused():
    with pytest.raises(NotImplementedError):
        ModelHook().apply(None)
