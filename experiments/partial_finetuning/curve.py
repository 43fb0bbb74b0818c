"""Top-1 after fine-tuning over the number of frozen blocks, a line for each encoder."""

from matplotlib.figure import Figure


def draw_curve(scores: dict[str, dict[int, float]]) -> Figure:
    """A line for each encoder that has a score.

    Args:
        scores: name of an encoder → number of frozen blocks → top-1 in percent.
    """
    figure = Figure(figsize=(4.6, 3.4), layout='constrained')
    axes = figure.add_subplot()
    for name, by_frozen in scores.items():
        if by_frozen:
            frozen = sorted(by_frozen)
            axes.plot(frozen, [by_frozen[count] for count in frozen], marker='o', label=name)
    axes.set(xlabel='frozen blocks', ylabel='fine-tuned top-1 (%)')
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=.25)
    axes.legend(frameon=False)
    return figure
