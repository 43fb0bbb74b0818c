import gzip
import hashlib

import pytest

from experiments import fashion_mnist
from experiments.fashion_mnist import INSTALLED, fetch_package, prepare_fashion_mnist, unpack

NAMES = ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte', 't10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte')


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder like that of the installed package, with small files whose checksums count as the right ones."""
    folder = tmp_path / 'package'
    folder.mkdir()
    for name in NAMES:
        (folder / f'{name}.gz').write_bytes(gzip.compress(name.encode()))
    monkeypatch.setattr(fashion_mnist, 'MD5', {name: hashlib.md5(name.encode()).hexdigest() for name in NAMES})
    monkeypatch.setattr(fashion_mnist, 'INSTALLED', folder)
    return folder


def forbid(monkeypatch, *names):
    for name in names:
        monkeypatch.setattr(fashion_mnist, name, lambda *args, name=name: pytest.fail(f'{name} was called'))


def test_the_hosts_four_files_are_asked_for():
    files = fashion_mnist.FashionMNIST.train_list + fashion_mnist.FashionMNIST.test_list
    assert sorted(f'{name}.gz' for name in fashion_mnist.MD5) == sorted(name for name, _ in files)


def test_the_installed_package_is_unpacked(package, tmp_path, monkeypatch):
    forbid(monkeypatch, 'fetch_package', 'download')
    root = prepare_fashion_mnist(str(tmp_path / 'data' / 'fashion'))
    assert root == tmp_path / 'data' / 'fashion'
    assert {path.name: path.read_text() for path in root.iterdir()} == {name: name for name in NAMES}


def test_nothing_is_done_twice(package, tmp_path, monkeypatch):
    root = prepare_fashion_mnist(tmp_path / 'data')
    times = {path: path.stat().st_mtime_ns for path in root.iterdir()}
    forbid(monkeypatch, 'unpack', 'fetch_package', 'download')
    assert prepare_fashion_mnist(root) == root
    assert {path: path.stat().st_mtime_ns for path in root.iterdir()} == times


def test_a_missing_file_is_put_back(package, tmp_path):
    root = prepare_fashion_mnist(tmp_path / 'data')
    (root / NAMES[2]).unlink()
    prepare_fashion_mnist(root)
    assert (root / NAMES[2]).read_text() == NAMES[2]


def test_another_checksum_is_refused_and_nothing_of_it_is_unpacked(package, tmp_path):
    (package / f'{NAMES[0]}.gz').write_bytes(gzip.compress(b'something else'))
    with pytest.raises(RuntimeError, match=rf'{NAMES[0]}\.gz does not hold.*delete it and try again'):
        prepare_fashion_mnist(tmp_path / 'data')
    assert list((tmp_path / 'data').iterdir()) == []


def test_a_broken_archive_leaves_no_half_file(tmp_path):
    source, root = tmp_path / 'source', tmp_path / 'root'
    source.mkdir()
    root.mkdir()
    content = bytes(range(256)) * 400
    (source / 'file.gz').write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(EOFError):
        unpack(source, root, {'file': hashlib.md5(content).hexdigest()})
    assert not (root / 'file').exists()


def test_without_the_installed_package_it_is_fetched(package, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, 'INSTALLED', INSTALLED.parent / 'not-installed')
    forbid(monkeypatch, 'download')

    def fetch(folder):
        target = folder / 'usr/share/datasets/not-installed'
        target.mkdir(parents=True)
        for path in package.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return True

    monkeypatch.setattr(fashion_mnist, 'fetch_package', fetch)
    assert (prepare_fashion_mnist(tmp_path / 'data') / NAMES[3]).read_text() == NAMES[3]


def test_without_any_package_the_hosts_download_is_used(package, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(fashion_mnist, 'INSTALLED', tmp_path / 'nowhere')
    monkeypatch.setattr(fashion_mnist, 'fetch_package', lambda folder: False)
    monkeypatch.setattr(fashion_mnist, 'download', asked.append)
    prepare_fashion_mnist(tmp_path / 'data')
    assert asked == [tmp_path / 'data']


def test_a_download_that_fails_names_what_to_do(tmp_path, monkeypatch):
    def refuse(**kwargs):
        raise OSError('no route to host')

    monkeypatch.setattr(fashion_mnist, 'FashionMNIST', refuse)
    with pytest.raises(RuntimeError, match=r'no route to host.*apt-get install dataset-fashion-mnist'):
        fashion_mnist.download(tmp_path)


def test_apt_is_asked_again_after_its_lists_were_fetched(tmp_path, monkeypatch):
    commands = []

    def run(command, folder):
        commands.append(command[:2])
        if len(commands) == 3:
            (folder / 'dataset-fashion-mnist_0_all.deb').touch()
        return len(commands) > 1

    monkeypatch.setattr(fashion_mnist.shutil, 'which', lambda name: name)
    monkeypatch.setattr(fashion_mnist, '_run', run)
    assert fetch_package(tmp_path)
    assert commands == [['apt-get', 'download'], ['apt-get', 'update'], ['apt-get', 'download'], ['dpkg-deb', '-x']]


def test_without_apt_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist.shutil, 'which', lambda name: None)
    forbid(monkeypatch, '_run')
    assert not fetch_package(tmp_path)
