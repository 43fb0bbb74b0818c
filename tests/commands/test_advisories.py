from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from mm_graft.commands.advisories import ADVISORIES, AS_OF, concerning, pinned_versions

ROOT = Path(__file__).parents[2]


def told(versions):
    return [f'{name} {version}: {advisory}' for name, version, advisory in concerning(versions)]


@pytest.mark.parametrize('name', ['pinned', 'openmmlab'])
def test_no_known_advisory_concerns_what_is_pinned(name):
    pinned = pinned_versions(ROOT / 'requirements' / f'{name}.txt')
    assert 'torch' in pinned
    assert not told(pinned)


def test_a_finding_names_package_version_advisory_and_remedy():
    text, = told({'torch': '2.9.1'})[:1]
    assert text == ('torch 2.9.1: CVE-2026-24747 (2026-01-27): a checkpoint can corrupt memory, and run code, in spite '
                    'of weights_only=True; use torch 2.10.0 or later')
    assert [advisory.identifier for *_, advisory in concerning({'torch': '2.10.0'})] == ['CVE-2026-4538']
    assert told({'Opencv_Python': '4.8.0.76'})[0].startswith('Opencv_Python 4.8.0.76: CVE-2023-4863')
    assert not told({'numpy': '1.0', 'torch': '2.11.0+cpu'})


def test_the_remedy_is_the_first_version_that_is_not_affected():
    for advisory in ADVISORIES:
        affected = SpecifierSet(advisory.affected)
        assert advisory.good not in affected
        assert not affected.contains('1000')
        assert '2000-01-01' < advisory.date <= AS_OF
        assert advisory.identifier.startswith('CVE-')


def test_what_is_accepted_is_not_done_here():
    accepted = [advisory for advisory in ADVISORIES if advisory.accepted]
    assert [advisory.identifier for advisory in accepted] == ['CVE-2025-3000']
    for path in [*(ROOT / 'mm_graft').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]:
        if path.name != 'advisories.py':
            assert 'jit.script' not in path.read_text(), path


def test_pins_are_read_with_comments_extras_and_markers(tmp_path):
    path = tmp_path / 'requirements.txt'
    path.write_text('# torch==1.0\ntorch==2.11.0\nPillow[xmp] == 12.0.0  # why\nnumpy<2\n'
                    'timm==1.0.31; python_version>"3"')
    assert pinned_versions(path) == {'torch': '2.11.0', 'Pillow': '12.0.0', 'timm': '1.0.31'}


def test_advisories_are_of_packages_that_can_be_installed():
    names = {advisory.package for advisory in ADVISORIES}
    assert {'torch', 'pillow'} <= {dist.metadata['Name'].lower() for dist in metadata.distributions()} & names
