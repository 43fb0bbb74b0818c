"""Guards of every training, whatever its config says: a locked folder, and hooks that check the run."""

import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import IterBasedTrainLoop, Runner

from mm_graft.commands.agreement import check_agreement
from mm_graft.commands.first_look import FirstLookHook
from mm_graft.commands.launchers import told
from mm_graft.engine.freezing.freezeout_hook import FreezeOutHook
from mm_graft.engine.hooks.online_knn_hook import OnlineKNNHook
from mm_graft.engine.reliability.bad_images_hook import BadImagesHook
from mm_graft.engine.reliability.due_validation_hook import DueValidationHook
from mm_graft.engine.reliability.non_finite_guard_hook import NonFiniteGuardHook
from mm_graft.engine.reliability.preemption_hook import PreemptionHook
from mm_graft.engine.reliability.rng_state_hook import RNGStateHook
from mm_graft.engine.reliability.run_folder import asked_run, hold_folder
from mm_graft.engine.reliability.safe_checkpoint_hook import SafeCheckpointHook, checkpoint_folder
from mm_graft.host.run_requests import asked_to_resume
from mm_graft.nested import leaves, nodes, value_at

ALONE = (CheckpointHook, EMAHook, RNGStateHook, PreemptionHook, NonFiniteGuardHook, BadImagesHook, FreezeOutHook)


def guard_config(cfg: Config) -> None:
    """Use safe checkpoints in place of the host's; refuse settings by which a step or a schedule does nothing."""
    kind, device = value_at(cfg, 'optim_wrapper.type'), get_device()
    if kind in ('AmpOptimWrapper', 'mmengine.AmpOptimWrapper') and device in ('cpu', 'mps'):
        raise ValueError(f'optim_wrapper.type={kind} scales gradients, which this {device} cannot do; --amp trains in '
                         'bfloat16 without that, or in float32 where the hardware lacks it')
    for place, value in leaves(cfg.get('optim_wrapper'), 'optim_wrapper'):
        if place.endswith(('clip_grad.max_norm', 'clip_grad.clip_value')) and value <= 0:
            raise ValueError(f'{place}={value} leaves nothing of any gradient; give a number > 0, or leave clip_grad '
                             'out')
    check_units(cfg)
    hooks = cfg.get('default_hooks') or {}
    if cfg.get('param_scheduler') and hooks.get('param_scheduler', ...) is None:
        raise ValueError('default_hooks.param_scheduler=None: nothing would move what param_scheduler sets; leave that '
                         'hook as it is, or make param_scheduler None')
    saver = hooks.get('checkpoint', {})
    if saver is not None and saver.get('type', 'CheckpointHook') in ('CheckpointHook', 'mmengine.CheckpointHook'):
        safe = {'interval': 1, **saver, 'type': 'mm_graft.SafeCheckpointHook'}
        cfg.default_hooks = {**hooks, 'checkpoint': safe}


def check_units(cfg: Config) -> None:
    """Check that a run of iterations has no schedule by epochs: it has one, so that the schedule would not move."""
    loop = cfg.get('train_cfg') or {}
    if not str(loop.get('type', '')).endswith('IterBasedTrainLoop') and loop.get('by_epoch', True):
        return
    for place, part in nodes(cfg.get('param_scheduler'), 'param_scheduler'):
        if isinstance(part, dict) and 'type' in part and part.get('by_epoch', True) and not (
                part.get('convert_to_iter_based') and 'end' in part):
            raise ValueError(f'{place} counts epochs, and this run counts iterations (train_cfg); give it '
                             'by_epoch=False, no convert_to_iter_based, and lengths in iterations')


def take_folder(cfg: Config) -> None:
    """Lock the run's folder from the main process before anything is written, and check that it is of this run.

    Raises:
        ValueError: another process uses it, or it has the checkpoints of another run.
        SystemExit: the same, in the other processes.
    """
    main = not int(told(cfg.get('launcher'), 'rank') or 0)
    answer = [_refusal(cfg) if main else None]
    broadcast_object_list(answer)
    if answer[0] is None:
        return
    if not main:
        sys.exit(1)
    raise answer[0]


def _refusal(cfg: Config) -> Exception | None:
    saver = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    folder = checkpoint_folder(cfg.work_dir, saver.get('out_dir'))
    try:
        for place in {str(Path(cfg.work_dir).resolve()), str(folder.resolve())}:
            hold_folder(place)
        asked_run(folder, bool(cfg.get('resume')), cfg.get('load_from'))
    except (ValueError, OSError) as error:
        return error
    return None


def guard_run(runner: Runner) -> None:
    """Add the hooks that every run needs, none twice; processes that the host joined must agree."""
    check_agreement(runner.cfg)
    check_hooks(runner)
    for kind in (FirstLookHook, DueValidationHook):
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())


def check_hooks(runner: Runner) -> None:
    """Check that hooks which keep a state of the run are there, and once, and that what counts epochs has some."""
    for kind in ALONE:
        found = [hook for hook in runner.hooks if isinstance(hook, kind)]
        if len(found) > len({getattr(hook, 'out_dir', None) for hook in found}):
            raise ValueError(f'the run has {len(found)} hooks of the kind {kind.__name__}, which would undo what the '
                             'other does; leave those in custom_hooks out, or those in default_hooks (as None)')
    if asked_to_resume(runner) and not any(isinstance(hook, SafeCheckpointHook) for hook in runner.hooks):
        raise ValueError('without mm_graft.SafeCheckpointHook a resumed run would silently keep the settings of its '
                         'checkpoint; make it the type of default_hooks.checkpoint, or start a new run by load_from')
    for hook in runner.hooks if isinstance(runner.train_loop, IterBasedTrainLoop) else ():
        if isinstance(hook, OnlineKNNHook) or (isinstance(hook, CheckpointHook) and hook.by_epoch):
            runner.logger.warning(f'{type(hook).__name__} counts epochs, and this run counts iterations, so that it '
                                  'acts at the end only' + ('; to save in between, give default_hooks.checkpoint '
                                  'by_epoch=False and its interval' if isinstance(hook, CheckpointHook) else ''))
