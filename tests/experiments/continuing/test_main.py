import sys

from experiments.continuing import __main__ as continuing
from experiments.continuing.images import NEW, OLD, Domain


def test_every_seed_rate_and_rule_is_run_after_the_start_was_scored(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(continuing, 'prepare', lambda own: {NEW: 'new', OLD: 'old'})
    monkeypatch.setattr(continuing, 'score_file', lambda path, domains, part: done.append((path, part)) or {NEW: 1})
    monkeypatch.setattr(continuing.Row, 'run', lambda row, domains, part: done.append((row.name, part)))
    monkeypatch.setattr(sys, 'argv', ['continuing', '--held-out', '--seeds', '0', '1', '--rates', '0.01', '--rules',
                                      'stages', 'frozen', '--out', str(tmp_path)])
    continuing.main()
    names = ['stages_0.01_0', 'frozen_0.01_0', 'stages_0.01_1', 'frozen_0.01_1']
    assert done == [(continuing.WEIGHTS, 'held_out'), *((name, 'held_out') for name in names)]
    done.clear()
    continuing.main()
    assert len(done) == 4  # the start is known


def test_the_list_names_the_files_to_learn_from(tmp_path, monkeypatch):
    monkeypatch.setattr(continuing, 'prepare_weights', lambda path: path)
    monkeypatch.setattr(continuing, 'prepare_cifar10', lambda root: root)
    monkeypatch.setattr(continuing, 'read_cifar10', lambda root: (['cat/1.png', 'dog/2.png'], Domain(1, 2, 3)))
    monkeypatch.setattr(continuing, 'read_fashion_mnist', lambda root: 'old')
    assert continuing.prepare(tmp_path / 'new' / 'own.txt') == {NEW: Domain(1, 2, 3), OLD: 'old'}
    assert (tmp_path / 'new' / 'own.txt').read_text() == (
        'data/cifar10/train/cat/1.png\ndata/cifar10/train/dog/2.png\n')
