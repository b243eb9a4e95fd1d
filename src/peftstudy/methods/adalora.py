"""AdaLoRA, by peft."""

from dataclasses import dataclass

from peftstudy.changes import projections
from peftstudy.changes.injection import Injected, forget
from peftstudy.methods import register

NAMED_ALIKE = ("delora", "glora", "gralora")
"""Methods whose parameters the allocator, which goes by parts of names, would take for its own."""


@register("adalora")
@dataclass(frozen=True)
class AdaLoRA(Injected):
    """Updates in the form of a singular value decomposition, the least important values pruned (Zhang et al., 2023).

    Counted is what is trained from the start, not what is left; what is pruned is stored as zeros.
    rank: the mean one at the end; the authors' code has 1 on GLUE, for all six matrices of a layer.
    first_rank: of each matrix at the start; the authors' code has 2 on RTE and 3 on MNLI, peft 12 for 8.
    alpha: the update is scaled by alpha over the rank; the authors' code has 32 on RTE and 16 on MNLI.
    begin: the share of the steps before the pruning; the authors' code has 600 steps on RTE, 8,000 on MNLI.
    end: the share of the steps after it; the authors' code leaves 1,800 steps on RTE, 50,000 on MNLI.
    every: steps between its rounds; the authors' code has 1 on RTE, 100 on MNLI.
    orthogonality: the weight of the term that keeps the factors orthogonal; the authors' code has 0.3 on RTE, 0.1 on
    MNLI.
    """

    rank: int = 8
    first_rank: int = 12
    alpha: float = 16
    begin: float = 0.1
    end: float = 0.4
    every: int = 10
    orthogonality: float = 0.1

    citation = "zhang2023adalora"
    trains = "low-rank updates, counted before the pruning"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    configuration = "LoraConfig"  # what it extends in peft, and so cannot stand beside

    def unfit(self):
        if not 1 <= self.rank <= self.first_rank or self.alpha <= 0 or self.every < 1 or self.orthogonality < 0:
            return (
                f"rank {self.rank}, first_rank {self.first_rank}, alpha {self.alpha}, every {self.every}, "
                f"orthogonality {self.orthogonality}: want 1 or more, no less, above 0, 1 or more, 0 or more"
            )
        if min(self.begin, self.end) < 0 or self.begin + self.end >= 1:
            return f"begin {self.begin}, end {self.end}: want shares that leave time in between"

    def cannot_join(self, other):
        return "its allocator would take the other's parameters for its own" if other.name in NAMED_ALIKE else None

    def config(self, model, shape):
        from peft import AdaLoraConfig

        return AdaLoraConfig(
            init_r=self.first_rank,
            target_r=self.rank,
            lora_alpha=self.alpha,
            deltaT=self.every,
            total_step=2,  # until the run says how many there are
            target_modules=projections.places(model, shape, self.targets),
        )

    def adapt(self, model, shape):
        from peft.tuners.adalora import AdaLoraModel

        config = self.config(model, shape)
        forget(model)
        model.rank_allocator = AdaLoraModel(model, {"default": config}, "default").rankallocator
        return model

    def prepare(self, model, steps, losses):
        config = model.rank_allocator.peft_config
        config.total_step, config.tfinal = steps, min(round(steps * self.end), steps - 1)
        # The last round comes behind the first steps, however few there are.
        config.tinit = min(round(steps * self.begin), steps - config.tfinal - 1)

    def penalty(self, model):
        """Return the mean distance of the factors' Gram matrices from the identity, weighted.

        The library adds it to its models' own loss, in evaluation too; the loss here is made from the logits.
        """
        if not self.orthogonality or not model.training:
            return None
        import torch

        parameters = dict(model.named_parameters())
        factors = [p for n, p in parameters.items() if n.endswith(".lora_A.default")]
        factors += [p.T for n, p in parameters.items() if n.endswith(".lora_B.default")]
        identity = torch.eye(self.first_rank, device=factors[0].device)
        return self.orthogonality * sum(torch.linalg.norm(p @ p.T - identity) for p in factors) / len(factors)

    def after_step(self, model, step):
        allocator = model.rank_allocator
        config = allocator.peft_config
        if self.rank == self.first_rank:  # nothing is pruned, which peft does not foresee
            return
        if step <= config.total_step - config.tfinal:
            last = step == config.total_step - config.tfinal
            if last and not allocator.ipt:
                allocator.update_ipt(model)  # of so short a run that no step came before
            config.rank_pattern = allocator.update_and_allocate(model, step, force_mask=last)[1] or config.rank_pattern
        else:
            allocator.mask_using_rank_pattern(model, config.rank_pattern)

    def state(self, model):
        allocator = model.rank_allocator
        config = {
            name: getattr(allocator.peft_config, name) for name in ("total_step", "tinit", "tfinal", "rank_pattern")
        }
        return {"config": config, **{name: getattr(allocator, name) for name in ("ipt", "exp_avg_ipt", "exp_avg_unc")}}

    def restore(self, model, state):
        for name, value in state["config"].items():
            setattr(model.rank_allocator.peft_config, name, value)
        for name in state.keys() - {"config"}:
            setattr(model.rank_allocator, name, state[name])

    def update(self, inputs, outputs):
        return self.first_rank * (inputs + outputs + 1)
