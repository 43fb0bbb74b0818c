from itertools import pairwise

import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError, load_backbone
from mm_graft.checkpoints.resize import resize_table
from mm_graft.engine.speed.checkpoint_blocks_hook import CheckpointBlocksHook
from mm_graft.models.backbones.windowed_vit import attend_in_windows, choose_windows
from tests.engine.freezing.freezeout_runs import Spy, make_runner
from tests.tiny import ARCH, mae_file

KINDS = ('WindowedViT', 'WindowedConMIMViT')


def build(kind='WindowedViT', **kwargs):
    torch.manual_seed(2)
    vit = MODELS.build(dict(type=f'mm_graft.{kind}', arch=ARCH, img_size=32, patch_size=8, out_indices=(1, 3),
                            window_size=2) | kwargs)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter.data, std=0.3)
    return vit.eval()


def test_windows_and_back_is_the_identity_on_any_grid():
    x = torch.randn(2, 7, 9, 3)
    torch.testing.assert_close(attend_in_windows(lambda windows: windows, x, 4), x, rtol=0, atol=0)


def test_a_window_holds_a_square_of_neighboring_tokens_and_zeros_beyond_the_edge():
    x = torch.arange(1., 13.).reshape(1, 3, 4, 1)
    seen = []
    attend_in_windows(lambda windows: seen.append(windows) or windows, x, 2)
    assert seen[0][..., 0].tolist() == [[1, 2, 5, 6], [3, 4, 7, 8], [9, 10, 0, 0], [11, 12, 0, 0]]


def test_windows_of_one_image_follow_each_other_and_images_never_share_one():
    x = torch.arange(48.).reshape(3, 4, 4, 1)
    seen = []
    attend_in_windows(lambda windows: seen.append(windows) or windows, x, 2)
    assert seen[0][..., 0].tolist() == [[at, at + 1, at + 4, at + 5] for first in (0, 16, 32)
                                        for at in (first, first + 2, first + 8, first + 10)]


@pytest.mark.parametrize('kind', KINDS)
def test_one_window_over_the_grid_is_global_attention(kind):
    images = torch.randn(2, 3, 32, 32)
    whole = build(kind, global_blocks=range(4))
    one = build(kind, window_size=4, global_blocks=[])
    one.load_state_dict(whole.state_dict())
    for left, right in zip(one(images), whole(images)):
        torch.testing.assert_close(left, right)


def test_global_blocks_alone_are_the_hosts_vit_without_a_class_token():
    ours = build(global_blocks=range(4))
    host = MODELS.build(dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8, out_indices=[1, 3],
                             out_type='featmap', final_norm=False, with_cls_token=False))
    state = {name: value[:, 1:] if name == 'pos_embed' else value for name, value in ours.state_dict().items()
             if name != 'cls_token'}
    host.load_state_dict(state)
    host.eval()
    images = torch.randn(1, 3, 32, 48)
    for left, right in zip(ours(images), host(images)):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize('kind', KINDS)
def test_what_happens_in_a_window_stays_there_until_a_global_block(kind):
    vit = build(kind, out_indices=(0, 1), global_blocks=[1])
    images = torch.randn(1, 3, 32, 32)
    changed = images.clone()
    changed[..., :8, :8] += 1  # in the first of four windows
    windowed, everywhere = ((left - right).abs().amax(1)[0] > 0 for left, right in zip(vit(images), vit(changed)))
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:2, :2] = True
    assert torch.equal(windowed, expected)
    assert everywhere.all()


