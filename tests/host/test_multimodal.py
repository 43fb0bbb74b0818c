import subprocess
import sys

import pytest
from mmpretrain.utils import dependency

from mm_graft.host import multimodal
from tests.own_process import SECONDS


@pytest.mark.parametrize(('installed', 'expected'), [('4.57.1', None), ('5.0.0', '5.0.0'), ('10.1.2', '10.1.2')])
def test_only_versions_that_mmpretrain_does_not_know_are_too_new(installed, expected, monkeypatch):
    monkeypatch.setattr(multimodal, 'version', lambda name: installed)
    assert multimodal.too_new() == expected


def test_without_transformers_nothing_is_too_new(monkeypatch):
    def missing(name):
        raise multimodal.PackageNotFoundError(name)

    monkeypatch.setattr(multimodal, 'version', missing)
    assert multimodal.too_new() is None


def test_the_host_has_the_flag_that_is_set_here():
    """Fails if mmpretrain decides in another way which models it registers."""
    assert isinstance(dependency.WITH_MULTIMODAL, bool)


def environment(tmp_path, transformers):
    """Distributions of this name and version, as pip would leave them, and nothing in them."""
    for name, version in (('transformers', transformers), ('pycocotools', '2.0.8')):
        folder = tmp_path / f'{name}-{version}.dist-info'
        folder.mkdir()
        (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
    return tmp_path


def test_with_transformers_5_models_are_built_and_blip_says_what_it_lacks(tmp_path):
    code = ('import mm_graft.registry, mmpretrain.models\nfrom mmpretrain.registry import MODELS\n'
            'try:\n    MODELS.build(dict(type="BlipCaption"))\nexcept ImportError as error:\n    print(error)')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, timeout=SECONDS,
                          env={'PYTHONPATH': ':'.join([str(environment(tmp_path, '5.24.0')), *sys.path]),
                               'PATH': '/usr/bin:/bin', 'HOME': str(tmp_path)})
    assert 'requires extra multi-modal dependencies' in done.stdout, done.stderr[-2000:]
