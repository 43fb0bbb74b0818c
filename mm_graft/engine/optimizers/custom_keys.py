"""``custom_keys``: settings of the parameters whose names contain a key, as in MMEngine but checked.

A key with ``optional=True`` may fit nothing, for parameters that only some settings of a model have; a key that is None
is left out, which is how a config takes back one of its base's.
"""

import inspect
import logging
import re
from collections.abc import Iterable, Mapping

from mmengine.logging import print_log
from mmengine.registry import OPTIMIZERS

from mm_graft.spelling import did_you_mean

MULTIPLIERS = ('lr_mult', 'decay_mult')
OPTIONAL = 'optional'
# parameters that the hosts' models have with some settings; the hosts' configs name them in either case
OF_SOME_SETTINGS = {'absolute_pos_embed', 'pos_embed', 'cls_token', 'mask_token', 'gamma', 'q_bias', 'v_bias',
                    'relative_position_bias_table', 'rel_pos_h', 'rel_pos_w'}
OF_SCHEDULES = ('global_rate', )  # see mm_graft.FreezeOutLR


def fitting_keys(name: str, keys: Iterable[str]) -> list[str]:
    """Those of ``keys`` that ``name`` contains, the longest last; ``layers.10`` does not contain ``layers.1``.

    It does stand in ``layers.5.ffn.layers.1.weight``, mmpretrain's name of an MLP's second layer: for a block write
    ``backbone.layers.1``.
    """
    fitting = [key for key in keys if re.search(re.escape(key) + (r'(?!\d)' if key[-1:].isdigit() else ''), name)]
    return sorted(sorted(fitting, reverse=True), key=len)


def custom_settings(name: str, custom_keys: dict[str, dict]) -> dict:
    """What the keys that fit a parameter set; each setting comes from the longest key that gives it.

    So ``{'backbone': dict(lr_mult=0.1), 'backbone.cls_token': dict(decay_mult=0)}`` gives the class token both, where
    MMEngine takes all from the longest key and leaves its rate alone.
    """
    settings = {}
    for key in fitting_keys(name, custom_keys):
        settings |= custom_keys[key]
    settings.pop(OPTIONAL, None)
    return settings


def options_of(kind: str | type) -> Mapping[str, inspect.Parameter]:
    """Options of an optimizer, with their defaults."""
    return inspect.signature(OPTIMIZERS.get(kind) if isinstance(kind, str) else kind).parameters


def default_of(kind: str | type, name: str) -> float | None:
    """The default of an optimizer's option, None if it is 0 or there is none."""
    option = options_of(kind).get(name)
    return option.default or None if option and isinstance(option.default, int | float) else None


def check_settings(custom_keys: dict[str, dict], optimizer: dict) -> None:
    """Refuse settings that neither the constructor nor the optimizer of this config knows."""
    accepted = list(options_of(optimizer['type']))[1:]
    known = [*MULTIPLIERS, OPTIONAL, *OF_SCHEDULES, *(name for name in accepted if name not in ('lr', 'weight_decay'))]
    for key, settings in custom_keys.items():
        if not isinstance(settings, dict):
            raise ValueError(f'custom_keys[{key!r}] = {settings!r} must be a dict of settings, such as lr_mult')
        if unknown := [name for name in settings if name not in known]:
            raise ValueError(f'custom_keys[{key!r}] has unknown settings {unknown}; known are {known}'
                             f'{did_you_mean(unknown, known)}')
        for name in MULTIPLIERS:
            if settings.get(name, 1) < 0:
                raise ValueError(f'custom_keys[{key!r}]: {name}={settings[name]} must be ≥ 0')


def check_keys(custom_keys: dict[str, dict], trained: dict[str, bool]) -> None:
    """Refuse keys that fit no parameter and are not optional; of those that fit none that trains, warn.

    Of parameters that the hosts' models have with some settings alone, as their configs name them, warn too.
    ``trained`` says of every parameter of a model whether it trains.
    """
    fitted = {key: [name for name in trained if fitting_keys(name, [key])]
              for key, settings in custom_keys.items() if not settings.get(OPTIONAL)}
    absent = [key for key, names in fitted.items() if not names and key.strip('.') in OF_SOME_SETTINGS]
    if lost := [key for key, names in fitted.items() if not names and key not in absent]:
        parts = [name.split('.') for name in trained]
        known = dict.fromkeys([*('.'.join(part[:end]) for part in parts for end in range(1, len(part) + 1)),
                               *(word for part in parts for word in part)])
        raise ValueError(f'custom_keys {lost} stand in no name of a parameter of this model; correct them, set them to '
                         f'None to take them out, or mark them with optional=True{did_you_mean(lost, known)}')
    idle = [key for key, names in fitted.items() if names and not any(trained[name] for name in names)]
    for keys, why in ((absent, 'this model has no such parameter'), (idle, 'all parameters that they fit are frozen')):
        if keys:
            print_log(f'custom_keys {keys} change nothing: {why}', logger='current', level=logging.WARNING)
