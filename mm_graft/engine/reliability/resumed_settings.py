"""Resuming with changed settings: what the config asks for now against what the checkpoint was made with.

The host silently lets the checkpoint win. Here the loaded checkpoint is rewritten into the one that a run with the new
settings would have saved at this point, and the log names the changes. What cannot be continued is an error with both
values and the remedy. Without changes nothing is touched, and the run continues bit for bit.
"""

import re
from inspect import signature
from pathlib import Path

from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mm_graft.checkpoints.recorded_config import Change, changes, parse_config
from mm_graft.depth import unwrap
from mm_graft.engine.reliability.gradient_carry import GRADIENTS
from mm_graft.engine.reliability.optimizer_carry import NAMES, Built, Saved, carry_over, parameter_names
from mm_graft.engine.reliability.rng_state_hook import PLACE
from mm_graft.engine.reliability.schedule_replay import Place
from mm_graft.host.run_requests import asked_seed
from mm_graft.spelling import some_of

OF_NO_WEIGHT = {'self', 'cfg', 'work_dir', 'resume', 'load_from', 'launcher', 'env_cfg', 'log_level', 'log_processor',
                'visualizer', 'experiment_name', 'default_scope', 'test_dataloader', 'test_evaluator', 'test_cfg'}
COMPARED = {*signature(Runner.__init__).parameters, 'runner_type', 'model_wrapper_cfg', 'sync_bn', 'strategy',
            'activation_checkpointing', 'efficient_conv_bn_eval', 'compile'} - OF_NO_WEIGHT
ANOTHER_RUN = re.compile(r'model(\.backbone)?\.type|optim_wrapper\.(\w+\.)?optimizer\.type|train_cfg\.type')
TRAINING = re.compile(r'(model|optim_wrapper|param_scheduler|randomness|data_preprocessor)\b|'
                      r'train_dataloader\.(batch_size|dataset)\b')
ORDER = re.compile(r'train_dataloader\.(batch_)?sampler\b')
STARTING = re.compile(r'^default_hooks\.init\b|\.(init_cfg|pretrained)\b')
STEP = re.compile(r'\.accumulative_counts$|^iterations of an epoch$')
SCORING = re.compile(r'val_evaluator\b|val_dataloader\.dataset\b|default_hooks\.checkpoint\.(save_best|rule)\b')
WAY_OUT = 'resume with the old value, or start a new run in another --work-dir (load_from takes the weights)'
OF_THIS_START = ('cfg', 'seed', 'experiment_name', 'mmengine_version')  # what the hub knows before it is resumed


def adopt(runner: Runner, checkpoint: dict, path: str, folder: str) -> None:
    """Rewrite a loaded checkpoint for the settings of the resuming run, and log the changes.

    Optimizer and schedules of the runner are newly built; ``folder`` has the run's own checkpoints.
    """
    check_kind(checkpoint, path)
    found = config_changes(runner, checkpoint)
    refuse_other_runs(found, path)
    restore_trained_weights(runner, checkpoint)
    check_fit(unwrap(runner.model), checkpoint['state_dict'], path)
    found += settle_place(runner, checkpoint, path, [change for change in found if ORDER.match(change.key)])
    settle_gradients(runner, checkpoint, found)
    check_end(runner, checkpoint, found, path)
    settle_hub(runner, checkpoint, found, folder if Path(path).resolve().parent == Path(folder).resolve() else None)
    found += settle_optimizers(runner, checkpoint, found)
    for text, change in {str(change): change for change in found}.items():
        runner.logger.warning(f'changed {text}; it has no effect, as a resumed run has the weights of its checkpoint'
                              if STARTING.search(change.key) else f'resumed with changed {text}')


def check_kind(checkpoint: dict, path: str) -> None:
    """Check that a file holds the state of a training."""
    missing = [name for name in ('meta', 'state_dict', 'optimizer', 'message_hub') if name not in checkpoint]
    if missing or not isinstance(checkpoint['meta'].get('iter'), int):
        raise ValueError(f'{path} holds no state of a training ({", ".join(missing) or "meta.iter"} is missing); to '
                         'start a new run from its weights give load_from instead of --resume')


