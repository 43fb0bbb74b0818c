"""What a method with a momentum encoder or teacher inherits."""

from collections.abc import Iterator

from torch import nn

from mm_graft.host.step_watch import call_after_steps
from mm_graft.models.ema import CosineMomentumEMA


class HasMomentumEncoder:
    """For methods with a momentum encoder or teacher, before the host's base class among the bases::

        class Method(HasMomentumEncoder, BaseSelfSupervisor):
            def __init__(self, momentum: float = 0.996, **kwargs) -> None:
                super().__init__(**kwargs)
                self.teacher = self.follow('backbone', momentum=momentum)

    An average may have any name, and a model several. It needs nothing more. It

    - starts as a copy of what it follows: after ``init_weights``, and after any load of weights (``load_from``,
      ``mm_graft.LoadBackboneHook``) that brings none for it; a resumed one goes on as it was;
    - gets no gradient, and leaves out what is frozen and equal to its source;
    - moves once after every step of an optimizer that trains what the model holds, whoever makes that step: under
      accumulated gradients at the last iteration, and not at a step that is skipped. A loss changes no average.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.register_load_state_dict_post_hook(_restart_unless_loaded)
        call_after_steps(self, HasMomentumEncoder.update_momentum_encoders)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        call_after_steps(self, HasMomentumEncoder.update_momentum_encoders)  # a copy is trained on its own

    def follow(self, *sources: str, **settings) -> CosineMomentumEMA:
        """An average of the modules of these names; ``average.module`` is a copy, of several in an ``nn.Sequential``.

        ``settings`` are those of :class:`CosineMomentumEMA`.
        """
        average = CosineMomentumEMA(_joined(self, sources), **settings)
        average.sources = sources
        return average

    def momentum_encoders(self) -> Iterator[tuple[CosineMomentumEMA, nn.Module]]:
        """Each average, and what it follows."""
        for module in self.modules():
            if isinstance(module, CosineMomentumEMA) and module.sources:
                yield module, _joined(self, module.sources)

    def start_momentum_encoders(self) -> None:
        """Make each average a copy of what it follows; for whoever has written weights there by other means."""
        for average, source in self.momentum_encoders():
            average.copy_from(source)

    def update_momentum_encoders(self) -> None:
        """Move each average; called after every optimizer step."""
        for average, source in self.momentum_encoders():
            average.update_parameters(source)

    def init_weights(self) -> None:
        """Initialize as the base class does, then start each average as a copy."""
        for average, _ in self.momentum_encoders():
            average.loaded = False
        super().init_weights()
        _restart_unless_loaded(self)


def _joined(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    modules = [model.get_submodule(name) for name in names]
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def _restart_unless_loaded(model: HasMomentumEncoder, keys: object = None) -> None:
    for average, source in model.momentum_encoders():
        if not average.loaded:
            average.copy_from(source)
