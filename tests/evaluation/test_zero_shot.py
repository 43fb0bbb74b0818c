from dataclasses import replace

import numpy as np
import pytest
import torch

from mm_graft.evaluation.evaluate import evaluate
from mm_graft.evaluation.frozen import prepare
from mm_graft.evaluation.zero_shot import (
    ZeroShotHead,
    check_classes,
    cosine_similarity,
    projection_of,
    read_class_embeddings,
)


def test_similarity_is_of_directions_after_the_projection():
    features, classes = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 5.0, 0.0], [0.1, 0.0, 0.0]])
    projection = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])  # (1, 0) → the first class, (0, 1) → the second
    found = cosine_similarity(features, ZeroShotHead(projection, classes))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [2 / 5**0.5, 1 / 5**0.5]]))
    plain = cosine_similarity(torch.tensor([[3.0, 4.0, 0.0]]), ZeroShotHead(None, classes))
    torch.testing.assert_close(plain, torch.tensor([[0.8, 0.6]]))


@pytest.mark.parametrize(('name', 'linear'), [
    ('vision_projection', False), ('visual.proj', False), ('proj', False), ('module.visual.proj', False),
    ('visual_projection.weight', True), ('visual.head.proj.weight', True)])
def test_the_projection_of_a_clip_is_found_in_the_right_direction(tmp_path, name, linear):
    wanted = torch.arange(6.0).reshape(2, 3)
    torch.save({name: wanted.T.contiguous() if linear else wanted, 'text_projection': torch.ones(3, 3),
                'visual.conv1.weight': torch.ones(1), 'logit_scale': torch.ones(())}, tmp_path / 'clip.pt')
    torch.testing.assert_close(projection_of(tmp_path / 'clip.pt'), wanted)


def test_a_head_that_is_more_than_a_projection_is_refused_and_none_is_none(tmp_path):
    torch.save({'cls_token': torch.ones(1)}, tmp_path / 'mae.pt')
    assert projection_of(tmp_path / 'mae.pt') is None
    for name in ('visual.head.mlp.fc1.weight', 'visual.attn_pool.query', 'vision_model.head.attention_pool.q',
                 'visual.head.proj.bias', 'vision_model.head.probe', 'visual.trunk.attn_pool.latent',
                 'attn_pool.latent'):
        for prefix in ('', 'module.', 'model.'):
            torch.save({prefix + name: torch.ones(2, 2), f'{prefix}visual.proj': torch.ones(2, 2)},
                       tmp_path / 'other.pt')
            with pytest.raises(ValueError, match=rf'more than a projection of the class token \({prefix}{name}\)'):
                projection_of(tmp_path / 'other.pt')
    torch.save({'a.visual.proj': torch.ones(2, 2), 'b.visual.proj': torch.ones(2, 2)}, tmp_path / 'two.pt')
    with pytest.raises(ValueError, match='several projections'):
        projection_of(tmp_path / 'two.pt')


def test_what_only_ends_or_begins_like_a_projection_is_none(tmp_path):
    names = ('blocks.0.attn.proj', 'visual.proj.weight', 'text.proj', 'my_visual_projection.weight',
             'text_visual.head.projection')
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / 'clip.pt')
    assert projection_of(tmp_path / 'clip.pt') is None


def test_embeddings_are_read_from_numpy_and_torch(tmp_path):
    rows, head = np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones((3, 2))
    np.savez(tmp_path / 'a.npz', classes=['ant', 'bee'], embeddings=rows, projection=head)
    torch.save({'classes': ['ant', 'bee'], 'embeddings': torch.tensor(rows)}, tmp_path / 'a.pt')
    torch.save({'embeddings': torch.tensor(rows), 'classes': np.arange(2).tolist()}, tmp_path / 'numbers.pt')
    assert read_class_embeddings(tmp_path / 'numbers.pt')[0] == ['0', '1']
    for name, projection in (('a.npz', torch.ones(3, 2)), ('a.pt', None)):
        classes, embeddings, own = read_class_embeddings(tmp_path / name)
        assert classes == ['ant', 'bee']
        assert embeddings.tolist() == rows.tolist()
        assert embeddings.dtype == torch.float32
        assert own is None if projection is None else torch.equal(own, projection)


@pytest.mark.parametrize(('content', 'error'), [
    ({'classes': ['a', 'b']}, 'lack embeddings'),
    ({'embeddings': np.ones((2, 2))}, 'lack classes'),
    ({'classes': ['a', 'b'], 'embeddings': np.ones((3, 2))}, r'2 classes and embeddings of shape \(3, 2\)'),
    ({'classes': ['a', 'b'], 'embeddings': np.ones(2)}, r'of shape \(2,\)'),
    ({'classes': ['a'], 'embeddings': np.ones((1, 2)), 'projection': np.ones(2)}, 'projection of two dimensions'),
    ({'classes': ['a', 'b'], 'embeddings': np.array([[1.0, 1.0], [0.0, 0.0]])}, 'a row that is zero'),
    ({'classes': ['a', 'b'], 'embeddings': np.array([[1.0, 1.0], [np.nan, 0.0]])}, 'a row that is zero, NaN'),
])
def test_embeddings_that_are_not_whole_are_refused(tmp_path, content, error):
    np.savez(tmp_path / 'a.npz', **content)
    with pytest.raises(ValueError, match=error):
        read_class_embeddings(tmp_path / 'a.npz')


