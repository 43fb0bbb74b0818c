"""The mixin of methods with a momentum encoder or teacher."""

from collections.abc import Iterator

from torch import nn

from mm_graft.host.step_watch import call_after_steps
from mm_graft.models.ema import CosineMomentumEMA


class HasMomentumEncoder:
    """Mixin for methods with a momentum encoder or teacher; list it before the host's base class::

        class Method(HasMomentumEncoder, BaseSelfSupervisor):
            def __init__(self, momentum: float = 0.996, **kwargs) -> None:
                super().__init__(**kwargs)
                self.teacher = self.follow('backbone', momentum=momentum)

    That is all a method has to do. A model may have several averages, under any names. Each of them

    - starts as a copy of what it follows: after ``init_weights``, and after loading weights (``load_from``,
      ``mm_graft.LoadBackboneHook``) that include none for the average; a resumed run continues with its average;
    - gets no gradient, and skips parameters that are frozen and equal to their source;
    - is updated once after every step of an optimizer that holds a parameter of the model: with gradient accumulation
      after the last iteration of a step, and not after a step that is skipped. Computing a loss updates no average.
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
        """Make each average a copy of what it follows; call it after setting weights by other means."""
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
