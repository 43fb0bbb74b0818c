"""On the path of a documented command: every config that a tool of this project reads is small."""

import importlib.abc
import importlib.util
import sys
import types
from pathlib import Path


class SmallConfigs(importlib.abc.MetaPathFinder):
    """Wrap `load_config` of `mm_graft.commands.configs` as soon as that is imported."""

    def find_spec(self, name, path, target=None):
        if name != 'mm_graft.commands.configs':
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_wrap(module):
            execute(module)
            sys.modules['tests'] = tests = types.ModuleType('tests')  # site-packages may hold another
            tests.__path__ = [str(Path(__file__).parents[2])]
            from tests.docs.small import small_config
            load = module.load_config
            module.load_config = lambda *args: small_config(load(*args))

        spec.loader.exec_module = execute_and_wrap
        return spec


sys.meta_path.insert(0, SmallConfigs())
