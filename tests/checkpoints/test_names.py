import pytest

from mm_graft.checkpoints.names import BEIT, VIT, NameMap, below, mlp


@pytest.mark.parametrize(('theirs', 'host'), [
    ('blocks.11.mlp.fc1.weight', 'layers.11.ffn.layers.0.0.weight'),
    ('blocks.0.norm2.bias', 'layers.0.ln2.bias'),
    ('blocks.3.attn.relative_position_bias_table', 'layers.3.attn.rel_pos_bias.relative_position_bias_table'),
    ('patch_embed.proj.weight', 'patch_embed.projection.weight'),
    ('norm.bias', 'ln1.bias'),
])
def test_a_pair_is_read_in_both_directions(theirs, host):
    names = NameMap(BEIT)
    assert names.to_host(theirs) == host
    assert names.to_foreign(host) == theirs


def test_the_whole_name_must_fit():
    names = NameMap(VIT)
    for name in ('blocks.1.norm3.weight', 'xblocks.1.norm1.weight', 'cls_token.weight', 'norm', 'blocks.a.norm1.bias'):
        assert names.to_host(name) is None


def test_prefixes_and_mlps_are_written_as_pairs():
    names = NameMap(below('a.', 'b.', mlp('head.', 'neck.')))
    assert names.to_host('a.head.0.weight') == 'b.neck.fc0.weight'
    assert names.to_host('a.head.7.running_var') == 'b.neck.bn2.running_var'
    assert names.to_host('a.head.2.weight') is None
    assert names.to_foreign('b.neck.bn1.bias') == 'a.head.4.bias'
