"""The registries of mm_graft: direct children of MMEngine's roots.

Configs keep ``default_scope='mmpretrain'`` (or ``'mmseg'``) and write ``type='mm_graft.Name'``. MMEngine then imports
this module and the ``locations`` by itself. Nested under another project's registries the prefix would resolve from
that project's scope only. Importing one of the locations imports every module below it, which registers its classes: a
new file needs no line elsewhere.

Importing this module also lets MMEngine find configs of ours and of mmseg: it resolves ``_base_ = 'mmseg::…'`` through
a table of distribution names, in which the maintained forks have other names and plugins do not stand. The import name
works for all of them.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pkgutil import walk_packages

from mmengine import registry as host
from mmengine.config import utils as config_utils
from mmengine.registry import Registry

from mm_graft.host.idle_remarks import leave_out_debugging
from mm_graft.host.multimodal import leave_out_multimodal

config_utils.MODULE2PACKAGE.update(mm_graft='mm_graft', mmseg='mmseg')
leave_out_multimodal()  # before anything imports mmpretrain's models
leave_out_debugging()  # and its data sets


def below(parent: Registry, room: str) -> Registry:
    """A registry of this package below one of the host's, for what a room registers."""
    return Registry(parent.name, parent=parent, scope='mm_graft', locations=[f'mm_graft.{room}'])


MODELS = below(host.MODELS, 'models')
DATASETS = below(host.DATASETS, 'datasets')
DATA_SAMPLERS = below(host.DATA_SAMPLERS, 'datasets')
TRANSFORMS = below(host.TRANSFORMS, 'datasets')
METRICS = below(host.METRICS, 'evaluation')
HOOKS = below(host.HOOKS, 'engine')
PARAM_SCHEDULERS = below(host.PARAM_SCHEDULERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = below(host.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
OPTIM_WRAPPERS = below(host.OPTIM_WRAPPERS, 'engine')
RUNNERS = below(host.RUNNERS, 'engine')
MODEL_WRAPPERS = below(host.MODEL_WRAPPERS, 'engine')


def registered(name: object) -> list[type]:
    """Everything that is registered by a name, with or without its scope, as far as it is imported."""
    if not isinstance(name, str):
        return [name] if isinstance(name, type) else []
    scope, _, short = name.rpartition('.')
    return [registry.module_dict[short] for registry in all_registries()
            if short in registry.module_dict and scope in ('', registry.scope)]


def name_of(kind: object) -> str | None:
    """The name by which a config's text asks for a registered class or function; None if it is not registered."""
    found = ((registry.scope, name) for registry in all_registries()
             for name, one in registry.module_dict.items() if one is kind)
    scope, name = next(found, (None, None))
    return name if scope is None or (scope == 'mmengine' and registered(name) == [kind]) else f'{scope}.{name}'


def import_scope(scope: str) -> None:
    """Import what a project of the family registers; nothing is done for one that is unknown or not installed."""
    if scope not in config_utils.MODULE2PACKAGE or find_spec(scope) is None:
        return
    import_module(f'{scope}.registry')
    for registry in all_registries():
        if registry.scope == scope:
            registry.import_from_location()


def all_registries() -> Iterator[Registry]:
    """The host's registries and all below them."""
    waiting = [value for value in vars(host).values() if isinstance(value, Registry)]
    while waiting:
        registry = waiting.pop()
        waiting += registry.children.values()
        yield registry


def import_submodules(package: str, path: list[str]) -> None:
    """Import all modules and sub-packages of ``package``, whose ``__path__`` is ``path``."""
    for module in walk_packages(path, prefix=f'{package}.'):
        import_module(module.name)
