from mm_graft.evaluation.frozen import begin


def test_features_are_extracted_when_first_asked_for(run, tmp_path):
    evaluation = begin(*run)
    assert not (tmp_path / 'cache').exists()
    assert evaluation.data.train_features.shape == (12, 16)
    assert evaluation.data.num_classes == 2
    assert evaluation.data.train_names[0] == 'dark/0.png'
    assert (tmp_path / 'cache' / evaluation.keys[0]).is_dir()


def test_keys_differ_between_the_sets(run):
    evaluation = begin(*run)
    assert evaluation.keys[0] != evaluation.keys[1]
