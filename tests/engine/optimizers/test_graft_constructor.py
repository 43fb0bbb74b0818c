import pytest
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from mm_graft.engine.optimizers.graft_constructor import geometric_multiplier, stage_multiplier
from tests.tiny import classifier, grafted_mocov3

HALVES = dict(stage_lr_mult=[0.1, 0.5])


def build(paramwise_cfg, model=None, lr=2.0, **optimizer):
    model = model or MODELS.build(grafted_mocov3())
    wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='mm_graft.GraftOptimWrapperConstructor', paramwise_cfg=paramwise_cfg,
        optimizer=dict(type='AdamW', lr=lr, weight_decay=0.1) | optimizer))
    return model, wrapper.optimizer


def table(paramwise_cfg, **kwargs):
    """name → (learning rate, weight decay)."""
    model, optimizer = build(paramwise_cfg, **kwargs)
    groups = {parameter: group for group in optimizer.param_groups for parameter in group['params']}
    return {name: (groups[parameter]['lr'], groups[parameter]['weight_decay'])
            for name, parameter in model.named_parameters() if parameter in groups}


def test_each_stage_has_its_rate_with_stem_first_and_rest_last():
    rates = {name: lr for name, (lr, _) in table(HALVES).items()}
    for name in ('backbone.cls_token', 'backbone.layers.0.ln1.weight', 'backbone.layers.1.attn.qkv.weight'):
        assert rates[name] == pytest.approx(0.2)
    for name in ('backbone.layers.2.ln1.weight', 'backbone.layers.3.ln2.bias', 'backbone.ln1.weight', 'neck.fc0.weight',
                 'head.predictor.fc1.weight'):
        assert rates[name] == pytest.approx(1.0)


