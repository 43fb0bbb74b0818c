"""Import every module below a package, so that writing a file is all it takes to register a class."""

from importlib import import_module
from pkgutil import walk_packages


def import_submodules(package: str, path: list[str]) -> None:
    """Import all modules and sub-packages of ``package``, whose ``__path__`` is ``path``."""
    for module in walk_packages(path, prefix=f'{package}.'):
        import_module(module.name)
