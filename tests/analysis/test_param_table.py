import pytest
import torch
from mmengine.config import Config

from mm_graft.analysis.param_table import build_on_meta, parameter_table, summarise
from tests.tiny import grafted_mocov3


def config(stage_lr_mult=(0.1, 1.0), **model):
    return Config(dict(
        model=grafted_mocov3() | model, default_scope='mmpretrain',
        optim_wrapper=dict(type='mm_graft.AutocastOptimWrapper', constructor='mm_graft.GraftOptimWrapperConstructor',
                           optimizer=dict(type='AdamW', lr=2.0, weight_decay=0.1),
                           paramwise_cfg=dict(stage_lr_mult=list(stage_lr_mult)))))


@pytest.fixture(scope='module')
def table():
    return parameter_table(*build_on_meta(config()))


def test_models_are_built_without_memory_for_weights():
    model, _ = build_on_meta(config())
    assert {parameter.device for parameter in model.parameters()} == {torch.device('meta')}


def test_there_is_one_row_per_parameter_in_the_models_order(table):
    model, _ = build_on_meta(config())
    assert [row['name'] for row in table] == [name for name, _ in model.named_parameters()]
    assert {tuple(row) for row in table} == {('name', 'depth', 'stage', 'lr_mult', 'lr', 'weight_decay', 'trained')}


def test_rows_say_what_the_optimizer_does(table):
    rows = {row['name']: row for row in table}
    assert rows['backbone.layers.0.attn.qkv.weight'] == {
        'name': 'backbone.layers.0.attn.qkv.weight', 'depth': 1, 'stage': 1, 'lr_mult': pytest.approx(0.1),
        'lr': pytest.approx(0.2), 'weight_decay': 0.1, 'trained': True}
    assert rows['neck.fc0.weight']['lr_mult'] == 1.0
    assert rows['backbone.layers.3.ln1.bias']['weight_decay'] == 0.0


def test_what_does_not_train_has_neither_stage_rate_nor_decay(table):
    rows = {row['name']: row for row in table}
    for name in ('backbone.pos_embed', 'backbone.patch_embed.projection.bias', 'momentum_encoder.module.0.cls_token'):
        row = rows[name]
        assert row['stage'] is row['lr_mult'] is row['lr'] is row['weight_decay'] is None
        assert not row['trained']
        assert row['depth'] == 0


def test_frozen_stages_are_seen():
    rows = {row['name']: row for row in parameter_table(*build_on_meta(config([0.0, 1.0])))}
    assert not rows['backbone.layers.1.ln1.weight']['trained']
    assert rows['backbone.layers.2.ln1.weight']['trained']


def test_the_summary_puts_equal_treatment_together_and_loses_nothing(table):
    rows = summarise(table)
    assert sum(count for *_, count in rows) == len(table)
    assert [(stage, lr, decay) for stage, _, lr, decay, _ in rows] == [
        (1, pytest.approx(0.2), 0.1), (1, pytest.approx(0.2), 0.0), (2, 2.0, 0.0), (2, 2.0, 0.1), (None, None, None)]
    assert rows[0][1] == [0, 1, 2]
    assert rows[2][1] == [3, 4, 5]


def test_a_model_that_needs_values_while_it_is_built_works_too():
    swin = dict(type='SwinTransformer', img_size=64, window_size=4,
                arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]))
    cfg = config()
    cfg.model = Config(dict(type='ImageClassifier', backbone=swin))._cfg_dict
    table = parameter_table(*build_on_meta(cfg))
    assert {row['stage'] for row in table} == {1, 2}