@pytest.mark.parametrize('multipliers', [[1.0], [0.5, 1.0], [0.1, 0.2, 0.3, 0.4]])
def test_any_number_of_stages_that_divides_the_blocks_works(multipliers):
    rates = table(dict(stage_lr_mult=multipliers))
    for block in range(4):
        expected = 2.0 * multipliers[block * len(multipliers) // 4]
        assert rates[f'backbone.layers.{block}.ln1.weight'][0] == pytest.approx(expected)


def test_three_stages_of_four_blocks_are_refused():
    with pytest.raises(ValueError, match=r'3 stages do not divide 4 blocks evenly; choose one of \[1, 2, 4\]'):
        build(dict(stage_lr_mult=[0.1, 0.1, 1.0]))


def test_vectors_are_undecayed_and_the_class_token_is_decayed():
    rows = table(HALVES)
    assert rows['backbone.cls_token'][1] == 0.1
    model = MODELS.build(grafted_mocov3())
    for name, parameter in model.named_parameters():
        if name in rows:
            assert rows[name][1] == (0.0 if parameter.ndim == 1 else 0.1), name


@pytest.mark.parametrize('cfg', [None, {}, dict(stage_lr_mult=None), dict(by_depth=False), dict(custom_keys={})])
def test_nothing_given_is_one_stage(cfg):
    assert table(cfg) == table(dict(stage_lr_mult=[1.0]))
    _, optimizer = build(cfg)
    assert {(group['stage'], group['num_stages'], group['lr_mult']) for group in optimizer.param_groups} == {(1, 1, 1)}


def test_one_stage_and_settings_need_no_rule_either():
    rows = table(dict(bias_lr_mult=7.0))
    assert rows['backbone.layers.0.attn.qkv.bias'][0] == 14
    assert rows['backbone.layers.0.attn.qkv.weight'][0] == 2


def test_every_trained_parameter_is_in_one_group_and_no_other_is():
    model, optimizer = build(HALVES)
    grouped = [parameter for group in optimizer.param_groups for parameter in group['params']]
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert sorted(names[parameter] for parameter in grouped) == sorted(
        name for name, parameter in model.named_parameters() if parameter.requires_grad)
    for group in optimizer.param_groups:
        assert group['param_names'] == [names[parameter] for parameter in group['params']]


def test_parameters_of_equal_settings_share_a_group():
    _, optimizer = build(HALVES)
    assert sorted((group['stage'], group['weight_decay']) for group in optimizer.param_groups) == [
        (1, 0.0), (1, 0.1), (2, 0.0), (2, 0.1)]
    assert {(group['stage'], group['lr_mult'], group['depth'], group['num_blocks'])
            for group in optimizer.param_groups} == {(1, 0.1, None, 4), (2, 0.5, None, 4)}


def test_settings_of_a_custom_key_reach_the_optimizer_and_split_groups():
    keys = {'neck': dict(betas=[0.5, 0.6]), 'head': dict(eps=1e-3), 'cls_token': dict(eps=1e-3)}
    _, optimizer = build(HALVES | dict(custom_keys=keys))
    of = {name: group for group in optimizer.param_groups for name in group['param_names']}
    assert tuple(of['neck.fc0.weight']['betas']) == (0.5, 0.6)
    assert of['head.predictor.fc0.weight']['eps'] == of['backbone.cls_token']['eps'] == 1e-3
    assert of['backbone.ln1.weight']['eps'] == optimizer.defaults['eps']
    assert of['head.predictor.fc0.weight'] is not of['backbone.cls_token']


def test_multipliers_of_every_origin_compose():
    cfg = HALVES | dict(custom_keys={'backbone.layers.3': dict(lr_mult=3.0, decay_mult=0.5)}, bias_lr_mult=7.0,
                       norm_decay_mult=0.25, flat_decay_mult=0.125)
    rows = table(cfg)
    expected = {
        'backbone.layers.0.attn.qkv.weight': (0.2, 0.1),
        'backbone.layers.0.attn.qkv.bias': (0.2 * 7, 0.1 / 8),
        'backbone.layers.0.ln1.weight': (0.2, 0.1 / 4),
        'backbone.layers.0.ln1.bias': (0.2, 0.1 / 4),  # a norm's bias is not the bias of bias_lr_mult
        'backbone.layers.3.attn.qkv.weight': (1.0 * 3, 0.1 / 2),
        'backbone.layers.3.attn.qkv.bias': (1.0 * 3 * 7, 0.1 / 8 / 2),
        'backbone.layers.3.ln1.weight': (1.0 * 3, 0.1 / 4 / 2),
        'neck.fc0.weight': (1.0, 0.1),
    }
    for name, row in expected.items():
        assert rows[name] == pytest.approx(row), name


def test_the_bias_has_a_decay_of_its_own_if_asked():
    rows = table(HALVES | dict(bias_decay_mult=0.5))
    assert rows['backbone.layers.0.attn.qkv.bias'][1] == pytest.approx(0.05)
    assert rows['backbone.layers.0.ln1.weight'][1] == 0.0
    rows = table(HALVES | dict(bias_decay_mult=0.5, norm_decay_mult=0.2))
    assert rows['backbone.layers.0.ln1.bias'][1] == pytest.approx(0.02)


@pytest.mark.parametrize('setting', [
    dict(bias_lr_mult=2.0), dict(norm_decay_mult=0.5), dict(bias_decay_mult=0.5), dict(flat_decay_mult=0.5),
    dict(custom_keys={'cls_token': dict(lr_mult=2.0)}), dict(stage_lr_mult=[0.2, 0.5])], ids=str)
def test_each_setting_changes_something(setting):
    assert table(HALVES | setting) != table(HALVES)


def test_a_key_for_a_block_reaches_that_block_alone():
    arch = dict(embed_dims=16, num_layers=12, num_heads=2, feedforward_channels=32)
    model = MODELS.build(grafted_mocov3(arch=arch))
    rates = table(dict(stage_lr_mult=[1.0], custom_keys={'backbone.layers.1': dict(lr_mult=0.5)}), model=model)
    halved = {name for name, (lr, _) in rates.items() if lr == 1.0}
    assert halved == {name for name in rates if name.startswith('backbone.layers.1.')}


class Adapted(nn.Module):

    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(grafted_mocov3()['backbone'])
        self.backbone.adapter = nn.Linear(2, 2)


def test_a_parameter_that_cannot_be_placed_is_named():
    with pytest.raises(ValueError, match=r"'adapter\.weight'.*depth_overrides"):
        build(HALVES, model=Adapted())


def test_layer_decay_equals_a_table_by_hand():
    rows = table(dict(layer_decay_rate=0.5), model=MODELS.build(classifier()))
    by_hand = {'cls_token': 1 / 32, 'pos_embed': 1 / 32, 'patch_embed.projection.weight': 1 / 32,
               'layers.0.ln1.weight': 1 / 16, 'layers.1.ln1.weight': 1 / 8, 'layers.2.ln1.weight': 1 / 4,
               'layers.3.ln1.weight': 1 / 2, 'ln1.weight': 1.0}
    for name, multiplier in by_hand.items():
        assert rows[f'backbone.{name}'][0] == pytest.approx(2.0 * multiplier), name
    assert rows['head.layers.head.weight'][0] == 2.0


def test_layer_decay_is_the_hosts_where_the_host_has_one():
    model = MODELS.build(classifier())
    wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.65), optimizer=dict(type='AdamW', lr=2.0, weight_decay=0.1)))
    host = {parameter: group['lr'] for group in wrapper.optimizer.param_groups for parameter in group['params']}
    rows = table(dict(layer_decay_rate=0.65), model=model)
    for name, parameter in model.named_parameters():
        assert rows[name][0] == pytest.approx(host[parameter]), name


