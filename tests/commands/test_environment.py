import pytest
from PIL import Image

from mm_graft.commands import environment
from mm_graft.commands.environment import (
    check_family,
    check_import,
    check_run,
    check_space,
    count_images,
    examine,
)


@pytest.fixture
def installed(monkeypatch):
    """A function that says which distributions there are."""
    def only(**versions):
        known = {name.replace('_', '-'): number for name, number in versions.items()}
        monkeypatch.setattr(environment, 'version', known.get)
    return only


def test_the_maintained_family_is_right_and_the_others_are_named(installed):
    installed(onedl_mmengine='0.10.12')
    assert check_family('mmengine').ok
    installed(mmengine='0.10.7')
    assert 'cannot resume' in (check := check_family('mmengine')).fix
    assert check.ok is False
    installed(onedl_mmcv='2.3.6', mmcv_lite='2.1.0')
    assert 'pip uninstall onedl-mmcv mmcv-lite' in check_family('mmcv').fix
    installed()
    assert check_family('mmpretrain').fix == 'pip install onedl-mmpretrain'
    assert check_family('mmsegmentation').ok is None


def test_a_broken_binary_is_a_finding_and_no_crash(tmp_path, monkeypatch):
    (tmp_path / 'halfvision.py').write_text('raise RuntimeError("operator torchvision::nms\\ndoes not exist")')
    monkeypatch.syspath_prepend(tmp_path)
    check = check_import('halfvision', 'install its partner')
    assert (check.ok, check.fix) == (False, 'install its partner')
    assert check.value == 'RuntimeError: operator torchvision::nms does not exist'


def test_space_is_looked_for_where_checkpoints_will_be(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, 'DISK', 0)
    assert check_space(tmp_path / 'not' / 'yet')[0].value.endswith(f'free at {tmp_path}')
    assert check_space(tmp_path)[0].ok
    monkeypatch.setattr(environment, 'DISK', 2**60)
    assert not check_space(tmp_path)[0].ok


def test_images_are_counted_below_a_folder(tmp_path):
    (tmp_path / 'a').mkdir()
    for name in ('a/1.JPEG', 'a/2.png'):
        Image.new('RGB', (30, 20)).save(tmp_path / name)
    for name in ('note.txt', 'a/3.png'):
        (tmp_path / name).touch()
    said = count_images(tmp_path)
    assert said.startswith(f'{tmp_path}: 3 images; passed over: 1 ')
    assert '(.txt 1)' in said
    assert '1 of 3 sampled cannot be read and will be passed over: a/3.png' in said
    with pytest.raises(FileNotFoundError):
        count_images(tmp_path / 'none')
    with pytest.raises(ValueError, match=r'1\.JPEG is neither a folder of images nor a text that names one a line'):
        count_images(tmp_path / 'a' / '1.JPEG')


def test_a_config_is_read_and_its_paths_looked_for(tmp_path):
    (tmp_path / 'config.py').write_text("load_from = 'no/where.pth'")
    options = {'load_from': str(tmp_path / 'config.py')}
    check, = check_run(str(tmp_path / 'config.py'), options)
    assert check.ok
    check, = check_run(str(tmp_path / 'config.py'))
    assert (check.name, check.ok) == ('config', False)
    assert 'checkpoint no/where.pth (load_from) does not exist' in check.value


def test_a_run_is_looked_at_as_a_training_would_find_it(config):
    names = 'config', 'warm-up', 'batches', 'classes', 'images'
    checks = check_run(str(config))
    assert [(check.name, check.ok) for check in checks] == [(name, True) for name in names]
    assert checks[2].value == '8 images, 4 batches of 2 an epoch'
    wrong = {'train_dataloader.batch_size': 9, 'param_scheduler.warmup': 2}
    found = {check.name: check for check in check_run(str(config), wrong)}
    assert [name for name in names if not found[name].ok] == ['warm-up', 'batches']
    assert 'the batch has 9 images, but there are 8' in found['batches'].value


def test_every_machine_has_devices_models_and_a_precision():
    checks = {check.name: check for check in examine()}
    assert checks['models'].ok
    assert 'hardware' in checks['bfloat16'].value
