from mm_graft.spelling import did_you_mean


def test_near_names_are_offered_nearest_first_and_once():
    assert did_you_mean(['lr_mul'], ['decay_mult', 'lr_mult', 'betas']) == "; did you mean 'lr_mult'?"
    assert did_you_mean(['lr_mul', 'lr_mlt'], ['lr_mult']) == "; did you mean 'lr_mult'?"
    assert did_you_mean(['layer.1'], ['layers.10', 'layers.1']) == "; did you mean 'layers.1', 'layers.10'?"


def test_far_names_are_not():
    assert did_you_mean(['xyz'], ['decay_mult']) == ''