def test_groups_by_depth_keep_the_rate_and_carry_the_depth():
    _, optimizer = build(dict(by_depth=True))
    assert {group['lr'] for group in optimizer.param_groups} == {2.0}
    assert sorted({group['depth'] for group in optimizer.param_groups}) == list(range(6))
    assert len(optimizer.param_groups) <= 12


def test_depths_and_stages_may_be_combined():
    _, optimizer = build(HALVES | dict(by_depth=True))
    assert {(group['depth'], group['stage'], group['lr_mult']) for group in optimizer.param_groups} == {
        (0, 1, 0.1), (1, 1, 0.1), (2, 1, 0.1), (3, 2, 0.5), (4, 2, 0.5), (5, 2, 0.5)}


def test_multipliers_of_depths():
    assert [stage_multiplier(depth, 4, [0.1, 1.0]) for depth in range(6)] == [0.1, 0.1, 0.1, 1.0, 1.0, 1.0]
    assert [geometric_multiplier(depth, 3, 0.5) for depth in range(5)] == [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]


def test_scaling_with_the_batch_keeps_the_ratios():
    model, _ = build(HALVES)
    wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='mm_graft.GraftOptimWrapperConstructor', paramwise_cfg=HALVES,
        optimizer=dict(type='AdamW', lr=2.0)))
    before = [group['lr'] for group in wrapper.optimizer.param_groups]
    runner = Runner.__new__(Runner)
    runner._train_dataloader, runner._world_size, runner.param_schedulers = {'batch_size': 4}, 1, None
    runner.logger = MMLogger.get_current_instance()
    runner.scale_lr(wrapper, dict(enable=True, base_batch_size=16))
    assert [group['lr'] for group in wrapper.optimizer.param_groups] == pytest.approx([lr / 4 for lr in before])


def test_the_optimizers_own_rate_and_decay_follow_the_rules_too():
    model, _ = build(HALVES)
    optimizer = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='mm_graft.GraftOptimWrapperConstructor', paramwise_cfg=HALVES,
        optimizer=dict(type='AdamW'))).optimizer
    decays = {(group['lr'], tensor.ndim == 1, group['weight_decay'])
              for group in optimizer.param_groups for tensor in group['params']}
    assert decays == {(lr, flat, 0.0 if flat else 0.01) for lr in (1e-4, 5e-4) for flat in (True, False)}


