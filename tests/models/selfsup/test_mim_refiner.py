import copy
from itertools import groupby

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mm_graft.checkpoints import load_backbone
from mm_graft.depth import unwrap
from mm_graft.models.selfsup.mim_refiner import MIMRefiner, encode_views
from tests.defaults import defaults
from tests.engine.freezing.freezeout_runs import Spy, make_runner
from tests.models.selfsup.refiner_builders import build, build_on, samples, views_of
from tests.tiny import mae_file, refiner, start_from

IDS = [3, 5, 8, 9]


def step(model, **kwargs):
    return model.loss(views_of(IDS), samples(IDS), **kwargs)


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def reached(model):
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}


def test_views_of_one_shape_are_one_batch_and_rows_come_view_by_view():
    model = build()
    model.eval()
    views, calls = views_of(IDS), []
    handle = model.backbone.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    taps = encode_views(model.backbone, views)
    handle.remove()
    assert calls == [8, 8]
    assert [tuple(tap.shape) for tap in taps] == [(16, 16)] * 3
    for index, view in enumerate(views):
        for tap, alone in zip(taps, model.backbone(view)):
            torch.testing.assert_close(tap[4 * index:4 * index + 4], alone)


def test_the_last_block_is_read_after_the_norm_and_the_others_before():
    model = build()
    tokens, _ = model.backbone.run_lower(views_of(IDS)[0], 4)
    taps = encode_views(model.backbone, views_of(IDS)[:1])
    torch.testing.assert_close(taps[2], model.backbone.ln1(tokens)[:, 0])
    torch.testing.assert_close(taps[1], model.backbone.run_lower(views_of(IDS)[0], 3)[0][:, 0])


def test_the_mean_of_the_patches_instead_of_the_class_token():
    model = build(backbone=dict(out_type='featmap'))
    tokens = model.backbone.run_lower(views_of(IDS)[0], 3)[0]
    torch.testing.assert_close(encode_views(model.backbone, views_of(IDS)[:1])[1], tokens[:, 1:].mean(1))
    with pytest.raises(ValueError, match='out_type="cls_token"'):
        build(backbone=dict(out_type='raw')).loss(views_of(IDS), samples(IDS))


@pytest.mark.parametrize('name', ['vit_small_patch14_reg4_dinov2', 'vit_base_patch16_clip_224'])
@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap', 'featmap'])
def test_any_vit_of_timm_is_refined(name, out_type):
    small = dict(depth=4, embed_dim=16, num_heads=2, img_size=32, patch_size=8)
    backbone = dict(type='mm_graft.TimmViT', model_name=name, out_indices=[2, 3], out_type=out_type)
    model = build_on({**backbone, **small})
    sum(step(model).values()).backward()
    assert reached(model) == trained(model)
    assert not any(name.endswith('norm.bias') and 'blocks' not in name and 'norm_pre' not in name
                   for name in trained(model) if name.startswith('backbone.'))


def test_every_head_reads_its_block_and_its_term_is_the_heads_own():
    model = build()
    twin = copy.deepcopy(model)
    losses = step(model)
    assert list(losses) == ['loss_block1', 'loss_block2', 'loss_block3']
    for name, features in zip(twin.heads, encode_views(twin.backbone, views_of(IDS))):
        expected = twin.heads[name].loss(features, torch.tensor(IDS), 2)['loss']
        torch.testing.assert_close(losses[f'loss_{name}'], expected)


def test_gradients_reach_encoder_and_heads_but_not_the_shifts_without_a_gradient_nor_the_average():
    model = build()
    sum(step(model).values()).backward()
    assert reached(model) == trained(model)
    fixed = {'backbone.pos_embed', 'backbone.ln1.bias', *(f'heads.block{b}.projector.2.1.bias' for b in (1, 2, 3))}
    names = {name for name, _ in model.named_parameters() if not name.startswith('momentum_encoder.')}
    assert trained(model) == names - fixed


def test_the_shift_of_the_final_norm_had_no_gradient():
    model = build()
    model.double().backbone.ln1.bias.requires_grad_()
    sum(model.loss([view.double() for view in views_of(IDS)], samples(IDS)).values()).backward()
    assert model.backbone.ln1.bias.grad.abs().max() < 1e-12 * model.backbone.ln1.weight.grad.abs().max()


