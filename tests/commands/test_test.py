def test_what_cannot_be_tested_is_refused(refused, config, tmp_path):
    assert 'has no test_dataloader' in refused('test', config, tmp_path / 'mae.pth')
    assert 'config no/where.py does not exist' in refused('test', 'no/where.py', 'file.pth')
    with config.open('a') as file:
        file.write('test_dataloader = dict(dataset=dict(data_root="no/where"))\n')
    assert 'checkpoint no/where.pth does not exist; give the path' in refused('test', config, 'no/where.pth')
    assert 'data folder no/where (test_dataloader.dataset.data_root)' in refused('test', config, tmp_path / 'mae.pth')
