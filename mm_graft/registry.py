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
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from mm_graft.host.idle_remarks import leave_out_debugging
from mm_graft.host.multimodal import leave_out_multimodal

config_utils.MODULE2PACKAGE.update(mm_graft='mm_graft', mmseg='mmseg')
leave_out_multimodal()  # before anything imports mmpretrain's models
leave_out_debugging()  # and its data sets

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mm_graft', locations=['mm_graft.models'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mm_graft', locations=['mm_graft.datasets'])
DATA_SAMPLERS = Registry(
    'data sampler', parent=MMENGINE_DATA_SAMPLERS, scope='mm_graft', locations=['mm_graft.datasets'])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope='mm_graft', locations=['mm_graft.datasets'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='mm_graft', locations=['mm_graft.evaluation'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mm_graft', locations=['mm_graft.engine'])
PARAM_SCHEDULERS = Registry(
    'parameter scheduler', parent=MMENGINE_PARAM_SCHEDULERS, scope='mm_graft', locations=['mm_graft.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mm_graft',
    locations=['mm_graft.engine'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='mm_graft', locations=['mm_graft.engine'])
RUNNERS = Registry('runner', parent=MMENGINE_RUNNERS, scope='mm_graft', locations=['mm_graft.engine'])
MODEL_WRAPPERS = Registry(
    'model_wrapper', parent=MMENGINE_MODEL_WRAPPERS, scope='mm_graft', locations=['mm_graft.engine'])


def registered(name: object) -> list[type]:
    """Everything that is registered by a name, with or without its scope, as far as it is imported."""
    if not isinstance(name, str):
        return [name] if isinstance(name, type) else []
    scope, _, short = name.rpartition('.')
    return [registry.module_dict[short] for registry in all_registries()
            if short in registry.module_dict and scope in ('', registry.scope)]


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
