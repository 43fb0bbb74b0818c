"""Tiny runs of tools/train.py that are interrupted in every way, forked from one process that has imported everything.

``python resume_runs.py FOLDER PLAN.json`` makes the attempts of each run in the plan and prints what became of them.
"""

import json
import os
import random
import runpy
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

ROOT = Path(__file__).parents[1]
PER_EPOCH = 5
CONFIG = """
_base_ = ['{root}/configs/_base_/runtime.py']
model = {model}
view = [
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.3, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
    dict(type='RandomFlip', prob=0.5),
]
train_dataloader = dict(
    batch_size=4, num_workers=2, persistent_workers=True, drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset', data_root='{folder}/images', with_label=False,
        pipeline=[dict(type='LoadImageFromFile'), {crops}, dict(type='PackInputs')]))
optim_wrapper = dict(
    constructor='mm_graft.GraftOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=[0.1, 1.0]))
param_scheduler = dict(type='mm_graft.WarmupCosineLR', warmup=1, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs={epochs})
visualizer = dict(vis_backends=[])
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook'), dict(type='Interruption')]
"""


def write_config(folder: Path, epochs: int, name: str = 'graft') -> Path:
    """Twenty images, a checkpoint to start from and to stay near to, and the config."""
    from interrupted_methods import method
    from tiny import mae_file
    for index in range(4 * PER_EPOCH):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        place = folder / 'images' / 'ab'[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f'{index}.png'), pixels)
    mae_file(folder / 'mae.pth')
    model, crops, more = method(name)
    path = folder / 'config.py'
    path.write_text(CONFIG.format(root=ROOT, folder=folder, model=model, crops=crops, epochs=epochs)
                    + more.format(folder=folder))
    return path


@HOOKS.register_module()
class Interruption(Hook):
    """Notes how far a run came, and signals its process group at an iteration."""

    how: dict = {}  # noqa: RUF012 (one per forked process)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.rank == 0:
            Path(runner.work_dir, 'reached').write_text(str(runner.iter))
        if self.how.get('iteration') == runner.iter and runner.rank in self.how.get('ranks', range(runner.world_size)):
            os.killpg(os.getpgid(0), signal.Signals[self.how['signal']])


def train(config: Path, work_dir: Path, how: dict, rank: int, port: int) -> int:
    """What a forked process does; returns its status."""
    os.setpgid(0, 0)
    log = os.open(work_dir.with_suffix('.log'), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    Interruption.how = how
    if how.get('writing'):  # the temporary file is complete, but not flushed and not renamed
        os.fsync = lambda file: '.pth.' in os.readlink(f'/proc/self/fd/{file}') and os.kill(os.getpid(), signal.SIGKILL)
    sys.argv = ['train.py', str(config), '--work-dir', str(work_dir), '--resume', *how.get('flags', [])]
    if (processes := how.get('processes', 1)) > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=str(port))
        sys.argv += ['--launcher', 'pytorch', '--cfg-options', f'train_dataloader.batch_size={4 // processes}',
                     'default_hooks.preemption.interval=3']
    try:
        runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def attempt(config: Path, work_dir: Path, how: dict) -> dict:
    """Start the run or go on with it, and interrupt it: ``how`` has the iteration, seconds, or that it is writing."""
    from mm_graft.checkpoints.intact import newest_intact, training_meta
    processes, port = [], free_port()
    for rank in range(how.get('processes', 1)):
        processes.append(os.fork())
        if not processes[-1]:
            os._exit(train(config, work_dir, how, rank, port))
    if 'seconds' in how:
        time.sleep(how['seconds'])
        try:
            os.killpg(processes[0], signal.Signals[how['signal']])
        except ProcessLookupError:
            how['late'] = True
    statuses = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # processes of its loader
    path, _ = newest_intact(work_dir) if work_dir.is_dir() else (None, None)
    reached = work_dir / 'reached'
    return {**how, 'status': statuses[0], 'statuses': statuses, 'saved': training_meta(path)['iter'] if path else 0,
            'reached': int(reached.read_text() or 0) if reached.is_file() else 0}


def soak(folder: Path, config: Path, kills: int, seed: int, epochs: int) -> list[dict]:
    """Kill runs at random moments or iterations until there were so many kills; each goes on until it is through."""
    start = time.time()
    attempt(config, folder / 'whole', {})
    rng, done, number, longest = random.Random(seed), [], 1, 0.8 * (time.time() - start)
    total, saved = epochs * PER_EPOCH, 0
    while True:
        moment = rng.choice([{'seconds': rng.uniform(0, longest)}, {'iteration': rng.randrange(saved, total)}])
        how = {'signal': rng.choice(['SIGKILL', 'SIGKILL', 'SIGTERM', 'SIGUSR1']), **moment}
        how = {'writing': True} if rng.random() < 0.2 else how
        result = attempt(config, folder / f'soak{number}', how if len(done) < kills else {}) | {'run': f'soak{number}'}
        if result['status'] not in (0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM, -signal.SIGUSR1):
            raise RuntimeError((folder / f'soak{number}.log').read_text()[-3000:])
        saved = min(result['saved'], total - 1)
        if result['saved'] < total or (result['status'] and len(done) < kills):
            done.append(result)
        elif len(done) < kills:
            number, saved = number + 1, 0
        else:
            return done


def main() -> None:
    folder, plan = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    import mmpretrain.datasets
    import mmpretrain.models  # noqa: F401 (so that forked processes have it)

    import mm_graft.registry  # noqa: F401
    config = write_config(folder, plan['epochs'], plan.get('method', 'graft'))
    result = {name: [attempt(config, folder / name, how) for how in hows] for name, hows in plan['runs'].items()}
    for number, (method, kills) in enumerate(plan.get('methods', {}).items()):
        folder.joinpath(method).mkdir()
        config = write_config(folder / method, plan['epochs'], method)
        result[method] = soak(folder / method, config, kills, plan['seed'] + number, plan['epochs'])
    if 'soak' in plan:
        result['soak'] = soak(folder, config, epochs=plan['epochs'], **plan['soak'])
    sys.stdout.write('\nRESULT ' + json.dumps(result) + '\n')


if __name__ == '__main__':
    main()
