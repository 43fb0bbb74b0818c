"""Which keys of a config count once it has been read: those that a Runner reads. The others only served to write it."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from inspect import signature

from mmengine.config import Config
from mmengine.runner import Runner

# beside the Runner's arguments: what it looks up in its config, and what the FlexibleRunner takes
LOOKED_UP = ('runner_type', 'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'activation_checkpointing',
             'efficient_conv_bn_eval', 'compile', 'strategy', 'init_weights_for_test_or_val')
RUNNER_KEYS = frozenset({*signature(Runner.__init__).parameters, *LOOKED_UP}) - {'self', 'cfg'}
CALLED = {'base_lr': 'lr', 'warmup_epochs': 'warmup', 'warmup_iters': 'end'}  # where the value has another name


def check_keys(cfg: Config, keys: Iterable[str]) -> None:
    """See that values put under these dotted keys of a config that was read would change the run.

    Raises:
        ValueError: a key that there is not, or one that was only used while the config was read; names what counts.
    """
    for key in keys:
        top = key.split('.')[0]
        if top in RUNNER_KEYS:
            continue
        if top not in cfg:
            near = get_close_matches(top, RUNNER_KEYS, 1)
            raise ValueError(f'--cfg-options {key}: there is no `{top}` in a config'
                             + (f'; did you mean `{near[0]}`?' if near else ''))
        places = ', '.join(places_of(cfg, top)) or 'model, optim_wrapper, train_dataloader, train_cfg, …'
        raise ValueError(f'--cfg-options {key} would change nothing: `{top}` was only used while the config was read; '
                         f'set what was made of it: {places}')


def places_of(cfg: Config, variable: str) -> list[str]:
    """Keys that a Runner reads where a variable of the config went, by name or because they hold the same thing."""
    value, name = cfg[variable], CALLED.get(variable, variable)
    telling = bool(value) and isinstance(value, str | dict | list | tuple)
    nodes = (node for key in cfg if key in RUNNER_KEYS for node in _nodes(cfg[key], key))
    return [key for key, node in nodes if key.rsplit('.', 1)[-1] == name or (telling and node == value)]


def _nodes(node: object, path: str) -> Iterator[tuple[str, object]]:
    """A value and everything in it, as (dotted key, value)."""
    yield path, node
    if not isinstance(node, dict | list | tuple):
        return
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        yield from _nodes(child, f'{path}.{key}')
