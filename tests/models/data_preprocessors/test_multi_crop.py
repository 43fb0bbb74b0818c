import pytest
import torch
from mmengine.registry import MODELS

PLAIN = dict(ratio=(1.0, 1.0), jitter_probability=0.0, gray_probability=0.0, flip_probability=0.0,
             blur_probability=(0.0, 0.0), solarize_probability=(0.0, 0.0), local_blur_probability=0.0)


def build(**kwargs):
    settings = dict(num_local=3, local_size=(8, 8), mean=[100.0] * 3, std=[50.0] * 3)
    return MODELS.build(dict(type='mm_graft.MultiCropPreprocessor', **{**settings, **kwargs}))


@pytest.fixture
def batch():
    return {'inputs': torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)}


def views(batch, **kwargs):
    torch.manual_seed(3)
    return build(**kwargs)(batch, True)['inputs']


def test_global_views_are_those_of_the_parent_and_the_local_ones_follow(batch):
    made = views(batch, size=(12, 12))
    torch.manual_seed(3)
    parent = MODELS.build(dict(type='mm_graft.TwoViewPreprocessor', mean=[100.0] * 3, std=[50.0] * 3, size=(12, 12)))
    assert [tuple(view.shape) for view in made] == [(4, 3, 12, 12)] * 2 + [(4, 3, 8, 8)] * 3
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(made, parent(batch, True)['inputs']))
    assert not any(torch.equal(made[2], other) for other in made[3:])


def test_a_local_view_of_the_whole_image_is_that_image(batch):
    for view in views(batch, local_scale=(1.0, 1.0), local_size=(16, 16), **PLAIN)[2:]:
        torch.testing.assert_close(view, (batch['inputs'].float() - 100) / 50, rtol=1e-4, atol=1e-4)
    for view in views(batch, local_scale=(1.0, 1.0), local_size=(16, 16), to_rgb=True, **PLAIN)[2:]:
        torch.testing.assert_close(view, (batch['inputs'].float().flip(1) - 100) / 50, rtol=1e-4, atol=1e-4)


def test_a_local_view_is_small_in_area_and_of_its_own_image():
    ramp = torch.arange(64.).expand(1, 3, 64, 64)  # brightness says how far to the right
    images = torch.cat([ramp, ramp + 128])
    spans = []
    for view in views({'inputs': images}, num_local=20, local_scale=(0.04, 0.16), local_size=(8, 8), **PLAIN)[2:]:
        levels = view * 50 + 100
        assert levels[0].max() < 64
        assert levels[1].min() >= 127.9
        spans.append((levels[0].max() - levels[0].min()).item())
    assert 0.2 * 64 * 0.7 < min(spans) < max(spans) < 0.4 * 64
    assert max(spans) - min(spans) > 5


def test_every_setting_of_the_local_views_matters(batch):
    plain = views(batch)
    for changed in (dict(local_scale=(0.5, 0.6)), dict(local_blur_probability=0.0), dict(local_size=(10, 10)),
                    dict(jitter_probability=0.0), dict(num_local=4)):
        others = views(batch, **changed)
        assert all(torch.equal(*pair) for pair in zip(plain[:2], others[:2])) or 'jitter_probability' in changed
        assert len(others) != len(plain) or not all(
            a.shape == b.shape and torch.equal(a, b) for a, b in zip(plain[2:], others[2:]))


def test_local_views_are_never_solarized():
    white = {'inputs': torch.full((4, 3, 16, 16), 255, dtype=torch.uint8)}
    made = views(white, **{**PLAIN, 'solarize_probability': (1.0, 1.0)})
    assert all((view * 50 + 100).max() < 1 for view in made[:2])
    assert all((view * 50 + 100).min() > 254 for view in made[2:])


def test_local_views_are_blurred_as_often_as_asked():
    checkers = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255).expand(64, 3, 16, 16)
    settings = {**PLAIN, 'local_scale': (1.0, 1.0), 'local_size': (16, 16), 'num_local': 1, 'blur_sigma': (1.0, 1.0)}
    for probability, share in ((1.0, 1.0), (0.3, 0.3)):
        local = views({'inputs': checkers}, **settings | dict(local_blur_probability=probability))[2] * 50 + 100
        assert (local.std((1, 2, 3)) < 60).float().mean().item() == pytest.approx(share, abs=0.15)
        assert local.mean().item() == pytest.approx(127.5, abs=1)  # solarized they would be black


def test_evaluation_sees_the_image_as_it_is(batch):
    for found in (build()(batch, False), build()(batch)):
        torch.testing.assert_close(found['inputs'], (batch['inputs'].float() - 100) / 50)


def test_settings_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r'use mm_graft\.TwoViewPreprocessor'):
        build(num_local=0)
    for scale in ((0.3, 0.2), (0.0, 0.2), (0.3, 1.1)):
        with pytest.raises(ValueError, match=rf'local_scale=\({scale[0]}, {scale[1]}\)'):
            build(local_scale=scale)
    with pytest.raises(ValueError, match=r'local_blur_probability=1\.5'):
        build(local_blur_probability=1.5)
