import json


def report(folder, top1):
    folder.mkdir()
    content = {'protocols': {'knn': {'top1': top1, 'interval95': [top1 - 1, top1 + 1]}}, 'checkpoint': 'a.pth'}
    (folder / 'report.json').write_text(json.dumps(content))
    return folder


def test_runs_stand_side_by_side(run, tmp_path):
    told = run('compare', report(tmp_path / 'one', 12.5), report(tmp_path / 'two', 50.0),
               '--plot', tmp_path / 'new' / 'a.png')
    assert [line.split()[-1] for line in told.splitlines() if 'one' in line or 'two' in line] == ['12.50', '50.00']
    assert (tmp_path / 'new' / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_a_run_that_does_not_exist_is_named(refused):
    assert 'report no/where does not exist' in refused('compare', 'no/where')


def test_what_was_kept_stands_beside_what_was_gained(run, tmp_path):
    before, after, before_old, after_old = (
        report(tmp_path / name, top1) for name, top1 in (('a', 40.0), ('b', 45.0), ('c', 70.0), ('d', 68.0)))
    told = run('compare', before, after, '--kept', before_old, after_old, '--plot', tmp_path / 'kept.png')
    assert next(line.split() for line in told.splitlines() if line.startswith('b')) == [
        'b', 'knn', '45.00', '+5.00', '68.00', '-2.00']
    assert (tmp_path / 'kept.png').is_file()
