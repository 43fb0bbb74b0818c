"""Errors of building from a config, in its own terms: which key, which class, what was meant."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from inspect import Parameter, signature
from types import UnionType
from typing import Union, get_args, get_origin

from mmengine import registry as host
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import DataLoader

from mm_graft.commands.overrides import RUNNER_KEYS
from mm_graft.nested import nodes, value_at
from mm_graft.registry import all_registries, registered
from mm_graft.spelling import did_you_mean

UNEXPECTED = re.compile(r"(?:(\w+)\.)?\w+\(\) got an unexpected keyword argument '(\w+)'")
NO_OPTIONS = re.compile(r'^(\w+)\(\) takes no arguments')
UNKNOWN = re.compile(r'^(\S+) is not in the \S+::(.+?) registry')
LATE = {r'optim_wrapper\.optimizer': host.OPTIMIZERS, r'param_scheduler(\.\d+)?': host.PARAM_SCHEDULERS,
        r'(custom|default)_hooks\.\w+': host.HOOKS}
TRAINING = 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper'  # what a training cannot do without
WANTED = {bool: 'True or False', int: 'a whole number', float: 'a number'}  # what no text is
NEAR = 0.8  # of 1: so alike are a name and its misspelling


@contextmanager
def explained(cfg: Config) -> Iterator[None]:
    """Give errors of the host about unknown classes and unknown options the key in the config, and the nearest name."""
    try:
        yield
    except (TypeError, KeyError) as error:
        text = str(error.args[0]) if error.args else ''
        if found := UNEXPECTED.search(text):
            message = unknown_option(cfg, *found.groups())
        elif found := NO_OPTIONS.search(text):
            message = unknown_option(cfg, found[1])
        elif found := UNKNOWN.search(text):
            message = unknown_type(cfg, *found.groups())
        else:
            message = None
        if message is None:
            raise
        raise ValueError(message) from error


def check_needed(cfg: Config, keys: Sequence[str]) -> None:
    """Check that a config has the settings that a command cannot do without."""
    for key in keys:
        if not isinstance(value_at(cfg, key), dict):
            raise ValueError(f'{key} is {value_at(cfg, key)!r}, and this command needs a dict of settings there; look '
                             'at the config and --cfg-options')


def check_types(cfg: Config) -> None:
    """Check that the classes exist that a run builds only after model and data: optimizer, schedules, hooks."""
    for place, part in _parts(cfg):
        found = next((found for start, found in LATE.items() if re.fullmatch(start, place)), None)
        if found is None or not isinstance(part.get('type'), str):
            continue
        with found.switch_scope_and_registry(part.get('_scope_') or cfg.get('default_scope', 'mmpretrain')) as registry:
            if registry.get(part['type']) is None:
                raise ValueError(unknown_type(cfg, part['type'], found.name))


def check_options(cfg: Config) -> None:
    """Check that no class was given a text for a number or a switch, or a misspelling that it would swallow."""
    for place, part in _parts(cfg):
        classes = registered(part.get('type'))
        for option, value in part.items():
            if classes and all(misspelled(option, kind) for kind in classes):
                raise ValueError(_no_option(place, option, classes))
            wanted = {wanted_by(options_of(kind)[0].get(option)) for kind in classes} if isinstance(value, str) else ()
            if len(wanted) == 1 and None not in wanted:
                raise ValueError(f'{place}.{option}={value!r} must be {wanted.pop()}')


def wanted_by(annotation: object) -> str | None:
    """What an option takes by its annotation, if that is a number or a switch; None also for all that is not clear."""
    kinds = set(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else {annotation}
    plain = [kind for kind in WANTED if kind in kinds]
    return WANTED[plain[0]] if plain and kinds <= {*WANTED, type(None), Tensor} else None


def misspelled(option: str, kind: type) -> bool:
    """Whether a class swallows an option that it does not know and that is nearly one that it knows."""
    known, swallows = options_of(kind)
    return swallows and option not in known and bool(get_close_matches(option, known, 1, NEAR))


@cache
def options_of(kind: type) -> tuple[dict[str, object], bool]:
    """Options of a class or function and of the classes to which it passes the rest, with their annotations.

    And whether the last takes any.
    """
    known = dict.fromkeys(('type', '_scope_'))
    functions = [kind]
    if isinstance(kind, type):
        functions = [ancestor.__init__ for ancestor in kind.__mro__[:-1] if '__init__' in vars(ancestor)]
    swallows = False
    for function in functions:
        parameters = signature(function).parameters.values()
        swallows = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)
        known = {parameter.name: parameter.annotation for parameter in parameters if parameter.name != 'self'
                 and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)} | known
        if not swallows:
            break
    return known, swallows


def unknown_option(cfg: Config, kind: str | None, option: str | None = None) -> str | None:
    """What to say of an ``option`` (None: of any) that the class ``kind``, or an ancestor of it, refused; or None."""
    given = [(place, part) for place, part in _parts(cfg) if (option in part if option else len(part) > 1)]
    meant = [(place, part) for place, part in given
             if any(kind in (ancestor.__name__ for ancestor in found.__mro__)
                    for found in registered(part.get('type')) if isinstance(found, type))]
    others = [(place, part) for place, part in given
              if option and not any(option in options_of(found)[0] for found in registered(part.get('type')))]
    for place, part in meant or others:
        refused = option or next(key for key in part if key not in ('type', '_scope_'))
        default = DataLoader if place.endswith('_dataloader') else kind or place.rsplit('.', 1)[-1]
        return _no_option(place, refused, registered(part.get('type')) or [default])
    return None


def unknown_type(cfg: Config, name: str, what: str) -> str:
    """What to say of a class that no package has registered."""
    place = next((f'{place}.type: ' for place, part in _parts(cfg) if part.get('type') == name), '')
    plain = 'mmengine', cfg.get('default_scope', 'mmpretrain')  # scopes in which a name needs no prefix
    names = {known if scope in plain else f'{scope}.{known}': known
             for registry in all_registries() if registry.name == what
             for scope, known in ((registry.scope, known) for known in registry.module_dict)}
    near = get_close_matches(name.split('.')[-1], sorted(names.values()), 3)
    meant = [full for full, known in names.items() if known in near]
    return f'{place}there is no {what} `{name}`' + (f'; did you mean {" or ".join(meant)}?' if meant else '')


def _no_option(place: str, option: str, classes: list) -> str:
    names = ' or '.join(dict.fromkeys(getattr(kind, '__name__', str(kind)) for kind in classes))
    known = {option for kind in classes if callable(kind) for option in options_of(kind)[0]}
    known = sorted(known - {'type', '_scope_'})
    return f'{place}.{option}: {names} has no option `{option}`' + (
        did_you_mean([option], known) or (f'; it has {", ".join(known)}' if known else ''))


def _parts(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Dicts of what a Runner reads, by dotted key."""
    return ((place, part) for place, part in nodes(cfg)
            if place.split('.')[0] in RUNNER_KEYS and isinstance(part, dict))