def config_changes(runner: Runner, checkpoint: dict) -> list[Change]:
    """Settings of the run in the checkpoint that are others now."""
    old, new = parse_config(checkpoint['meta'].get('cfg')), parse_config(runner.cfg.pretty_text)
    if not old or not new:
        runner.logger.warning('the checkpoint does not say with which settings its run was started; only names, shapes '
                              'and the settings of optimizer and schedules are compared')
        return []
    for cfg in (old, new):
        if isinstance(loop := cfg.get('train_cfg'), dict) and 'by_epoch' in loop:
            loop['type'] = 'EpochBasedTrainLoop' if loop.pop('by_epoch') else 'IterBasedTrainLoop'
    return changes({key: value for key, value in old.items() if key in COMPARED and value is not None},
                   {key: value for key, value in new.items() if key in COMPARED and value is not None})


def refuse_other_runs(found: list[Change], path: str) -> None:
    """Refuse another method, optimizer or kind of loop."""
    for change in sorted(found, key=lambda change: len(change.key)):
        kinds = [str(value).rpartition('.')[2] for value in change[1:]]
        if ANOTHER_RUN.fullmatch(change.key) and kinds[0] != kinds[1]:
            raise ValueError(f'{path} cannot continue with a changed {change}; {WAY_OUT}')


def restore_trained_weights(runner: Runner, checkpoint: dict) -> None:
    """Use the trained weights, not the averages that the host's ``EMAHook`` saves as the model's, if it is gone."""
    if 'ema_state_dict' not in checkpoint or any(isinstance(hook, EMAHook) for hook in runner.hooks):
        return
    for name, value in checkpoint.pop('ema_state_dict').items():
        if name.startswith('module.'):
            checkpoint['state_dict'][name.removeprefix('module.')] = value
    runner.logger.warning('the config has no EMAHook any more: continuing from the trained weights, not their average')


