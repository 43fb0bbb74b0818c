"""What the parity tests of MIM-Refiner share: reading its files, and the authors' names of a head."""

import numpy as np
import torch

REL, AFTER = 1e-9, 1e-6


def read(golden, name):
    with np.load(golden / name, allow_pickle=False) as archive:
        return {key: torch.from_numpy(archive[key]) if archive[key].dtype.kind != 'U' else archive[key]
                for key in archive.files}


def below(data, prefix):
    """What stands under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in data.items() if key.startswith(prefix)}


def assert_near(ours, theirs, tolerance=REL):
    """Largest difference over largest value."""
    ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * max(theirs.abs().max(), 1e-30)


def play(queue, choice):
    """Let a queue draw what was recorded, one row of ``choice`` a look-up."""
    remaining = iter(choice)
    queue.draw = lambda ids, views: next(remaining)


def head_config(data, queue, topk, pairs='published'):
    return dict(
        type='mm_graft.NNAHead', hid_channels=int(data['cfg_proj_hidden']), out_channels=int(data['cfg_dim']),
        predictor_channels=int(data['cfg_pred_hidden']), norm_cfg=dict(type='BN1d'),
        queue=dict(type='mm_graft.SupportQueue', length=queue, num_neighbors=topk),
        loss=dict(type='mm_graft.NNALoss', temperature=float(data['cfg_temperature']), pairs=pairs))


QUEUE = {'x': 'features', 'idx': 'ids', 'cls': None, 'age': 'ages', 'ptr': 'pushed'}


def fill_head(head, state):
    """Load what the authors call a head."""
    own = head.state_dict()
    for name, value in state.items():
        part, _, key = name.rpartition('.')
        if part != 'queue':
            own[name].copy_(value)
        elif QUEUE[key]:
            own[f'queue.{QUEUE[key]}'].copy_(value.squeeze())


def assert_head(head, state, tolerance):
    """Compare with what the authors call a head after some steps."""
    own = head.state_dict()
    for name, value in state.items():
        part, _, key = name.rpartition('.')
        if part != 'queue' and key != 'num_batches_tracked':
            assert_near(own[name], value, tolerance)
        elif key in ('idx', 'age'):
            assert torch.equal(own[f'queue.{QUEUE[key]}'], value)
        elif key == 'x':
            assert_near(own['queue.features'], value, tolerance)
        elif key == 'ptr':
            assert own['queue.pushed'] % len(own['queue.features']) == value