def test_nor_has_that_of_the_norm_behind_the_last_block_of_data2vec():
    model = build(backbone=dict(type='mm_graft.PostNormViT')).double()
    assert not model.backbone.output_norm.bias.requires_grad
    model.backbone.output_norm.bias.requires_grad_()
    sum(model.loss([view.double() for view in views_of(IDS)], samples(IDS)).values()).backward()
    norm = model.backbone.output_norm
    assert norm.bias.grad.abs().max() < 1e-12 * norm.weight.grad.abs().max()
    assert model.backbone.layers[2].ln2.bias.grad.abs().max() > 1e-6 * norm.weight.grad.abs().max()


def test_a_head_teaches_the_blocks_up_to_its_own():
    model = build()
    step(model)['loss_block2'].backward()
    assert {name.split('.')[1] for name in reached(model) if name.startswith('backbone.layers')} | {
        name.split('.')[2] for name in reached(model) if name.startswith('backbone.layers')} >= {'0', '1', '2'}
    assert not any(name.startswith(('backbone.layers.3', 'backbone.ln1', 'heads.block1', 'heads.block3'))
                   for name in reached(model))


def test_labels_give_the_share_of_neighbors_of_the_same_class():
    model = build()
    losses = model.loss(views_of(IDS), samples(IDS, lambda index: index % 2))
    assert {name for name in losses if name.startswith('acc')} == {f'acc_neighbor_block{b}' for b in (1, 2, 3)}
    assert model.heads['block1'].queue.labels[:4].tolist() == [index % 2 for index in IDS]
    assert model.heads['block1'].queue.ids[:4].tolist() == IDS


def test_an_encoder_that_does_not_train_is_out_of_autograd_and_in_eval_mode():
    model = build(backbone=dict(drop_path_rate=0.9, drop_rate=0.5), momentum=None, train_encoder=False)
    assert all(name.startswith('heads.') for name in trained(model))
    sum(step(model).values()).backward()
    assert reached(model) == trained(model)
    taps = encode_views(model.backbone, views_of(IDS))
    assert not any(tap.requires_grad for tap in taps)
    assert all(torch.equal(*pair) for pair in zip(taps, encode_views(model.backbone, views_of(IDS))))
    assert model.heads['block1'].training
    with pytest.raises(ValueError, match=r'momentum=0\.9 of an encoder that does not train'):
        build(train_encoder=False)


def test_a_frozen_prefix_leaves_autograd():
    model = build(backbone=dict(frozen_stages=2))
    assert not encode_views(model.backbone, views_of(IDS))[0].requires_grad
    sum(step(model).values()).backward()
    assert reached(model) == trained(model)
    assert not any(name.startswith(('backbone.cls', 'backbone.patch', 'backbone.layers.0', 'backbone.layers.1'))
                   for name in trained(model))


def test_the_average_moves_after_every_step_and_its_place_is_what_evaluators_ask_for():
    model = build(momentum=0.75)
    optim_wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.1)))
    before = model.backbone.cls_token.detach().clone()
    for _ in range(2):
        expected = 0.75 * model.momentum_encoder.module.cls_token
        optim_wrapper.update_params(sum(step(model).values()))
        torch.testing.assert_close(model.state_dict()['momentum_encoder.module.cls_token'],
                                   expected + 0.25 * model.backbone.cls_token)
    assert not torch.equal(model.backbone.cls_token, before)


def test_it_starts_from_mae_and_from_the_heads_with_queues_of_the_first_stage(tmp_path):
    first = build(momentum=None, train_encoder=False, backbone=dict(out_indices=[0, 1, 2, 3]))
    start_from(first, mae_file(tmp_path / 'mae.pth'))
    for _ in range(2):
        step(first)
    torch.save({'state_dict': first.state_dict()}, tmp_path / 'heads.pth')
    second = build(dict(queue=dict(type='mm_graft.SupportQueue', length=16, num_neighbors=5)))
    start_from(second, str(tmp_path / 'heads.pth'), parts=['heads'])
    state = first.state_dict()
    for name, value in second.state_dict().items():
        source = name.removeprefix('momentum_encoder.module.') if 'module' in name else name
        source = f'backbone.{source}' if source != name else name
        if name != 'momentum_encoder.steps':
            assert torch.equal(value, state[source]), name
    assert second.heads['block2'].queue.pushed == 8
    assert second.heads['block2'].queue.num_neighbors == 5


