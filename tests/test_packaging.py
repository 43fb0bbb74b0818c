"""What a wheel carries, and that the files at the top level agree with each other."""

import ast
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mm_graft import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The package as setup.py builds it for a wheel."""
    folder = tmp_path_factory.mktemp('build')
    subprocess.run([sys.executable, 'setup.py', '-q', 'build', '--build-base', str(folder)], cwd=ROOT, check=True,
                   capture_output=True)
    return folder / 'lib' / 'mm_graft'


def test_a_wheel_carries_configs_tools_benchmarks_and_model_index(built):
    for name in ('configs', 'tools', 'benchmarks'):
        sources = {str(path.relative_to(ROOT)) for path in (ROOT / name).rglob('*.py')}
        assert {str(path.relative_to(built / '.mim')) for path in (built / '.mim' / name).rglob('*.py')} == sources
    assert (built / '.mim' / 'tools' / 'dist_train.sh').is_file()
    assert (built / '.mim' / 'model-index.yml').is_file()


def test_the_commands_of_a_wheel_find_its_configs_and_benchmarks(built, tmp_path):
    """`benchmarks` is imported from the wheel's own folder, and a config found there by its name."""
    program = ("import sys; from mm_graft.commands.main import main; sys.stdout.reconfigure(line_buffering=True); "
               "main(arguments=['benchmark', 'step', 'graft/vit-s_mae_own-images', '--batch', '2', '--steps', '1', "
               "'--warmup', '0', '--img-size', '32', '--device', 'cpu']); print(sys.modules['benchmarks'].__file__)")
    done = subprocess.run([sys.executable, '-c', program], cwd=tmp_path, text=True, capture_output=True, check=False,
                          timeout=120, env={**os.environ, 'PYTHONPATH': str(built.parent)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(built / '.mim' / 'benchmarks' / '__init__.py')


@pytest.fixture
def installed(tmp_path):
    """Runs the console command of a wheel that is installed beside the host, where no checkout is in sight."""
    source = tmp_path / 'source'
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns('.*', 'work_dirs', 'data', 'build', '*.egg-info'))
    run_quietly('-m', 'pip', 'wheel', '-q', '--no-deps', '-w', tmp_path / 'wheels', source)
    run_quietly('-m', 'venv', '--without-pip', tmp_path / 'fresh')
    shutil.rmtree(source)
    python = tmp_path / 'fresh' / 'bin' / 'python'
    site = Path(run_quietly('-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', python=python).strip())
    run_quietly('-m', 'pip', '-q', f'--python={python}', 'install', '--no-deps', *(tmp_path / 'wheels').glob('*.whl'))
    (site / 'host.pth').write_text('\n'.join({str(Path(spec.origin).parents[1])
                                             for spec in map(find_spec, ('torch', 'mmengine'))}))
    (tmp_path / 'elsewhere').mkdir()

    def command(*args: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
        done = subprocess.run([python.with_name('mm_graft'), *map(str, args)], cwd=tmp_path / 'elsewhere', text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1800, env=clean)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    assert str(site) in run_quietly('-c', 'import mm_graft; print(mm_graft.__file__)', python=python)
    return command


def run_quietly(*args: object, python: object = sys.executable) -> str:
    clean = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run([python, *map(str, args)], cwd='/', text=True, capture_output=True, timeout=900, env=clean)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def odd_images(folder: Path) -> Path:
    """Sixteen pictures with what real folders have: webp, palette, CMYK, 16 bits, broken, hidden, other letters."""
    rng = np.random.default_rng(0)
    (folder / 'größe' / '.hidden').mkdir(parents=True)
    for number, ending in enumerate(['jpg', 'webp', 'png', 'tif'] * 3):
        Image.fromarray(rng.integers(0, 255, (40, 52, 3), np.uint8)).save(folder / 'größe' / f'写真 {number}.{ending}')
    gray = rng.integers(0, 255, (40, 40), np.uint8)
    Image.fromarray(gray).convert('P').save(folder / 'palette.png')
    Image.fromarray(np.dstack([gray] * 4), 'CMYK').save(folder / 'cmyk.jpg')
    Image.fromarray(gray.astype(np.uint16) * 200).save(folder / 'deep.png')
    Image.fromarray(np.dstack([gray] * 4), 'RGBA').save(folder / 'transparent.png')
    (folder / 'broken.jpg').write_bytes(b'not a jpeg')
    (folder / 'empty.png').touch()
    (folder / 'größe' / '.hidden' / 'thumbnail.jpg').write_bytes(b'')
    return folder


@pytest.mark.slow
def test_an_installed_wheel_starts_on_a_folder_and_trains_configs_by_their_names(installed, tmp_path):
    images = odd_images(tmp_path / 'own')
    installed('start', images, '--minutes', '0.02', '--out', 'first')
    assert (tmp_path / 'elsewhere' / 'first' / 'report.html').is_file()
    data = tmp_path / 'elsewhere' / 'data' / 'imagenet'
    shutil.copytree(images, data / 'train')
    (data / 'meta').mkdir()
    names = sorted(path.relative_to(images) for path in images.rglob('*.*')
                   if path.is_file() and path.parent.name != '.hidden')
    (data / 'meta' / 'train.txt').write_text(''.join(f'{name} 0\n' for name in names))
    installed('train', 'graft/vit-b_mae2mocov3', '--init', 'none', '--work-dir', 'step', '--cfg-options',
              'batch_size=4', 'model.backbone.arch=deit-tiny', 'model.neck.in_channels=192', 'max_epochs=1',
              'warmup_epochs=0')
    assert (tmp_path / 'elsewhere' / 'step' / 'epoch_1.pth').is_file()


def test_a_wheel_carries_every_module(built):
    sources = {str(path.relative_to(ROOT / 'mm_graft')) for path in (ROOT / 'mm_graft').rglob('*.py')
               if '.mim' not in path.parts}
    assert {str(path.relative_to(built)) for path in built.rglob('*.py') if '.mim' not in path.parts} == sources


def test_the_model_index_names_files_that_exist():
    for metafile in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']:
        content = yaml.safe_load((ROOT / metafile).read_text())
        for collection in content['Collections']:
            assert (ROOT / collection['README']).is_file()
        for model in content['Models']:
            assert (ROOT / model['Config']).is_file()
            assert not model.get('Weights'), 'no checkpoint has been published'


def test_every_method_of_the_model_index_is_cited_with_whole_names():
    cited = yaml.safe_load((ROOT / 'CITATION.cff').read_text())['references']
    papers = {collection['Paper']['URL'] for metafile in ROOT.glob('configs/*/metafile.yml')
              for collection in yaml.safe_load(metafile.read_text())['Collections']}
    assert papers <= {paper['url'] for paper in cited}
    assert all({'family-names', 'given-names'} <= set(author) for paper in cited for author in paper['authors'])
    assert all(len(paper['authors']) > 1 for paper in cited)


def test_what_the_package_and_its_tools_import_is_declared_or_comes_with_the_host():
    declared = {line.lower() for line in (ROOT / 'requirements' / 'runtime.txt').read_text().split()}
    host = {'torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'cv2', 'pil', 'yaml', 'yapf'}
    # requirements/export.txt and shards.txt
    optional = {'onnx', 'onnxscript', 'onnxruntime', 'pyarrow', 'tifffile', 'umap', 'webdataset'}
    ours = {'mm_graft', 'benchmarks', *(path.stem for path in ROOT.glob('tools/**/*.py'))}
    imported = set()
    for path in [*ROOT.glob('mm_graft/**/*.py'), *ROOT.glob('tools/**/*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.split('.')[0] for name in names}
    known = {'sklearn': 'scikit-learn'}
    foreign = {known.get(name, name).lower() for name in imported - ours - sys.stdlib_module_names}
    assert foreign - host - optional <= declared


def test_the_version_is_stated_once():
    assert __version__ in subprocess.run([sys.executable, 'setup.py', '--version'], cwd=ROOT, check=True,
                                         capture_output=True, text=True).stdout
