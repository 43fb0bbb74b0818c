import pytest

from benchmarks.loader import make_photos
from benchmarks.peers import ours
from benchmarks.peers.contest import OURS, Size
from benchmarks.peers.ours import HOST, entries, loader, training
from benchmarks.step import TrainingStep
from benchmarks.table import Variant


@pytest.mark.parametrize(('method', 'names'), [
    ('MoCo v3', [OURS, f'{OURS}, `class_token_only`', f'{OURS}, lower half frozen', HOST, HOST]),
    ('SimCLR', [OURS, HOST, HOST]), ('LocalMIM', [OURS])])
def test_ours_come_first_and_the_host_has_what_it_has(method, names, monkeypatch):
    asked = []
    monkeypatch.setattr('benchmarks.peers.ours.training', lambda *args, **kwargs: asked.append((args[2], kwargs)))
    assert [entry.name for entry in entries(method, Size(32, 2, 'tiny', 2))] == names
    assert [variant.plain for variant, _ in asked] == [name == HOST for name in names]
    assert [variant.frozen for variant, _ in asked] == ['frozen' in name for name in names]
    assert [kwargs.get('fused', False) for _, kwargs in asked] == [*(len(names) * [False])[:-1], HOST in names]


def test_frozen_blocks_do_not_train(monkeypatch):
    made = []
    monkeypatch.setattr(ours, 'TrainingStep', lambda *args: made.append(TrainingStep(*args)) or made[0])
    training('MoCo v3', Size(32, 2, 'tiny', 3), Variant('', frozen=1))
    layers = made[0].model.backbone.layers
    assert [all(parameter.requires_grad for parameter in layer.parameters()) for layer in layers] == [False, True, True]


@pytest.mark.parametrize('speed', ['', '_fast'])
def test_loaders_make_batches_of_the_size_that_all_have(tmp_path, speed):
    size = Size(32, 2, 'tiny', 1, tuple(make_photos(tmp_path, 2, (40, 50))))
    assert [view.shape for view in loader('MoCo v3', size, speed)()['inputs']] == 2 * [(2, 3, 32, 32)]
