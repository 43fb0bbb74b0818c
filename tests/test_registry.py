import subprocess
import sys
from pathlib import Path

import pytest
from mmengine import registry as host

from mm_graft import registry

ROOT = Path(__file__).parents[1]
OURS = {
    'MODELS': 'GraftedMoCoV3', 'HOOKS': 'WeightAnchor', 'PARAM_SCHEDULERS': 'WarmupCosineLR',
    'OPTIM_WRAPPER_CONSTRUCTORS': 'GraftOptimWrapperConstructor', 'OPTIM_WRAPPERS': 'AutocastOptimWrapper',
    'RUNNERS': 'FullyShardedRunner',
}
SCRIPT = """
import sys
import mmengine.registry as roots
scope, host, ours = sys.argv[1], sys.argv[2], dict(pair.split('=') for pair in sys.argv[3:])
assert 'mm_graft' not in sys.modules and scope not in sys.modules
roots.init_default_scope(scope)
built = roots.MODELS.build(dict(type=host, img_size=32, patch_size=16, num_layers=1) if scope == 'mmseg' else
                           dict(type=host, arch='deit-t', img_size=32))
assert type(built).__module__.startswith(scope), type(built)
for name, key in ours.items():
    found = getattr(roots, name).get('mm_graft.' + key)
    assert found is not None and found.__module__.startswith('mm_graft.'), (name, key)
    assert getattr(roots, name).get(key) is None, f'{key} must need its prefix'
"""


@pytest.fixture(scope='module')
def processes():
    """One fresh interpreter per scope, running side by side."""
    arguments = [f'{name}={key}' for name, key in OURS.items()]
    running = {
        scope: subprocess.Popen([sys.executable, '-W', 'ignore', '-c', SCRIPT, scope, 'VisionTransformer', *arguments],
                                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for scope in ('mmpretrain', 'mmseg')}
    return {scope: (process.communicate()[0], process.returncode) for scope, process in running.items()}


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
def test_host_names_and_our_prefix_resolve_with_nothing_imported(processes, scope):
    output, status = processes[scope]
    assert status == 0, output


def test_classes_are_found_by_name_and_scope():
    registry.import_scope('mm_graft')
    registered = registry.registered
    assert [kind.__module__ for kind in registered('mm_graft.GraftViT')] == ['mm_graft.models.backbones.graft_vit']
    assert registered('mmpretrain.GraftViT') == []
    assert registered('NoSuch') == registered(None) == []
    assert registered(dict) == [dict]


def test_a_function_that_could_be_imported_is_not_registered():
    for scope in ('mmengine', 'os', 'nowhere'):
        registry.import_scope(scope)
    assert registry.registered('mmengine.call_command') == registry.registered('os.system') == []
    assert registry.registered('mmengine.DefaultSampler')


@pytest.mark.parametrize('name', [name for name in vars(registry) if name.isupper()])
def test_every_registry_is_a_child_of_mmengines_root(name):
    ours = getattr(registry, name)
    assert ours.scope == 'mm_graft'
    assert ours.parent is getattr(host, name)
    assert ours.parent.scope == 'mmengine'
    assert ours.parent.children['mm_graft'] is ours


def test_a_class_has_the_name_by_which_a_text_finds_it():
    from mmcv.transforms import LoadImageFromFile
    from mmengine.runner import EpochBasedTrainLoop
    from mmpretrain.models import VisionTransformer

    from mm_graft.models.backbones.graft_vit import GraftViT
    names = {EpochBasedTrainLoop: 'EpochBasedTrainLoop', VisionTransformer: 'mmpretrain.VisionTransformer',
             GraftViT: 'mm_graft.GraftViT', Path: None}
    assert {kind: registry.name_of(kind) for kind in names} == names
    host.init_default_scope('mmpretrain')
    for found, kind in ((host.MODELS, VisionTransformer), (host.MODELS, GraftViT), (host.LOOPS, EpochBasedTrainLoop),
                        (host.TRANSFORMS, LoadImageFromFile)):
        with found.switch_scope_and_registry('mmpretrain') as inside:
            assert inside.get(registry.name_of(kind)) is kind
