"""The views of a batch that a contrastive method compares."""

from torch import Tensor


def pick_views(inputs: list[Tensor], *wanted: int) -> list[Tensor]:
    """The views of the numbers ``wanted``, each (B, 3, H, W)."""
    given = f'{len(inputs)} view(s)' if isinstance(inputs, list | tuple) else f'one {type(inputs).__name__}'
    if not isinstance(inputs, list | tuple) or len(inputs) <= max(wanted):
        raise ValueError(f'{given} of each image came to a method that compares views {wanted} (from 0); use '
                         'a two-view pipeline: MultiView(num_views=[1, 1], …), or mm_graft.TwoViewPreprocessor')
    views = [inputs[index] for index in wanted]
    shapes = [tuple(view.shape) for view in views]
    if len(set(shapes)) > 1 or len(shapes[0]) != 4:
        raise ValueError(f'views of the shapes {shapes} cannot be compared; MultiView must give each as '
                         '(B, 3, H, W), of the same size')
    return views
