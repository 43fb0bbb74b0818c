"""Events of FreezeOut in real runs: what freezes, what follows, what is refused, what a resume gives."""

import json
import logging
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mm_graft.depth import depth_map
from mm_graft.engine.freezing.freezeout_hook import FreezeOutHook
from tests.engine.freezing.freezeout_runs import Spy, classifier, conmim, localmim, mae, make_runner, moco
from tests.own_process import SECONDS


def freezeout_hook(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, FreezeOutHook))


def weights_at(depth):
    """A look at the weights of one depth of the backbone."""

    def look(runner):
        depths = depth_map(runner.model).depths
        return {name: param.detach().clone() for name, param in runner.model.named_parameters()
                if depths[name] == depth and name.startswith('backbone.')}

    return look


MODELS_AND_DATA = {
    'mae': (mae(), {}),
    'localmim': (localmim(), {}),
    'conmim': (conmim(), {'views': 2}),
    'classifier': (classifier(), {'labels': True}),
    'mocov3': (moco(), {'views': 2}),
    'grafted_mocov3': (moco('mm_graft.GraftedMoCoV3', 'mm_graft.GraftViT'), {'views': 2}),
}


@pytest.mark.parametrize('name', MODELS_AND_DATA)
def test_depths_stop_moving_at_their_step_and_not_before(name):
    model, data = MODELS_AND_DATA[name]
    spies = {depth: Spy(weights_at(depth)) for depth in range(1, 5)}
    runner = make_runner(model, data=data, hooks=list(spies.values()))
    keys = list(runner.model.state_dict())
    runner.train()
    steps = freezeout_hook(runner).schedule.freeze_steps
    for depth, spy in spies.items():
        end = steps[depth] or 12
        moved = [any(not torch.equal(before[key], after[key]) for key in after)
                 for before, after in zip(spy.log, spy.log[1:])]
        assert all(moved[1:end - 2])  # in the step before the last the rate may be an exact zero
        assert not any(moved[end - 1:])
    assert list(runner.model.state_dict()) == keys


def test_an_event_frees_gradients_and_optimizer_state_and_keeps_the_groups():
    seen = Spy(lambda runner: (len(runner.optim_wrapper.optimizer.param_groups),
                               len(runner.optim_wrapper.optimizer.state)))
    runner = make_runner(mae(), hooks=[seen])
    runner.train()
    groups, states = zip(*seen.log)
    assert len(set(groups)) == 1
    assert states[-1] < states[0]
    depths, hook = depth_map(runner.model).depths, freezeout_hook(runner)
    for name, param in runner.model.named_parameters():
        frozen = depths[name] <= hook.frozen_depth
        assert not (frozen and (param.requires_grad or param in runner.optim_wrapper.optimizer.state))
        assert param.grad is None or not frozen


def test_the_prefix_stays_in_eval_mode_though_every_epoch_calls_train():
    def modes(runner):
        model, depth = runner.model, freezeout_hook(runner).frozen_depth
        blocks = [any(part.training for part in block.modules()) for block in model.backbone.layers]
        return depth, model.backbone.drop_after_pos.training, blocks, model.head.training

    spy = Spy(modes)
    runner = make_runner(classifier(), data={'labels': True}, hooks=[spy], epochs=6,
                         schedule=dict(by_epoch=True, convert_to_iter_based=True, warmup=1))
    runner.train()
    assert {depth for depth, *_ in spy.log} == {-1, 0, 1, 2, 3}
    for depth, stem, blocks, head in spy.log:
        assert stem == (depth < 0)
        assert blocks == [depth < block + 1 for block in range(4)]
        assert head


def test_nothing_below_the_frozen_depth_is_left_in_autograd():
    graphs = []
    runner = make_runner(mae())
    for layer in runner.model.backbone.layers:
        layer.register_forward_hook(lambda module, args, output: graphs.append(output.requires_grad))
    runner.train()
    assert graphs[:4] == [True] * 4
    assert graphs[-4:] == [False, False, False, True]