def test_a_file_that_holds_objects_or_nothing_is_refused(tmp_path):
    np.savez(tmp_path / 'a.npz', classes=np.array([object()]), embeddings=np.ones((1, 2)))
    (tmp_path / 'b.npz').write_bytes(b'no archive')
    for name in 'ab':
        with pytest.raises(ValueError, match=rf'{name}\.npz cannot be read'):
            read_class_embeddings(tmp_path / f'{name}.npz')
    torch.save(['classes', 'embeddings'], tmp_path / 'list.pt')
    with pytest.raises(ValueError, match='lack classes and embeddings'):
        read_class_embeddings(tmp_path / 'list.pt')


@pytest.mark.parametrize(('given', 'error'), [
    (['ant'], r"lack \['bee', 'cat'\]"), (['ant', 'bee', 'cat', 'dog'], r"are of \['dog'\] too"),
    (['bee', 'ant', 'cat'], 'are in another order'), (['ant', 'ant', 'bee', 'cat'], 'name a class twice')])
def test_classes_that_are_missing_odd_or_reordered_are_refused(given, error):
    check_classes(('ant', 'bee', 'cat'), ['ant', 'bee', 'cat'], 'a.npz')
    with pytest.raises(ValueError, match=error):
        check_classes(('ant', 'bee', 'cat'), given, 'a.npz')


def zero_shot(settings, path):
    return replace(settings, protocols=['zero-shot'],
                   protocol=replace(settings.protocol, class_embeddings=str(path)))


def class_means(cfg, checkpoint, settings):
    """Mean features of the training images of each class."""
    data = prepare(cfg, checkpoint, settings).data
    return torch.stack([data.train_features[data.train_labels == label].mean(0) for label in (0, 1)])


def test_images_are_scored_by_their_nearest_class_without_training_images(run, tmp_path):
    cfg, checkpoint, settings = run
    means = class_means(cfg, checkpoint, settings)
    results = []
    for rows in (means, means.flip(0)):
        np.savez(tmp_path / 'c.npz', classes=['dark', 'light'], embeddings=rows.numpy())
        report = evaluate(cfg, checkpoint, zero_shot(settings, tmp_path / 'c.npz'))
        results.append(report['protocols']['zero-shot'])
        assert set(report['data']) == {'test'}
    assert [result['top1'] for result in results] == [100, 0]  # the file's content, not its name, is what is kept
    assert (results[0]['classes'], results[0]['projection']) == (2, None)
    assert results[0]['interval95'] == pytest.approx([100 * 12 / (12 + 1.959964**2), 100])  # Wilson's, of 12 of 12


def test_the_projection_of_file_or_checkpoint_is_applied(run, tmp_path):
    cfg, checkpoint, settings = run
    means = class_means(cfg, checkpoint, settings)
    generator = torch.Generator().manual_seed(0)
    projection = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q
    np.savez(tmp_path / 'own.npz', classes=['dark', 'light'], embeddings=(means @ projection).numpy(),
             projection=projection.numpy())
    np.savez(tmp_path / 'bare.npz', classes=['dark', 'light'], embeddings=(means @ projection).numpy())
    state = torch.load(checkpoint, weights_only=True)
    torch.save({**state['state_dict'], 'vision_projection': projection}, tmp_path / 'clip.pth')
    assert evaluate(cfg, checkpoint, zero_shot(settings, tmp_path / 'own.npz'))['protocols']['zero-shot']['top1'] == 100
    found = evaluate(cfg, str(tmp_path / 'clip.pth'), zero_shot(settings, tmp_path / 'bare.npz'))
    assert found['protocols']['zero-shot']['top1'] == 100
    assert found['protocols']['zero-shot']['projection'] == [16, 16]


def test_embeddings_of_another_model_or_of_other_classes_are_refused_before_any_image_is_encoded(run, tmp_path):
    cfg, checkpoint, settings = run
    np.savez(tmp_path / 'narrow.npz', classes=['dark', 'light'], embeddings=np.ones((2, 7)))
    np.savez(tmp_path / 'wrong.npz', classes=['dark', 'light'], embeddings=np.ones((2, 7)), projection=np.ones((9, 7)))
    np.savez(tmp_path / 'turned.npz', classes=['light', 'dark'], embeddings=np.ones((2, 16)))
    np.savez(tmp_path / 'swapped.npz', classes=['dark', 'light'], embeddings=np.ones((2, 7)),
             projection=np.ones((7, 16)))
    for name, error in (('swapped', r'the projection is \(7, 16\); give .* of shape \(16, 7\)'),
                        ('narrow', 'features have 16 numbers, .*narrow.npz 7, and no projection'),
                        ('wrong', r'the projection is \(9, 7\)'), ('turned', 'are in another order')):
        with pytest.raises(ValueError, match=error):
            evaluate(cfg, checkpoint, zero_shot(settings, tmp_path / f'{name}.npz'))
    with pytest.raises(ValueError, match='--class-embeddings FILE'):
        evaluate(cfg, checkpoint, replace(settings, protocols=['zero-shot']))
    assert not (tmp_path / 'cache').exists()
