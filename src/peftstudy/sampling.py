"""Which learning rates are tried: those of a list, or those that one of optuna's samplers takes from a range."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from peftstudy.specs import Range, Rates, Search

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

Trial = Mapping[str, Any]

WORST = -1.0
"""Below every score that a trial can have: the score of one that diverged."""


def tried(rates: Rates, search: Search, attempt: Callable[[float], Trial]) -> list[Trial]:
    """Return the trials of the rates, in the order in which they were run; one that comes again is not run again.

    attempt: trains with a rate, and returns what came of it: learning_rate, validation_score, validation_loss.
    """
    if not isinstance(rates, Range):
        return [attempt(rate) for rate in rates]
    import optuna  # a quarter of a second, which a study without a sampler does not wait

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=_sampler(search, len(rates)))
    trials = []
    for _ in range(len(rates)):
        asked = study.ask()
        rate = float(f"{asked.suggest_float('learning_rate', rates.low, rates.high, log=True):.3g}")
        same = (trial for trial in trials if trial["learning_rate"] == rate)
        trials.append(next(same, None) or attempt(rate))
        study.tell(asked, score(trials[-1]))
    return trials


def best(trials: list[Trial]) -> Trial:
    """Return the trial with the best score; equal scores are told apart by the lower validation loss."""
    return max(trials, key=lambda trial: (score(trial), -_loss(trial)))


def score(trial: Trial) -> float:
    """Return a trial's score on validation; WORST where it diverged."""
    found = trial["validation_score"]
    return WORST if found is None else found


def _loss(trial: Trial) -> float:
    found = trial["validation_loss"]
    return math.inf if found is None else found


def drawn_first(trials: int) -> int:
    """Return how many of the trials are drawn at random before a sampler learns from them."""
    return max(2, trials // 3)


def _sampler(search: Search, trials: int) -> "BaseSampler":
    # The same seed for each method: what is drawn at random lies at the same quantiles of their ranges.
    from optuna import samplers

    if search.sampler == "qmc":
        return samplers.QMCSampler(scramble=True, seed=search.seed)
    kind = {"tpe": samplers.TPESampler, "gp": samplers.GPSampler}[search.sampler]
    return kind(n_startup_trials=drawn_first(trials), seed=search.seed)