def test_accumulation_freezes_at_optimizer_steps_and_never_within_one():
    spy = Spy(lambda runner: freezeout_hook(runner).frozen_depth)
    runner = make_runner(mae(), iterations=36, hooks=[spy], optim_wrapper=dict(accumulative_counts=3),
                         schedule=dict(warmup=6))
    runner.train()
    plain = Spy(lambda runner: freezeout_hook(runner).frozen_depth)
    make_runner(mae(), iterations=12, hooks=[plain]).train()
    assert spy.log[::3] == spy.log[1::3] == spy.log[2::3] == plain.log


def test_freezing_works_under_bf16_autocast():
    runner = make_runner(mae(), optim_wrapper=dict(type='mm_graft.AutocastOptimWrapper'))
    runner.train()
    assert freezeout_hook(runner).frozen_depth == 3


def test_blocks_that_are_compiled_one_by_one_soon_need_no_new_graphs():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    spy = Spy(lambda runner: (freezeout_hook(runner).frozen_depth, len(graphs)))
    runner = make_runner(mae(), hooks=[spy])
    torch._dynamo.reset()
    for layer in runner.model.backbone.layers:
        layer.compile(backend=backend)
    runner.train()  # the hook raises if a block loses its gradients
    counts = dict(reversed(spy.log))  # frozen depth → graphs after its first iteration
    assert list(counts) == [3, 2, 1, 0, -1]
    assert 0 < counts[-1] < counts[2] == counts[3] <= 3 * counts[-1]


def test_a_lost_gradient_stops_the_run():
    runner = make_runner(mae())
    layer = runner.model.backbone.layers[3]
    forward = layer.forward
    layer.forward = lambda tokens: forward(tokens if tokens.requires_grad else tokens.detach()).detach() \
        if not runner.model.backbone.cls_token.requires_grad else forward(tokens)
    with pytest.raises(RuntimeError, match=r'depth 0 was frozen.*no gradient.*backbone\.layers'):
        runner.train()


def test_non_reentrant_checkpointing_keeps_every_gradient():
    ends = []
    for with_cp in (False, True):
        model = moco('mm_graft.GraftedMoCoV3', 'mm_graft.GraftViT')
        model['backbone']['with_cp'] = with_cp
        runner = make_runner(model, data={'views': 2})
        runner.train()
        ends.append(runner.model.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value)


def test_a_model_is_told_what_is_frozen():
    runner = make_runner(mae())
    told = []
    runner.model.on_freeze = told.append
    runner.train()
    assert told == [0, 1, 2, 3]


def test_localmim_drops_each_scale_with_its_block():
    spy = Spy(lambda runner: (freezeout_hook(runner).frozen_depth, sorted(runner.model.live_scales)))
    make_runner(localmim(), hooks=[spy]).train()
    assert dict(spy.log) == {-1: [0, 1, 2, 3], 0: [0, 1, 2, 3], 1: [1, 2, 3], 2: [2, 3], 3: [3]}


def test_the_average_of_a_frozen_prefix_comes_to_rest():
    spy = Spy(lambda runner: {name: param.clone() for name, param in runner.model.momentum_encoder.named_parameters()
                              if name.startswith('module.0.layers.0.')})
    model = moco('mm_graft.GraftedMoCoV3', 'mm_graft.GraftViT', momentum=0.)
    runner = make_runner(model, iterations=80, data={'views': 2}, hooks=[spy], schedule=dict(t0=.2))
    runner.train()
    hook = freezeout_hook(runner)
    assert hook.averaged_above >= 1
    source = dict(runner.model.backbone.named_parameters())
    for name, value in spy.log[-1].items():
        assert torch.equal(value, source[name.removeprefix('module.0.')])
    averaged, _ = runner.model.momentum_encoder._pairs
    assert len(averaged) < len(list(runner.model.momentum_encoder.module.parameters()))


def test_events_and_savings_are_logged(caplog):
    runner = make_runner(mae(), iterations=40)
    runner.logger.setLevel(logging.INFO)
    messages = []
    runner.logger.addFilter(lambda record: messages.append(record.getMessage()) or True)
    runner.train()
    events = [message for message in messages if 'blocks are frozen' in message]
    assert len(events) == 4
    assert 'the stem and 2 of 4 blocks' in events[2]
    assert '66.7%' in events[2]
    assert any('saved activations' in message and 'MiB at the end' in message for message in messages)


