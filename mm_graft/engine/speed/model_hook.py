"""Hooks that change how a model computes, and never what: once, before training."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mm_graft.registry import HOOKS


class ModelHook(Hook):
    """Changes a model in place before the first iteration, after other hooks may have changed it."""

    priority = 'VERY_LOW'
    title: str

    def apply(self, model: nn.Module) -> int:
        """Change the model; how many modules that concerned."""
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        """Change the run's model, and say so."""
        runner.logger.info(f'{self.title}: {self.apply(runner.model)} modules')


def apply_configured(model: nn.Module, custom_hooks: list[dict] | None, kind: type[ModelHook]) -> int:
    """What the hooks of a kind among a config's hooks would do before a run; how many modules that concerned."""
    hooks = [HOOKS.build(hook) for hook in custom_hooks or [] if hook['type'] == f'mm_graft.{kind.__name__}']
    return sum(hook.apply(model) for hook in hooks)