def test_an_optimizer_without_weight_decay_works():
    _, optimizer = build(HALVES, type='SGD', weight_decay=0)
    assert {group['weight_decay'] for group in optimizer.param_groups} == {0}


@pytest.mark.parametrize(('cfg', 'message'), [
    (dict(stage_lr_mult=[1.0], bias_decay_mul=0.0), r"unknown keys \['bias_decay_mul'\].*mean 'bias_decay_mult'"),
    (dict(stage_lr_mult=[1.0], custom_key={}), r"unknown keys \['custom_key'\].*did you mean 'custom_keys'"),
    (dict(dwconv_decay_mult=0.0), r"unknown keys \['dwconv_decay_mult'\]"),
    (dict(by_depth=True, stage_lr_mult=[]), 'must be a list'), (dict(stage_lr_mult=[]), 'must be a list'),
    (dict(stage_lr_mult=0.1), 'must be a list'), (dict(stage_lr_mult=[float('nan'), 1.0]), 'must be a list'),
    (dict(stage_lr_mult=[1.0], layer_decay_rate=0.5), 'exclude each other'),
    (dict(stage_lr_mult=[-0.1, 1.0]), r'\[-0\.1, 1\.0\] must be a list of numbers ≥ 0'),
    (dict(stage_lr_mult=[0.0, 0.0]), 'not all 0'),
    (dict(layer_decay_rate=1.5), r'layer_decay_rate=1\.5 must be in'), (dict(layer_decay_rate=-0.5), 'must be in')])
def test_contradicting_or_missing_rules_are_refused(cfg, message):
    with pytest.raises(ValueError, match=message):
        build(cfg)


@pytest.mark.parametrize('cfg', [
    dict(norm_decay_mult=0.0), dict(flat_decay_mult=1.0), dict(custom_keys={'neck': dict(decay_mult=0.0)})])
def test_multipliers_of_a_decay_that_is_not_there_are_refused(cfg):
    with pytest.raises(ValueError, match='give it weight_decay'):
        build_optim_wrapper(MODELS.build(grafted_mocov3()), dict(
            constructor='mm_graft.GraftOptimWrapperConstructor', paramwise_cfg=cfg, optimizer=dict(type='SGD', lr=1.0)))


@pytest.mark.parametrize(('keys', 'message'), [
    ({'backbone.blocks.0': dict(lr_mult=0.0)}, r"\['backbone\.blocks\.0'\] stand in no name.*'backbone\.layers\.0'"),
    ({'neck': dict(lr_mult=0.0), 'pos_embd': dict(decay_mult=0.0)}, r"\['pos_embd'\] stand in no name.*'pos_embed'"),
    ({'neck': dict(lr_mul=10.0)}, r"custom_keys\['neck'\] has unknown settings \['lr_mul'\].*mean 'lr_mult'"),
    ({'neck': dict(lr=10.0)}, r"custom_keys\['neck'\] has unknown settings \['lr'\].*lr_mult"),
])
def test_settings_that_match_nothing_are_refused_with_the_nearest_names(keys, message):
    with pytest.raises(ValueError, match=message):
        build(HALVES | dict(custom_keys=keys))


def test_none_takes_back_what_a_base_has():
    keys = {'norm': None, 'neck': dict(lr_mult=2.0, decay_mult=None)}
    assert table(HALVES | dict(custom_keys=keys)) == table(HALVES | dict(custom_keys={'neck': dict(lr_mult=2.0)}))


def test_nested_keys_add_up():
    rows = table(HALVES | dict(custom_keys={'backbone': dict(lr_mult=0.1), 'backbone.cls_token': dict(decay_mult=0.0)}))
    assert rows['backbone.cls_token'] == pytest.approx((0.02, 0.0))
    assert rows['backbone.layers.0.attn.qkv.weight'] == pytest.approx((0.02, 0.1))