@pytest.mark.parametrize('kind', KINDS)
def test_everything_trains_but_the_class_token(kind):
    vit = build(kind, final_norm=True).train()
    sum(level.square().sum() for level in vit(torch.randn(2, 3, 32, 48))).backward()
    silent = {name for name, parameter in vit.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    assert silent == {'cls_token'}
    assert {name for name, parameter in vit.named_parameters() if not parameter.requires_grad} == {'cls_token'}


@pytest.mark.parametrize('kind', KINDS)
def test_as_configs_name_it_it_gives_maps_after_every_third_of_twelve_blocks(kind):
    vit = MODELS.build(dict(type=f'mm_graft.{kind}', arch={**ARCH, 'num_layers': 12}, img_size=32, patch_size=8))
    assert vit.out_type == 'featmap'
    images, seen = torch.randn(1, 3, 32, 32), []
    for block in vit.layers:
        block.register_forward_hook(lambda module, args, output: seen.append(output.permute(0, 3, 1, 2)))
    maps = vit.eval()(images)
    assert len(maps) == 4
    assert all(torch.equal(level, seen[at]) for level, at in zip(maps, (2, 5, 8, 11)))  # none of them normalized
    assert [block.attn.window for block in vit.layers] == [14, 14, None] * 4


def test_attention_has_the_biases_and_scales_that_are_asked_for():
    assert all(block.attn.qkv.bias is None for block in build(qkv_bias=False).layers)
    settings = dict(arch=ARCH, img_size=32, patch_size=8, out_indices=[1, 3], qkv_bias=False, final_norm=False,
                    layer_scale_init_value=0.1)
    ours, host = (MODELS.build(dict(type=kind, **settings)) for kind in ('mm_graft.WindowedViT', 'VisionTransformer'))
    assert ours.state_dict().keys() == host.state_dict().keys()


def test_an_encoder_without_a_class_token_is_built():
    assert build(with_cls_token=False, final_norm=True)(torch.randn(1, 3, 32, 32))[1].shape == (1, 16, 4, 4)


def test_drop_path_leaves_out_images_and_not_windows():
    vit = build(drop_path_rate=0.5, out_indices=(0, )).train()
    block = vit.layers[-1]
    assert block.attn.drop_path.drop_prob == 0.5
    torch.manual_seed(0)
    attended = block.attn(torch.randn(64, 4, 4, 16))
    dropped = (attended == 0).all(-1)
    assert torch.equal(dropped.flatten(1).any(1), dropped.flatten(1).all(1))
    assert 10 < dropped[:, 0, 0].sum() < 54


@pytest.mark.parametrize('kind', KINDS)
def test_a_block_that_is_left_out_is_left_out_for_a_whole_image(kind):
    block = build(kind, drop_path_rate=0.5, out_indices=(0, )).train().layers[-1]
    images = torch.randn(64, 4, 4, 16)
    torch.manual_seed(0)
    after = block(images) if kind == 'WindowedViT' else block(images, None)
    unchanged = (after == images).all(-1)  # (B, rows, columns)
    assert torch.equal(unchanged.flatten(1).any(1), unchanged.flatten(1).all(1))
    assert 6 < unchanged[:, 0, 0].sum() < 30  # both branches: one image in four


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('frozen', [0, 2])
def test_recomputed_blocks_have_the_same_gradients(kind, frozen):
    images, gradients = torch.randn(2, 3, 32, 48), []
    for recompute in (False, True):
        vit = build(kind, drop_path_rate=0.3, frozen_stages=frozen or -1).train()
        assert not recompute or CheckpointBlocksHook().apply(vit) == 4
        torch.manual_seed(5)
        sum(level.square().sum() for level in vit(images)).backward()
        gradients.append({name: value.grad for name, value in vit.named_parameters() if value.grad is not None})
    plain, again = gradients
    assert {name.split('.')[1] for name in plain if name.startswith('layers')} == set('0123'[frozen:])
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient)


@pytest.mark.parametrize('kind', KINDS)
def test_freezeout_stops_blocks_from_below_and_the_others_go_on(kind):
    model = dict(type='ImageClassifier', neck=dict(type='GlobalAveragePooling'), backbone=dict(
        type=f'mm_graft.{kind}', arch=ARCH, img_size=32, patch_size=8, window_size=2, out_indices=(3, )),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=16, loss=dict(type='CrossEntropyLoss')))
    seen = Spy(lambda runner: [block.attn.proj.weight.detach().clone() for block in runner.model.backbone.layers])
    make_runner(model, hooks=[seen], data={'labels': True}).train()
    moved = [[not torch.equal(*pair) for pair in zip(before, after)] for before, after in pairwise(seen.log)]
    assert moved[0] == [True] * 4
    assert moved[-1] == [False, False, False, True]
    assert all(later <= earlier for before, after in pairwise(moved) for earlier, later in zip(before, after))


def test_a_pre_trained_file_fits_and_larger_images_take_its_positions_resized(tmp_path):
    vit = build(img_size=64)
    load_backbone(vit, mae_file(tmp_path / 'mae.pth'), resize=True)
    assert vit.pos_embed.shape == (1, 65, 16)


