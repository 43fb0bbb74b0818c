from experiments.partial_finetuning.curve import draw_curve


def test_a_line_has_its_scores_in_the_order_of_frozen_blocks():
    axes = draw_curve({'graft': {8: 81.0, 0: 83.9}, 'MAE': {0: 83.6}, 'none': {}}).axes[0]
    assert [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines] == [
        ('graft', [0, 8], [83.9, 81.0]), ('MAE', [0], [83.6])]
    assert 'frozen' in axes.get_xlabel()
