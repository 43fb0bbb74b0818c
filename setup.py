"""Build script: metadata, and the ``.mim`` folder that `mim` and ``_base_ = 'mm_graft::…'`` look into."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_CONTENT = ('configs', 'tools', 'benchmarks', 'model-index.yml')
IGNORED = shutil.ignore_patterns('__pycache__', '*.pyc')


def requirements(name: str) -> list[str]:
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def read_version() -> str:
    namespace: dict = {}
    exec((ROOT / 'mm_graft' / 'version.py').read_text(), namespace)
    return namespace['__version__']


def fill_mim(folder: Path) -> None:
    """Copy configs, tools, benchmarks and the model index into ``folder``, replacing what an earlier build left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in MIM_CONTENT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=IGNORED)
        else:
            shutil.copy2(source, folder / name)


def link_mim(folder: Path) -> None:
    """Link configs, tools, benchmarks and the model index into ``folder``: an editable install follows the checkout."""
    folder.mkdir(exist_ok=True)
    for name in MIM_CONTENT:
        link = folder / name
        if not link.is_symlink():
            shutil.rmtree(link, ignore_errors=True)
            link.unlink(missing_ok=True)
            link.symlink_to(Path('..', '..', name))


class BuildPy(build_py):
    """Put ``.mim`` beside the built modules (a wheel) or link it in the checkout (an editable install)."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            link_mim(ROOT / 'mm_graft' / '.mim')
        else:
            fill_mim(Path(self.build_lib) / 'mm_graft' / '.mim')


setup(
    name='mm_graft',
    version=read_version(),
    description='Layer-wise self-supervised pre-training for the OpenMMLab ecosystem',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    author='The mm_graft authors',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mm_graft', 'mm_graft.*']),
    install_requires=requirements('runtime'),
    extras_require={
        'mminstall': requirements('mminstall'),
        'tests': requirements('tests'),
        'export': requirements('export'),
        'detection': requirements('detection'),
        'shards': requirements('shards'),
    },
    entry_points={'console_scripts': ['mm_graft = mm_graft.commands.main:main']},
    cmdclass={'build_py': BuildPy},
    zip_safe=False,
)
