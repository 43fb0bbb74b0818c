import importlib
import subprocess
import sys

import pytest
import torch

from mm_graft.host.mmcv_operators import NAME, Operators, nms, roi_align_backward, roi_align_forward
from tests.own_process import SECONDS

FEATURES = torch.arange(1., 17.).reshape(1, 1, 4, 4)


@pytest.fixture(autouse=True)
def _leave_no_trace(monkeypatch):
    for name in [name for name in sys.modules if name.startswith('mmdet.models.')]:
        monkeypatch.delitem(sys.modules, name)  # where mmdetection is installed, as if it were not imported yet
    yield
    if isinstance(sys.modules.get(NAME), Operators):
        del sys.modules[NAME]


def align(features, rois, size=(2, 2), scale=1.0, ratio=2, aligned=True, grad=None, pool_mode=1):
    empty = features.new_zeros(0)
    settings = dict(aligned_height=size[0], aligned_width=size[1], spatial_scale=scale, sampling_ratio=ratio,
                    pool_mode=pool_mode, aligned=aligned)
    output = features.new_zeros(len(rois), features.shape[1], *size)
    if grad is None:
        roi_align_forward(features, rois, output, empty, empty, **settings)
        return output
    into = torch.zeros_like(features)
    roi_align_backward(grad, rois, empty, empty, into, **settings)
    return into


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_linear_map_is_pooled_to_its_values_at_the_centers_of_the_cells(dtype):
    rois = torch.tensor([[0, 1., 1., 3., 3.]], dtype=dtype)
    pooled = align(FEATURES.to(dtype), rois)
    assert pooled.dtype == dtype
    # aligned: pixel (y, x) has its center at +0.5, and value 4y + x + 1 there; cell centers are 1.5 and 2.5
    assert pooled.flatten().tolist() == [6, 7, 10, 11]


def test_boxes_are_scaled_and_shifted_by_half_a_pixel_only_if_aligned():
    rois = torch.tensor([[0, 2., 2., 6., 6.]])
    torch.testing.assert_close(align(FEATURES, rois, scale=0.5).flatten(), torch.tensor([6., 7., 10., 11.]))
    unshifted = align(FEATURES, rois, scale=0.5, aligned=False).flatten()
    torch.testing.assert_close(unshifted, torch.tensor([6., 7., 10., 11.]) + 2.5)


def test_rois_know_their_image_and_height_is_not_width():
    features = torch.stack([FEATURES[0], 100 * FEATURES[0]])
    rois = torch.tensor([[1, 0., 0., 4., 4.], [0, 0., 0., 4., 4.]])
    tall = align(features, rois, size=(4, 1), ratio=1)
    assert tall.shape == (2, 1, 4, 1)
    torch.testing.assert_close(tall[0], 100 * tall[1])
    assert tall[1].flatten().tolist() == [2.5, 6.5, 10.5, 14.5]


# numbers of mmcv's own tests (open-mmlab/mmcv@01be0e665ae4, tests/test_ops/test_roi_align.py): a 2 × 2 output of two
# samples a side, aligned; features, box, what is pooled, and the gradient of its sum
GRADIENT_OF_TWO = [[3.0625, 0.4375], [0.4375, 0.0625]]
SIDE = torch.tensor([0.6875, 0.625, 0.625, 0.0625])
VECTORS = {
    'one channel': ([[[[1., 2], [3, 4]]]], [0., 0, 0, 1, 1], [[[[1, 1.25], [1.5, 1.75]]]], [[GRADIENT_OF_TWO]]),
    'two channels': ([[[[1., 2], [3, 4]], [[4, 3], [2, 1]]]], [0., 0, 0, 1, 1],
                     [[[[1, 1.25], [1.5, 1.75]], [[4, 3.75], [3.5, 3.25]]]], [[GRADIENT_OF_TWO] * 2]),
    'sixteen pixels': ([[[[1., 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]]]], [0., 0, 0, 3, 3],
                       [[[[1.9375, 4.75], [7.5625, 10.375]]]], [[torch.outer(SIDE, SIDE).tolist()]]),
}


