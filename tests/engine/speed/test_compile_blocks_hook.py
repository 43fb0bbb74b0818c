"""Compiling block by block; the backend runs the captured graph as it is, so no compiler is needed."""

import pytest
import torch
from mmengine.registry import HOOKS, MODELS
from torch._dynamo import reset
from torch._dynamo.utils import counters

from benchmarks.clock import PhaseClock
from mm_graft.engine.freezing.freeze_once import freeze_blocks
from mm_graft.engine.speed.compile_blocks_hook import CompileBlocksHook, compile_blocks, fault_of
from mm_graft.engine.speed.model_hook import apply_configured
from tests.engine.freezing.freezeout_runs import Spy, mae, make_runner
from tests.every_method import METHODS, training_step
from tests.tiny import VIT, classifier, grafted_mocov3

# of those whose blocks are of one kind and are called in one way, one is enough
BLOCKS = [name for name in METHODS if '/' in name and not name.startswith('graft/vit-b_mae2')]
HOOK = dict(type='mm_graft.CompileBlocksHook', backend='aot_eager')


@pytest.fixture(autouse=True)
def _fresh_compiler():
    reset()
    counters.clear()


def gradients(model, images):
    model.zero_grad()
    model.backbone(images)[-1].square().sum().backward()
    return {name: param.grad for name, param in model.named_parameters() if param.grad is not None}


@pytest.mark.parametrize('frozen', [0, 2])
def test_outputs_and_gradients_are_those_of_the_plain_blocks(frozen):
    model, images = MODELS.build(classifier()).train(), torch.randn(2, 3, 32, 32)
    if frozen:
        freeze_blocks(model, torch.optim.SGD(model.parameters(), 1), frozen)
    names, plain = list(model.state_dict()), gradients(model, images)
    assert compile_blocks(model, backend='aot_eager') == 4
    compiled = gradients(model, images)
    assert list(model.state_dict()) == names
    assert set(compiled) == set(plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient)


def test_the_number_of_graphs_does_not_grow_with_depth_or_freezing():
    model, images = MODELS.build(classifier()).train(), torch.randn(2, 3, 32, 32)
    compile_blocks(model, backend='aot_eager')
    for blocks in (0, 1, 2, 3):
        if blocks:
            freeze_blocks(model, torch.optim.SGD(model.parameters(), 1), blocks)
        found = gradients(model, images)
        assert 'backbone.layers.3.ffn.layers.1.weight' in found
        assert not [name for name in found if name.startswith(tuple(f'backbone.layers.{i}.' for i in range(blocks)))]
    assert counters['stats']['unique_graphs'] == 3
    assert not counters['graph_break']


@pytest.mark.parametrize('name', BLOCKS)
def test_the_blocks_of_no_method_are_broken_into_several_graphs(name):
    step = training_step(name)
    dynamic = False if 'swin' in name else None  # windows of unknown size take minutes to trace
    assert compile_blocks(step.model, backend='aot_eager', dynamic=dynamic) >= 4
    step.step(PhaseClock())
    assert counters['stats']['unique_graphs'] >= 1
    assert not counters['graph_break']


def test_momentum_encoders_are_compiled_too():
    assert compile_blocks(MODELS.build(grafted_mocov3()), backend='aot_eager') == 8


def test_a_config_says_whether_and_how():
    model = MODELS.build(dict(type='ImageClassifier', backbone=dict(type='VisionTransformer', **VIT)))
    assert apply_configured(model, [dict(type='EMAHook')], CompileBlocksHook) == 0
    assert apply_configured(model, None, CompileBlocksHook) == 0
    assert apply_configured(model, [HOOK], CompileBlocksHook) == 4
    assert HOOKS.build({**HOOK, 'dynamic': False}).options == {'backend': 'aot_eager', 'dynamic': False}


def test_a_run_with_compiled_blocks_takes_the_steps_of_one_without():
    weights = []
    for extra in ([], [HOOK]):
        runner = make_runner(mae(), iterations=3, schedule=dict(warmup=0), hooks=[Spy(lambda runner: None)])
        for hook in extra:
            runner.register_hook(HOOKS.build(hook))
        runner.train()
        weights.append(torch.cat([param.detach().flatten() for param in runner.model.parameters()]))
    assert counters['stats']['unique_graphs'] >= 1
    torch.testing.assert_close(*weights)


def first_block():
    return MODELS.build(classifier()).backbone.layers[0]


def broken_compiler(graph, inputs):
    raise RuntimeError('no compiler here')


def wrong_compiler(graph, inputs):
    return lambda *args: tuple(value * 1.01 if value.is_floating_point() else value for value in graph(*args))


def test_a_check_finds_what_cannot_be_compiled_and_what_gives_other_numbers():
    block = first_block()
    before = {name: value.clone() for name, value in block.state_dict().items()}
    assert fault_of(block, backend='aot_eager') is None
    assert 'no compiler here' in fault_of(block, backend=broken_compiler)
    reset()
    assert 'compiled, it differs by 0.0' in fault_of(block, backend=wrong_compiler)
    assert all(param.grad is None for param in block.parameters())
    for name, value in block.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_under_autocast_it_may_differ_by_more():
    block = first_block()
    with torch.autocast('cpu', torch.bfloat16):
        assert fault_of(block, backend='aot_eager') is None
        reset()
        assert fault_of(block, backend=wrong_compiler) is None


@pytest.mark.parametrize(('backend', 'graphs'), [('aot_eager', True), (broken_compiler, False)])
def test_a_run_whose_check_fails_goes_on_with_plain_blocks_and_says_so(backend, graphs, caplog):
    hook = CompileBlocksHook(check=True, backend=backend)
    runner = make_runner(mae(), iterations=1, schedule=dict(warmup=0), hooks=[Spy(lambda runner: None)])
    warned = []
    runner.logger.warning = warned.append
    runner.register_hook(hook)
    runner.train()
    assert (counters['stats']['unique_graphs'] > 1) == graphs
    assert [line.startswith('the blocks are not compiled.') for line in warned] == [True] * (not graphs)