def conmim_file(path):
    """ConMIM's pre-trained encoder of 4 × 4 patches, with a table of its own."""
    vit = MODELS.build(dict(type='mm_graft.ConMIMViT', arch=ARCH, img_size=32, patch_size=8))
    table = vit.rel_pos_bias.relative_position_bias_table
    torch.nn.init.normal_(table.data)
    torch.save({'state_dict': {f'backbone.{name}': value for name, value in vit.state_dict().items()}}, path)
    return path, table.data


def test_conmims_table_goes_into_windows_as_it_is_and_resized_into_global_blocks(tmp_path):
    vit = build('WindowedConMIMViT', img_size=64, window_size=4, final_norm=True)
    path, table = conmim_file(tmp_path / 'conmim.pth')
    load_backbone(vit, path, resize=True)
    tables = [block.attn.rel_pos_bias.relative_position_bias_table for block in vit.layers]
    assert [len(own) for own in tables] == [52, 228, 52, 228]
    assert torch.equal(tables[0], table)
    assert torch.equal(tables[1], resize_table(table, (4, 4), (8, 8)))
    with pytest.raises(CheckpointError, match=r'of 4 × 4 patches.*the backbone has 8 × 8'):
        load_backbone(build('WindowedConMIMViT', img_size=64, window_size=4), path)
    torch.save({'state_dict': {f'backbone.{name}': value for name, value in vit.state_dict().items()}},
               tmp_path / 'detector.pth')
    again = build('WindowedConMIMViT', img_size=64, window_size=4, final_norm=True)
    load_backbone(again, tmp_path / 'detector.pth', resize=True)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in vit.state_dict().items())


def test_absolute_positions_beside_tables_start_fresh_where_the_file_has_none(tmp_path):
    vit = build('WindowedConMIMViT', img_size=64, window_size=4, use_abs_pos_emb=True)
    before = vit.pos_embed.clone()
    coverage = load_backbone(vit, conmim_file(tmp_path / 'conmim.pth')[0], resize=True)
    assert coverage.fresh == ('pos_embed', )
    assert torch.equal(vit.pos_embed, before)


def test_a_query_sees_the_row_of_its_displacement():
    table = build('WindowedConMIMViT', window_size=4, out_indices=(0, ), global_blocks=[]).layers[0].attn.rel_pos_bias
    seen = table((4, 4))[:, 1:, 1:]
    # query at (0, 0), key at (3, 2): the displacement (−3, −2) is row 0·7 + 1 of the 7×7 displacements
    torch.testing.assert_close(seen[:, 0, 3 * 4 + 2], table.relative_position_bias_table[1])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('frozen', [1, 2, 4])
def test_any_prefix_is_frozen_with_all_before_it(kind, frozen):
    vit = build(kind, frozen_stages=frozen, drop_path_rate=0.5).train()
    trained = [any(value.requires_grad for value in block.parameters()) for block in vit.layers]
    assert trained == [index >= frozen for index in range(4)]
    assert not any(value.requires_grad for value in vit.patch_embed.parameters())
    assert [block.training for block in vit.layers] == trained


@pytest.mark.parametrize('kind', KINDS)
def test_frozen_blocks_stay_in_eval_mode_and_train_returns_the_module(kind):
    vit = build(kind, frozen_stages=2)
    assert vit.eval() is vit
    assert vit.train() is vit
    assert [block.training for block in vit.layers] == [False, False, True, True]
    assert not any(parameter.requires_grad for parameter in vit.layers[1].parameters())
    assert all(parameter.requires_grad for parameter in vit.layers[2].parameters())


def test_the_blocks_that_return_maps_see_everything_unless_others_are_named():
    assert choose_windows(4, 14, None, [1, 3]) == [14, None, 14, None]
    assert choose_windows(4, 14, [-1], [1, 3]) == [14, 14, 14, None]
    assert choose_windows(4, 1, [-4], [1, 3]) == [None, 1, 1, 1]
    with pytest.raises(ValueError, match=r'global_blocks=\[4\], but there are 4 blocks'):
        choose_windows(4, 14, [4], [])
    with pytest.raises(ValueError, match='window_size=0'):
        choose_windows(4, 0, None, [])
