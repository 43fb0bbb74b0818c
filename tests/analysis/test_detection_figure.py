from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mm_graft.analysis.detection_figure import VEIL, Objects, colors, draw, predict, veil

PALETTE = [(255, 0, 0), (0, 0, 255)]
IMAGE = np.zeros((6, 8, 3), np.uint8)


class Found(SimpleNamespace):

    def __contains__(self, name):
        return hasattr(self, name)


def objects(scores=None):
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 1:3, 1:5] = masks[1, 2:4, 2:6] = True
    return Objects(np.array([[1., 1, 5, 3], [2, 2, 6, 4]]), np.array([0, 1]), masks, scores)


def test_masks_have_the_color_of_their_class_and_the_first_object_is_on_top():
    layer = veil(objects(), (6, 8), PALETTE)
    np.testing.assert_allclose(layer[2, 2], [1, 0, 0, VEIL])  # of both
    np.testing.assert_allclose(layer[3, 2], [0, 0, 1, VEIL])  # of the second alone
    assert not layer[0].any()
    assert not veil(objects()._replace(masks=None), (6, 8), PALETTE).any()


def test_every_image_has_a_row_and_every_column_its_objects(tmp_path):
    columns = {'truth': [objects(), objects()], 'model': [objects(np.array([0.9, 0.25]))] * 2}
    figure = draw([IMAGE, IMAGE], columns, ['car', 'person'], PALETTE)
    assert len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes[:3]] == ['image', 'truth', 'model']
    image, truth, model = figure.axes[3:]
    assert [len(axis.patches) for axis in (image, truth, model)] == [0, 2, 2]
    box = model.patches[1]
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (1.5, 1.5, 4, 2)
    assert box.get_edgecolor() == (0, 0, 1, 1)
    assert [text.get_text() for text in truth.texts] == []
    assert [text.get_text() for text in model.texts] == ['0.90', '0.25']
    figure.savefig(tmp_path / 'a.png')


def test_an_entry_per_image_is_asked_for():
    with pytest.raises(ValueError, match="'truth' has 1 entries for 2 images"):
        draw([IMAGE, IMAGE], {'truth': [objects()]}, ['car'], PALETTE)


def test_a_detection_below_the_threshold_is_left_out_and_the_best_comes_first():
    found = Found(scores=torch.tensor([0.3, 0.2, 0.8]), labels=torch.tensor([0, 1, 2]),
                  bboxes=torch.arange(12.).reshape(3, 4), masks=torch.eye(3).reshape(3, 1, 3) > 0)
    seen = []
    model = SimpleNamespace(test_step=lambda batch: seen.append(batch) or [SimpleNamespace(pred_instances=found)])
    drawn = predict(model, dict(inputs='pixels', data_samples='sample'), 0.3)
    assert seen == [dict(inputs=['pixels'], data_samples=['sample'])]
    assert drawn.labels.tolist() == [2, 0]
    assert drawn.boxes.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert drawn.masks.tolist() == [[[False, False, True]], [[True, False, False]]]
    assert drawn.scores.tolist() == pytest.approx([0.8, 0.3])
    del found.masks
    assert predict(model, dict(inputs=0, data_samples=0), 0.0).masks is None


def test_colors_differ():
    assert len(set(colors(80))) == 80
    assert all(0 <= value <= 255 and isinstance(value, int) for shade in colors(3) for value in shade)
