import pytest
from mmengine.logging import MessageHub

from mm_graft.models.run_position import run_iteration, run_length


@pytest.fixture
def hub(monkeypatch):
    hub = MessageHub.get_instance('run position')
    hub.runtime_info.clear()
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: hub)
    return hub


def test_the_runner_says_how_long_and_where_and_a_given_length_goes_first(hub):
    with pytest.raises(RuntimeError, match='give max_iters'):
        run_length()
    assert (run_iteration(), run_iteration(7)) == (0, 7)
    hub.update_info('max_iters', 50)
    hub.update_info('iter', 3)
    assert (run_length(), run_length(20), run_iteration(7)) == (50, 20, 3)