def test_a_plain_encoder_that_is_loaded_starts_the_average_too(tmp_path):
    model, source = build(), build(momentum=None)
    model.load_state_dict(source.state_dict(), strict=False)
    assert torch.equal(model.momentum_encoder.module.cls_token, source.backbone.cls_token)
    load_backbone(model.backbone, mae_file(tmp_path / 'mae.pth'))
    model.start_momentum_encoders()
    assert torch.equal(model.momentum_encoder.module.cls_token, model.backbone.cls_token)


def test_heads_of_frozen_blocks_are_switched_off():
    model = build()
    model.on_freeze(1)
    assert model.live == {'block1', 'block2', 'block3'}  # block 1 is at depth 2
    model.on_freeze(3)
    pushed = model.heads['block2'].queue.pushed.clone()
    losses = step(model)
    assert [losses[f'loss_block{b}'].requires_grad for b in (1, 2, 3)] == [False, False, True]
    assert losses['loss_block1'] == losses['loss_block2'] == 0
    assert model.heads['block2'].queue.pushed == pushed
    assert not any(name.startswith(('heads.block1', 'heads.block2')) for name in trained(model))
    with pytest.raises(ValueError, match='nothing would be left to learn'):
        model.on_freeze(4)


def test_freezeout_switches_heads_off_one_by_one_in_a_run():
    seen = Spy(lambda runner: (sorted(unwrap(runner.model).live), [
        int(head.queue.pushed) for head in unwrap(runner.model).heads.values()]))
    make_runner(refiner(), hooks=[seen], data=dict(type='mm_graft.CroppedNoise', length=8)).train()
    live, pushed = zip(*seen.log)
    names = ['block1', 'block2', 'block3']
    assert [names[index:] for index in range(3)] == [list(group) for group, _ in groupby(live)]
    for index, name in enumerate(names):
        assert pushed[-1][index] == 4 * sum(name in heads for heads in live)


def test_ddp_is_told_to_leave_the_queues_alone():
    model = build()
    ignored = set(model._ddp_params_and_buffers_to_ignore)
    assert ignored == {name for name, _ in model.named_buffers() if '.queue.' in name}
    assert len(ignored) == 3 * 6


def test_what_cannot_work_is_said():
    with pytest.raises(ValueError, match=r'the last one \(3\) among them'):
        build(backbone=dict(out_indices=[1, 2]))
    with pytest.raises(ValueError, match=r'gives the blocks \(\); out_indices must name'):
        build(backbone=dict(out_indices=[]))
    model = build(num_global_views=3)
    with pytest.raises(ValueError, match='2 views of each image came, but 3 global'):
        model.loss(views_of(IDS)[:2], samples(IDS))
    with pytest.raises(ValueError, match='one Tensor of each image'):
        model.loss(views_of(IDS)[0], samples(IDS))
    with pytest.raises(ValueError, match='the samples have no ids'):
        model.loss(views_of(IDS), None)


def test_two_global_views_will_do_and_a_head_may_say_its_own_width():
    assert build().loss(views_of(IDS)[:2], samples(IDS))['loss_block3'].requires_grad
    assert build(dict(in_channels=8)).heads['block1'].projector[0][0].in_features == 8


def test_the_number_of_global_views_matters():
    model = build()
    twin = copy.deepcopy(model)
    twin.num_global_views = 3
    views = views_of(IDS, (32, 32, 32, 16))
    first, second = (m.loss(views, samples(IDS))['loss_block3'] for m in (model, twin))
    assert first != second


@pytest.mark.parametrize('train_encoder', [True, False])
def test_modes_are_set_and_an_encoder_that_does_not_train_stays_in_eval_mode(train_encoder):
    model = build(train_encoder=train_encoder, **({} if train_encoder else {'momentum': None}))
    assert (model.training, model.heads['block1'].training, model.backbone.training) == (True, True, train_encoder)
    model.eval()
    assert (model.training, model.heads['block1'].training, model.backbone.training) == (False, False, False)


def test_views_and_momentum_are_the_authors():
    assert defaults(MIMRefiner) == {'num_global_views': 2, 'momentum': 0.9999, 'train_encoder': True}