def check_fit(model: object, state: dict, path: str) -> None:
    """Check that a model has the parameters and buffers of a state dict and no others."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items() if hasattr(value, 'shape')}
    saved = {name.removeprefix('module.'): tuple(value.shape) for name, value in state.items()
             if hasattr(value, 'shape')}
    wrong = [f'{name} is not in it' for name in own if name not in saved]
    wrong += [f'{name} is not in the model' for name in saved if name not in own]
    wrong += [f'{name} has the shape {saved[name]}, here {shape}' for name, shape in own.items()
              if saved.get(name, shape) != shape]
    if wrong:
        raise ValueError(f'{path} is of another model: {some_of(wrong, 3, "; ")}; resume with the config that it '
                         'was made with, or start a new run (load_from takes the weights that fit)')


def settle_place(runner: Runner, checkpoint: dict, path: str, order: list[Change]) -> list[Change]:
    """Convert finished iterations to the new length of an epoch, and use the seeds of the new command.

    ``order`` are the changed settings of the order of images.
    """
    meta, info = checkpoint['meta'], checkpoint['message_hub']['runtime_info']
    found = []
    seed, asked = meta.get('seed'), asked_seed(runner)
    if asked is not None and seed is not None and seed != asked:
        found.append(Change('randomness.seed', seed, asked))
    place = saved_place(runner, checkpoint)
    if place.epoch_length:
        length = len(runner.train_dataloader)
        if length != place.epoch_length:
            found.append(Change('iterations of an epoch', place.epoch_length, length))
    if (found or order) and (place.within_epoch or not place.epoch_length):
        within, instead = (('the middle of an epoch', 'resume from the end of an epoch') if place.epoch_length else
                           ('a run of iterations', 'start a new run (load_from takes the weights)'))
        raise ValueError(f'{path} is from {within} and cannot continue with a changed {(*found, *order)[0]}, which '
                         f'would repeat images and skip others; keep it, or {instead}')
    if PLACE in info and any(change.key.endswith('.seed') for change in (*found, *order)):
        info[PLACE]['sampler_seed'] = None  # not to be taken over
    for change in found:
        if change.key == 'randomness.seed':
            meta['seed'] = asked
        else:
            meta['iter'] = info['iter'] = place.epochs * change.new
            info['max_iters'] = info['max_epochs'] * change.new
    return found


def settle_gradients(runner: Runner, checkpoint: dict, found: list[Change]) -> None:
    """Drop accumulated gradients if the number of iterations in a step has changed."""
    change = next((change for change in found if STEP.search(change.key)), None)
    if change and checkpoint.pop(GRADIENTS, None):
        runner.logger.warning('gradients accumulated for the interrupted step are dropped, since a step now has other '
                              f'iterations: {change}')


def saved_place(runner: Runner, checkpoint: dict) -> Place:
    """How far the run in a checkpoint is, in its own iterations."""
    meta, info = checkpoint['meta'], checkpoint['message_hub']['runtime_info']
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop) and info.get('max_epochs')
    if not by_epoch:
        return Place(0, meta['iter'], 0)
    return Place(meta['epoch'], meta['iter'], info['max_iters'] // info['max_epochs'])


def check_end(runner: Runner, checkpoint: dict, found: list[Change], path: str) -> None:
    """Check that the checkpoint is not beyond the end of the run, nor at its end with changed training settings."""
    place, total = saved_place(runner, checkpoint), runner.max_iters
    if place.epoch_length and not place.within_epoch:
        done, total, unit, key = place.epochs, runner.max_epochs, 'epochs', 'train_cfg.max_epochs'
    else:
        done, unit, key = checkpoint['meta']['iter'], 'iterations', 'the length of the run'
    if done > total:
        raise ValueError(f'{path} has finished {done} {unit}, but {key} is now {total}; train at least as '
                         'long, or resume from an earlier checkpoint')
    trained = [change for change in found if TRAINING.match(change.key)]
    if done == total and trained:
        raise ValueError(f'{path} is the end of a finished run of {total} {unit}, so nothing would be trained with '
                         f'the changed {trained[0]}; let the run be longer, or start a new one in another --work-dir')


def settle_hub(runner: Runner, checkpoint: dict, found: list[Change], folder: str | None) -> None:
    """Keep in the message hub only what still holds.

    The host removes the best file by its path when there is a better one. Where a folder was copied, or the run goes on
    in another one (``folder`` is None), that is a file of another run.
    """
    info, now = checkpoint['message_hub']['runtime_info'], runner.message_hub.runtime_info
    info.update({key: now[key] for key in OF_THIS_START if key in now})
    for key in [key for key in info if key.startswith('best_ckpt') or key == 'last_ckpt']:
        here = folder and Path(folder, Path(str(info[key])).name)
        if here and here.exists():
            info[key] = str(here)
        else:
            del info[key]
    if folder is None:
        info.pop('keep_ckpt_ids', None)  # names of files that it will write
    other_score = [change for change in found if SCORING.match(change.key)]
    best = [key for key in info if key.startswith(('best_score', 'best_ckpt'))]
    if best and other_score:
        for key in best:
            del info[key]
        runner.logger.warning(f'best score reset: changed {other_score[0]}')


def settle_optimizers(runner: Runner, checkpoint: dict, found: list[Change]) -> list[Change]:
    """Give the newly built optimizers and schedules the saved state and position."""
    wrappers = wrappers_of(runner)
    several = '' not in wrappers
    optimizers = checkpoint['optimizer'] if several else {'': checkpoint['optimizer']}
    if wrappers.keys() != optimizers.keys():
        raise ValueError(f'the checkpoint has the optimizers {list(optimizers)}, now they are {list(wrappers)}; '
                         f'{WAY_OUT}')
    schedules, states = ({'': part} if isinstance(part, list) else part or {}
                     for part in (runner.param_schedulers, checkpoint.get('param_schedulers')))
    place = saved_place(runner, checkpoint)
    place = place._replace(epoch_length=len(runner.train_dataloader) if place.epoch_length else 0)
    other_scale = any('.loss_scale' in change.key for change in found)
    names, changed = checkpoint['meta'].get(NAMES, {}), []
    for name, wrapper in wrappers.items():
        built = Built(wrapper, schedules.get(name, []), parameter_names(wrapper, unwrap(runner.model)))
        saved = Saved(optimizers[name], states.get(name, []), names.get(name))
        (optimizers[name], states[name], _), more = carry_over(built, saved, place, other_scale)
        changed += more
    checkpoint['optimizer'] = optimizers if several else optimizers['']
    if runner.param_schedulers is not None:
        checkpoint['param_schedulers'] = states if several else states['']
    return changed


def record_names(runner: Runner, checkpoint: dict) -> None:
    """Write the names of each optimizer's parameters into a checkpoint: the host's groups do not have them."""
    checkpoint['meta'][NAMES] = {name: parameter_names(wrapper, unwrap(runner.model))
                                 for name, wrapper in wrappers_of(runner).items()}


def wrappers_of(runner: Runner) -> dict[str, OptimWrapper]:
    """The optimizer wrappers of a run, by name; the empty one for a single wrapper."""
    wrapper = runner.optim_wrapper
    return dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else {'': wrapper}
