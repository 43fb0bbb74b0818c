from mm_graft.spelling import begin_of, did_you_mean, named, some_of


def test_near_names_are_offered_nearest_first_and_once():
    assert did_you_mean(['lr_mul'], ['decay_mult', 'lr_mult', 'betas']) == "; did you mean 'lr_mult'?"
    assert did_you_mean(['lr_mul', 'lr_mlt'], ['lr_mult']) == "; did you mean 'lr_mult'?"
    assert did_you_mean(['layer.1'], ['layers.10', 'layers.1']) == "; did you mean 'layers.1', 'layers.10'?"


def test_far_names_are_not():
    assert did_you_mean(['xyz'], ['decay_mult']) == ''


def test_long_lists_are_cut():
    assert some_of('abc') == some_of('abc', 3) == 'a, b, c'
    assert some_of([str(number) for number in range(12)]) == '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    assert some_of('abcd', 2, '; ') == 'a; b and 2 more'


def test_what_has_no_name_stays_a_number():
    assert named([1, 2], ['a', 'b']) == ['b', 2]


def test_long_values_are_cut():
    assert begin_of('abcdefgh', 10) == "'abcdefgh'"
    assert begin_of('abcdefghi', 10) == "'abcdef…"
