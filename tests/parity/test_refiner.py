"""MIM-Refiner against its authors' numbers: loss, queue and heads."""

import pytest
import torch
from mmpretrain.registry import MODELS

from mm_graft.models.losses.nearest_neighbor_alignment import (
    PAIRS,
    mean_over_pairs,
    pair_losses,
    published_pairs,
)
from mm_graft.models.support_queue import SupportQueue
from tests.parity.refiner_data import REL, assert_head, assert_near, below, fill_head, head_config, play, read


@pytest.fixture(scope='module')
def nna(golden):
    return read(golden, 'refiner_nna.npz')


@pytest.mark.parametrize('case', ['global', 'multicrop'])
def test_pairs_totals_and_gradients_of_the_loss(nna, case):
    data = below(nna, f'loss.{case}.')
    views = [data[name].transpose(0, 1) for name in ('preswap', 'postswap', 'predicted')]  # (B, V, D) → (V, B, D)
    views[2].requires_grad_()
    losses = pair_losses(*views, float(nna['cfg_temperature']))
    assert_near(losses, data['pair_loss'])
    num_global, num_local = int(nna['cfg_global_views']), len(views[2]) - int(nna['cfg_global_views'])
    assert_near(mean_over_pairs(losses, PAIRS['published'](num_global, 0)), data['global_loss'])
    for pairs, end in (('published', ''), ('described', '_as_described')):
        total = mean_over_pairs(losses, PAIRS[pairs](num_global, num_local))
        gradient, = torch.autograd.grad(total, views[2], retain_graph=True)
        assert_near(total, data[f'total{end}'])
        assert_near(gradient.transpose(0, 1), data[f'grad_predicted{end}'])


def test_published_pairs_are_those_of_the_code(nna):
    num_global = int(nna['cfg_global_views'])
    found = published_pairs(num_global, int(nna['cfg_local_views']))
    assert sorted(found) == sorted(map(tuple, nna['loss.multicrop.published_pairs'].tolist()))


@pytest.mark.parametrize('queue', ['a', 'b'])
def test_queue(nna, queue):
    size = int(nna['cfg_queue_sizes']['ab'.index(queue)])
    for k in nna['cfg_topk'].tolist():
        check_queue(nna, below(nna, f'queue.{queue}.top{k}.'), nna[f'queue.{queue}.initial'],
                    SupportQueue(size, int(nna['cfg_dim']), k).double())


def check_queue(nna, data, initial, ours):
    ours.features.copy_(initial)
    play(ours, data['choice'])
    batch = int(nna['cfg_batch'])
    for step, (x, ids) in enumerate(zip(nna['queue.x'], nna['queue.ids'])):
        ages = ours.ages.clone()
        found = ours.find(x, ids)
        assert torch.equal(found.candidates, data['candidates'][step])
        assert torch.equal(found.positions, data['chosen'][step])
        assert torch.equal(found.features, data['neighbours'][step])
        assert_near(torch.cosine_similarity(x, found.features).mean(), data['nn_similarity'][step])
        assert ages[found.positions].double().mean() == pytest.approx(float(data['nn_age'][step]), rel=1e-6)
        ours.push(x[:batch], ids)
        assert torch.equal(ours.features, data['x'][step])
        assert torch.equal(ours.ids, data['idx'][step])
        assert torch.equal(ours.ages, data['age'][step])
        assert ours.pushed % len(ours.features) == data['ptr'][step]
    ours.eval()
    play(ours, data['choice'])
    before = {name: buffer.clone() for name, buffer in ours.named_buffers()}
    assert torch.equal(ours.find(nna['queue.x'][0], nna['queue.ids'][0]).candidates, data['eval_candidates'])
    ours.push(nna['queue.x'][0][:batch], nna['queue.ids'][0])
    assert all(torch.equal(buffer, before[name]) for name, buffer in ours.named_buffers())


def test_whole_heads(nna):
    sizes = nna['cfg_queue_sizes'].tolist()
    total = [0.] * int(nna['cfg_steps'])
    gradients = []
    for index in range(int(nna['cfg_heads'])):
        data = below(nna, f'head.h{index}.')
        config = head_config(nna, sizes[index % len(sizes)], int(nna['cfg_head_topk']))
        head = MODELS.build(dict(in_channels=int(nna['cfg_features']), **config)).double().train()
        fill_head(head, below(data, 'state.'))
        play(head.queue, data['choice'])
        gradients.append([])
        for step in range(int(nna['cfg_steps'])):
            features = nna['head.features'][step, index].clone().requires_grad_()
            head.zero_grad()
            ids = nna['head.ids'][step]
            assert torch.equal(*(candidates(head, features, ids, nna, data, step)))
            loss = head.loss(features, ids, int(nna['cfg_global_views']))['loss']
            loss.backward()
            assert_near(loss, data['total'][step])
            total[step] += loss.item()
            gradients[-1].append(features.grad)
            norms = {name: parameter.grad.norm() for name, parameter in head.named_parameters()
                     if parameter.grad is not None}
            scale = data['grad_norms'][step].max()
            for name, norm in zip(data['param_names'], data['grad_norms'][step]):
                assert abs(norms.get(name, 0.) - norm) <= REL * scale, name
            assert head.queue.pushed % len(head.queue.features) == data['queue_ptr'][step]
        assert_head(head, below(data, 'after.'), REL)
    assert_near(torch.tensor(total, dtype=torch.float64), nna['head.total'])
    assert_near(torch.stack([torch.stack(steps) for steps in gradients], 1), nna['head.grad_features'])


def candidates(head, features, ids, nna, data, step):
    """Candidates of the coming look-up, ours and theirs; statistics and queue stay as they are."""
    before = {name: value.clone() for name, value in head.state_dict().items()}
    with torch.no_grad():
        x = head.projector(features)[:int(nna['cfg_global_views']) * len(ids)]
    assert_near(x, data['projected_preswap'][step])
    draw, head.queue.draw = head.queue.draw, lambda ids, views: data['choice'][step]
    found = head.queue.find(x, ids)
    assert_near(found.features, data['projected_postswap'][step])  # the queue holds what this processor has projected
    head.queue.draw = draw
    head.load_state_dict(before)
    return found.candidates, data['candidates'][step]