@pytest.mark.parametrize('name', VECTORS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_pooling_and_its_gradient_are_those_of_mmcvs_tests(name, dtype):
    features, box, pooled, gradient = (torch.tensor(value, dtype=dtype) for value in VECTORS[name])
    exact = dict(rtol=0, atol=0) if dtype != torch.bfloat16 else dict(rtol=2**-8, atol=2**-8)
    torch.testing.assert_close(align(features, box[None]), pooled, **exact)
    torch.testing.assert_close(align(features, box[None], grad=torch.ones_like(pooled)), gradient, **exact)


def test_half_precision_is_single_precision_rounded_once():
    features, rois = torch.randn(1, 2, 8, 8), torch.tensor([[0, 0.5, 1.25, 6.5, 5.75]])
    for dtype in (torch.float16, torch.bfloat16):
        low = features.to(dtype)
        assert torch.equal(align(low, rois.to(dtype)), align(low.float(), rois).to(dtype))
        grad = torch.randn(1, 2, 2, 2).to(dtype)
        assert torch.equal(align(low, rois.to(dtype), grad=grad), align(low.float(), rois, grad=grad.float()).to(dtype))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_suppression_is_that_of_mmcvs_tests(dtype):
    # open-mmlab/mmcv@0df55ac5e4af, tests/test_ops/test_nms.py
    boxes = torch.tensor([[6., 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]], dtype=dtype)
    assert nms(boxes, torch.tensor([0.6, 0.9, 0.7, 0.2], dtype=dtype), 0.3).tolist() == [1, 0, 3]


@pytest.mark.parametrize('ratio', [0, -1, 2])
def test_the_gradient_is_that_of_the_forward(ratio):
    features = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    rois = torch.tensor([[0, 0.3, 0.4, 4.1, 3.7], [1, 1.0, 0.2, 5.5, 4.9]], dtype=torch.float64)
    grad = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    into = align(features, rois, ratio=ratio, grad=grad)
    direction = torch.randn_like(features)
    # the forward is linear: <grad, A d> = <Aᵀ grad, d>
    torch.testing.assert_close((grad * align(direction, rois, ratio=ratio)).sum(), (into * direction).sum())


def test_suppression_is_by_the_definition():
    generator = torch.Generator().manual_seed(0)
    for offset in (0, 1):
        for _ in range(20):
            corner = torch.rand(30, 2, generator=generator) * 20
            boxes = torch.cat([corner, corner + torch.rand(30, 2, generator=generator) * 12], 1)
            scores = torch.rand(30, generator=generator)
            assert nms(boxes, scores, 0.4, offset).tolist() == by_definition(boxes, scores, 0.4, offset)


def by_definition(boxes, scores, threshold, offset):
    kept = []
    for index in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[index], boxes[other], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def overlap(one, other, offset):
    low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:]) + offset
    shared = (high - low).clamp(min=0).prod()
    areas = [(box[2:] - box[:2] + offset).prod() for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_the_maximum_is_refused():
    with pytest.raises(NotImplementedError, match="pool_mode='avg'"):
        align(FEATURES, torch.zeros(1, 5), pool_mode=0)


def test_other_operators_exist_until_they_are_called():
    importlib.reload(sys.modules['mm_graft.host.mmcv_operators'])
    operators = sys.modules[NAME]
    assert callable(operators.softnms)
    with pytest.raises(NotImplementedError, match="no counterpart of 'softnms'"):
        operators.softnms(1, 2)
    with pytest.raises(AttributeError):
        operators.__path__


def test_nothing_of_the_package_imports_it_and_compiled_operators_come_first(tmp_path):
    code = f'import sys, mm_graft.registry, mm_graft.models, mm_graft.engine; assert {NAME!r} not in sys.modules'
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, timeout=SECONDS)
    code = ('import sys, types; compiled = types.ModuleType("mmcv._ext"); sys.modules["mmcv._ext"] = compiled\n'
            'import mm_graft.host.mmcv_operators as ours\n'
            'assert sys.modules["mmcv._ext"] is compiled and not ours.install()')
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, timeout=SECONDS)


def test_being_imported_too_late_is_said(monkeypatch):
    import mm_graft.host.mmcv_operators as ours
    sys.modules.pop(NAME, None)
    monkeypatch.setitem(sys.modules, 'mmdet.models.layers', object())
    with pytest.raises(ImportError, match=r'mmdet\.models\.layers was imported before'):
        ours.install()


def test_the_hosts_own_layers_run_on_it():
    code = ('import torch, mm_graft.host.mmcv_operators\n'
            'from mmcv.ops import RoIAlign, batched_nms\n'
            'x = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)\n'
            'rois = torch.tensor([[0, 0.5, 0.5, 5.0, 4.0]], dtype=torch.float64)\n'
            'assert torch.autograd.gradcheck(lambda x: RoIAlign((2, 2), 1.0, 2)(x, rois), [x])\n'
            'boxes = torch.tensor([[0, 0, 4, 4], [0, 0, 4, 4.1], [9, 9, 12, 12]])\n'
            'kept = batched_nms(boxes, torch.tensor([0.5, 0.9, 0.1]), torch.tensor([0, 0, 0]),\n'
            '                    dict(iou_threshold=0.5))[1]\n'
            'assert kept.tolist() == [1, 2]')
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, timeout=SECONDS)