@pytest.mark.parametrize('accumulative_counts', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_ranks_stay_equal_and_send_less_after_each_event(tmp_path, accumulative_counts):
    result = run_two_ranks(tmp_path, accumulative_counts)
    steps = result['bytes'][accumulative_counts - 1::accumulative_counts]  # of whole optimizer steps
    assert sum(steps) == sum(result['bytes'])  # nothing is sent in between
    assert result['equal']
    assert len(set(steps[:7])) == 1
    assert steps[6] > steps[7] > steps[8] == steps[9] > steps[10] > steps[11]  # events at 7, 8, 10, 11
    assert steps[-1] == result['trainable_at_end']


def run_two_ranks(tmp_path, accumulative_counts):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    script, root = Path(__file__).with_name('freezeout_ddp.py'), Path(__file__).parents[3]
    ranks = [subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(accumulative_counts)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {
            'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1',
            'MASTER_PORT': str(port), 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(root)}) for rank in range(2)]
    outputs = [rank.communicate(timeout=SECONDS) for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), outputs[0][1][-3000:]
    line = next(line for line in outputs[0][0].splitlines() if line.startswith('RESULT '))
    return json.loads(line.removeprefix('RESULT '))


def resumed_equals_uninterrupted(tmp_path, model, data, iterations, stops):
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=-1)
    whole = make_runner(model, iterations=iterations, data=data, work_dir=str(tmp_path / 'whole'),
                        checkpoint=checkpoint)
    whole.train()
    wanted_state = whole.optim_wrapper.state_dict()['state']
    for stop in stops:
        resumed = make_runner(model, iterations=iterations, data=data, work_dir=str(tmp_path / f'from{stop}'),
                              resume=True, load_from=str(tmp_path / 'whole' / f'iter_{stop}.pth'))
        resumed.train()
        for name, value in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], value), (stop, name)
        state = resumed.optim_wrapper.state_dict()['state']
        assert state.keys() == wanted_state.keys()
        for index, entry in wanted_state.items():
            assert all(torch.equal(state[index][key], value) for key, value in entry.items())


def test_localmim_resumed_anywhere_is_bit_identical(tmp_path):
    stops = sorted(random.Random(0).sample(range(1, 24), 10))  # events at 13, 16, 19, 22
    resumed_equals_uninterrupted(tmp_path, localmim(), {}, 24, stops)


@pytest.mark.parametrize('name', ['mae', 'classifier', 'mocov3', 'grafted_mocov3', 'conmim'])
def test_other_algorithms_resume_bit_identical_around_an_event(tmp_path, name):
    model, data = MODELS_AND_DATA[name]
    resumed_equals_uninterrupted(tmp_path, model, data, 12, [6, 7, 9])


def test_a_schedule_of_another_kind_is_refused():
    runner = make_runner(mae())
    runner.param_schedulers = [dict(type='CosineAnnealingLR', by_epoch=False)]
    with pytest.raises(ValueError, match=r'needs one schedule.*CosineAnnealingLR'):
        runner.train()


def test_a_wrong_number_of_blocks_is_refused():
    with pytest.raises(ValueError, match='num_blocks=4'):
        make_runner(mae(), schedule=dict(num_blocks=3)).train()


def test_reentrant_checkpointing_is_refused():
    with pytest.raises(ValueError, match='reentrant'):
        make_runner(mae(), activation_checkpointing=['backbone.layers.1']).train()


def test_a_wrapper_that_cannot_be_rebuilt_is_refused():
    runner = make_runner(mae())

    class Sharded(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    from mmengine.registry import MODEL_WRAPPERS
    MODEL_WRAPPERS.register_module(module=Sharded, force=True)
    try:
        from mm_graft.engine.freezing.freezeout_hook import check_supported
        runner.model = Sharded(runner.model)
        with pytest.raises(ValueError, match=r'Sharded.*FSDP'):
            check_supported(runner)
    finally:
        MODEL_WRAPPERS._module_dict.pop('Sharded')
