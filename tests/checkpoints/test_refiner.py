import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError, convert_model, detect_layout, load_backbone, read_checkpoint
from mm_graft.checkpoints.refiner import DATA2VEC2, REFINER
from tests.tiny import VIT, mae_file

RENAMED = {'cls_token': 'cls_tokens.tokens', 'pos_embed': 'pos_embed.embed'}
IMAGE = 'modality_encoders.IMAGE.'


def build(kind='GraftViT', **kwargs):
    backbone = MODELS.build(dict(type=f'mm_graft.{kind}', **{**VIT, **kwargs}))
    backbone.eval()
    return backbone


def released(path):
    """MAE's file as MIM-Refiner's authors would release it."""
    state = torch.load(path, weights_only=True)['model']
    state = {RENAMED.get(name, name): value for name, value in state.items()
             if not name.startswith(('mask_token', 'decoder'))}
    state['pos_embed.embed'] = state['pos_embed.embed'][:, 1:].reshape(1, 4, 4, -1)
    return state


def data2vec(seed=0):
    generator = torch.Generator().manual_seed(seed)
    names = {f'{IMAGE}extra_tokens': (1, 1, 16), f'{IMAGE}fixed_positional_encoder.positions': (1, 16, 16),
             f'{IMAGE}local_encoder.proj.weight': (16, 3, 8, 8), f'{IMAGE}local_encoder.proj.bias': (16, ),
             f'{IMAGE}context_encoder.norm.weight': (16, ), f'{IMAGE}context_encoder.norm.bias': (16, ),
             f'{IMAGE}decoder.blocks.0.0.weight': (4, 4), f'{IMAGE}decoder.proj.bias': (4, )}
    block = {'norm1.weight': (16, ), 'norm1.bias': (16, ), 'norm2.weight': (16, ), 'norm2.bias': (16, ),
             'attn.qkv.weight': (48, 16), 'attn.qkv.bias': (48, ), 'attn.proj.weight': (16, 16),
             'attn.proj.bias': (16, ), 'mlp.fc1.weight': (32, 16), 'mlp.fc1.bias': (32, ), 'mlp.fc2.weight': (16, 32),
             'mlp.fc2.bias': (16, )}
    names |= {f'blocks.{i}.{name}': shape for i in range(4) for name, shape in block.items()}
    return {name: torch.randn(shape, generator=generator) / 5 for name, shape in names.items()}


def test_the_released_layout_is_recognized_and_gives_the_features_of_the_same_weights(tmp_path):
    mae_file(tmp_path / 'mae.pth')
    torch.save({'state_dict': released(tmp_path / 'mae.pth'), 'ctor_kwargs': {'dim': 16}}, tmp_path / 'refined.th')
    plain, ours, images = build(), build(), torch.randn(2, 3, 32, 32)
    load_backbone(plain, str(tmp_path / 'mae.pth'))
    plain.pos_embed.data[:, 0] = 0  # where the class token has no position
    assert load_backbone(ours, str(tmp_path / 'refined.th')).layout == 'refiner'
    assert torch.equal(plain(images)[-1], ours(images)[-1])


def test_a_written_file_has_the_class_tokens_position_in_the_token_and_reads_back_alike(tmp_path):
    mae = mae_file(tmp_path / 'mae.pth')  # its class token has a position
    written = convert_model(read_checkpoint(mae), 'mae', 'refiner')
    assert tuple(written.backbone['pos_embed.embed'].shape) == (1, 4, 4, 16)
    torch.save({'state_dict': written.backbone}, tmp_path / 'refined.th')
    plain, ours, images = build(), build(), torch.randn(2, 3, 32, 32)
    load_backbone(plain, mae)
    load_backbone(ours, str(tmp_path / 'refined.th'))
    torch.testing.assert_close(plain(images)[-1], ours(images)[-1])


def test_a_table_of_no_square_cannot_be_written_as_a_grid(tmp_path):
    state = torch.load(mae_file(tmp_path / 'mae.pth'), weights_only=True)['model']
    state['pos_embed'] = state['pos_embed'][:, :13]
    with pytest.raises(ValueError, match='12 patches form no square'):
        convert_model(state, 'mae', 'refiner')


@pytest.mark.parametrize('layout', ['refiner', 'data2vec2'])
@pytest.mark.parametrize(('kind', 'options', 'missing'), [
    ('mm_graft.ConMIMViT', {}, 'pos_embed'),
    ('VisionTransformer', dict(with_cls_token=False, out_type='avg_featmap'), 'cls_token')])
def test_an_encoder_without_class_token_or_table_of_positions_has_no_place_there(layout, kind, options, missing):
    state = MODELS.build(dict(type=kind, **VIT, **options)).state_dict()
    with pytest.raises(ValueError, match=f'this encoder has no {missing}, .* choose timm or mmpretrain'):
        convert_model({f'backbone.{name}': tensor for name, tensor in state.items()}, 'mmpretrain', layout)


def test_positions_may_lie_in_rows_or_not_be_there_at_all():
    grid = torch.randn(1, 2, 3, 4)
    for stored in (grid, grid.flatten(1, 2)):
        found = REFINER.read({'pos_embed.embed': stored}).backbone['backbone.pos_embed']
        assert torch.equal(found, torch.cat([torch.zeros(1, 1, 4), grid.flatten(1, 2)], 1))
    assert REFINER.read({'cls_tokens.tokens': torch.ones(1, 1, 4)}).backbone.keys() == {'backbone.cls_token'}


def test_data2vec_needs_the_norms_behind(tmp_path):
    torch.save({'model': {**data2vec(), f'{IMAGE}alibi_scale': torch.ones(1),
                          '_ema': {'blocks.0.norm1.weight': torch.zeros(16)}}}, tmp_path / 'd2v2.pt')
    assert detect_layout(data2vec()) == 'data2vec2'
    coverage = load_backbone(build('PostNormViT'), str(tmp_path / 'd2v2.pt'))
    assert coverage.dropped[f'{IMAGE}decoder.proj.bias'] == 'decoder'
    assert coverage.dropped[f'{IMAGE}alibi_scale'] == 'not used for images'
    assert DATA2VEC2.read({'_ema.proj': torch.ones(1)}).dropped == {'_ema.proj': "fairseq's copy of the teacher"}
    with pytest.raises(CheckpointError, match='left over'):
        load_backbone(build(), str(tmp_path / 'd2v2.pt'))


def test_data2vec_refined_has_the_same_features_as_data2vec(tmp_path):
    torch.save({'model': data2vec()}, tmp_path / 'd2v2.pt')
    refined = convert_model(data2vec(), None, 'refiner').backbone
    assert {'embed_norm.weight', 'embed_norm.bias', 'cls_tokens.tokens'} < set(refined)
    torch.save({'state_dict': refined}, tmp_path / 'refined.th')
    back = convert_model(refined, 'refiner', 'data2vec2').backbone
    assert all(torch.equal(value, data2vec()[name]) for name, value in back.items())
    encoders, images = [build('PostNormViT'), build('PostNormViT')], torch.randn(2, 3, 32, 32)
    for encoder, name in zip(encoders, ('d2v2.pt', 'refined.th')):
        load_backbone(encoder, str(tmp_path / name))
    assert torch.equal(encoders[0](images)[-1], encoders[1](images)[-1])


def test_encoders_with_the_norms_behind_are_refused_where_they_are_in_front():
    for kind in ('mae', 'timm', 'mocov3'):
        with pytest.raises(ValueError, match='has no place for an encoder with post-norm blocks'):
            convert_model(data2vec(), None, kind)
