"""AdapterFusion, by the adapters library: attention over modules that other runs trained."""

from dataclasses import dataclass

from peftstudy.changes.additions import prepare
from peftstudy.errors import StudyError
from peftstudy.methods import ADDS, Method, Origin, register
from peftstudy.methods.bottleneck import Compacter, Houlsby, Pfeiffer

FUSED = (Compacter, Houlsby, Pfeiffer)
"""The methods whose modules it can attend to: with the library's parallel ones, two of the same are not as one."""
STAND_INS = (Origin("one", Pfeiffer()), Origin("other", Pfeiffer()))
"""What it attends to where no run is given: fresh modules, as far from zero as trained ones."""
STAND_IN_SCALE = 10


@register("adapterfusion")
@dataclass(frozen=True)
class AdapterFusion(Method):
    """Attend to the bottleneck modules of other runs, which stay frozen, in each place (Pfeiffer et al., 2021).

    The configuration says whose: `of`, a bottleneck method of the study, and `trained_on`, two or more of its
    datasets. As in the paper, values start near the identity, and a term of the loss keeps them there.
    """

    citation = "pfeiffer2021adapterfusion"
    trains = "attention over the bottleneck modules of other runs"
    learning_rates = (1e-4, 5e-4, 2e-3, 1e-2)
    start = "the modules of other runs are there from the start"
    turn = ADDS
    library = "adapters"
    least_origins = 2

    def cannot_start_from(self, method):
        if type(method) not in FUSED:
            return f"its modules are not those of {', '.join(sorted(fused.name for fused in FUSED))}"

    def skip(self, shape):
        return self._fused.skip(shape)

    def adapt(self, model, shape):
        import adapters

        prepare(model)
        for name in self.modules:
            model.add_adapter(name, config=self._fused.config(shape))
        model.add_adapter_fusion(list(self.modules))
        # Activating resets first, and that warns unless an adapter is active already.
        with adapters.AdapterSetup(next(iter(self.modules))):
            model.train_adapter_fusion(adapters.Fuse(*self.modules))
        for name, origin in self.modules.items():
            fill(model, name, origin)
        return model

    def penalty(self, model):
        return model.get_fusion_regularization_loss()

    def count(self, shape):
        return shape.all_layers * self._fused.modules * (3 * shape.hidden**2 + 2 * shape.hidden)

    @property
    def modules(self):
        """What it attends to, by names that modules can have: such have no dots."""
        origins = self.origins or STAND_INS
        return {f"{origin.method.name}-{origin.dataset.replace('.', '_')}": origin for origin in origins}

    @property
    def _fused(self):
        return (self.origins or STAND_INS)[0].method


def fill(model, name, origin):
    """Put what a run trained into the modules of that name; its head stays behind."""
    import torch

    own = {key: parameter for key, parameter in model.named_parameters() if f".{name}." in key}
    marked = f".{origin.method.name}."
    trained = (
        {key: STAND_IN_SCALE * value for key, value in own.items()}
        if origin.trained is None
        else {key.replace(marked, f".{name}."): value for key, value in origin.trained.items() if marked in key}
    )
    if own.keys() != trained.keys():
        odd = min(own.keys() ^ trained.keys())
        raise StudyError(
            f"method adapterfusion: what {origin.dataset} trained does not fit: {odd} is on one side alone."
        )
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(trained[key])
