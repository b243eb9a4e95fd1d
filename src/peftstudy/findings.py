"""Published findings as checks: a sentence of our own, and intervals that say whether it holds here."""

from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from peftstudy.claims import MINUS, Claim, counted, evidence, mean, minus, verdict
from peftstudy.views import finished_epochs

EFFICIENT = ("embeddings", "encoder", "prompt", "bitfit")
METHODS = ("full", *EFFICIENT)
BERT, ROBERTA = "tinybert", "tinyroberta"
MANY, FEW = "90-10", "30-70"


class Results:
    """The runs and epochs of a study, asked by split, backbone and method; every answer is a series by seed."""

    def __init__(self, runs: pd.DataFrame, epochs: pd.DataFrame):
        done = runs[runs.status == "finished"]
        keys = ["split", "backbone", "method"]
        self.runs = {key: group.set_index("seed").sort_index() for key, group in done.groupby(keys)}
        self.epochs = dict(iter(finished_epochs(runs, epochs).groupby(keys)))

    def score(self, backbone: str, method: str, split: str = MANY) -> pd.Series:
        return self.column("test_score", backbone, method, split)

    def column(self, name: str, backbone: str, method: str, split: str = MANY) -> pd.Series:
        runs = self.runs.get((split, backbone, method))
        return pd.Series(dtype=float) if runs is None else runs[name].dropna()

    def seconds(self, backbone: str, method: str) -> pd.Series:
        """Seconds of training an epoch."""
        return self.column("training_seconds", backbone, method) / self.column("epochs", backbone, method)

    def memory(self, backbone: str, method: str) -> pd.Series:
        device = self.column("peak_device_memory_bytes", backbone, method)
        return (device if len(device) else self.column("peak_memory_bytes", backbone, method)) / 1e6

    def curve(self, name: str, backbone: str, method: str) -> pd.DataFrame:
        """A measure after each epoch, shape (epochs, seeds)."""
        epochs = self.epochs.get((MANY, backbone, method))
        return pd.DataFrame() if epochs is None else epochs.pivot(index="epoch", columns="seed", values=name)

    def held_out(self, backbone: str, method: str) -> pd.DataFrame:
        """The score on the held-out part after each epoch: on test where it was logged, else on validation."""
        curve = self.curve("test_score", backbone, method)
        return (
            curve if len(curve) and curve.notna().all(axis=None) else self.curve("validation_score", backbone, method)
        )

    def epochs_to_converge(self, backbone: str, method: str) -> pd.Series:
        """The first epoch whose score comes within 0.01 of the best one."""
        curve = self.held_out(backbone, method)
        return (curve >= curve.max() - 0.01).idxmax().astype(float) if len(curve) else pd.Series(dtype=float)


Check = Callable[[Results], Iterable[Claim]]


def over(
    measure: Callable,
    lesser: Iterable[tuple[str, str]],
    greater: tuple[str, str],
    name: str = "",
    difference: Callable = minus,
) -> Iterator[Claim]:
    """Claim that one backbone and method has more of a measure than each of some others."""
    for other in lesser:
        both = other[0] == greater[0]
        pair = (
            f"{greater[1]} {MINUS} {other[1]} ({other[0]})"
            if both
            else f"{' '.join(greater)} {MINUS} {' '.join(other)}"
        )
        yield Claim(name + pair, difference(measure(*greater), measure(*other)), low=0)


def drop(results: Results, backbone: str, method: str) -> pd.Series:
    """What a method loses from 90-10 to 30-70, by seed."""
    return results.score(backbone, method, MANY) - results.score(backbone, method, FEW)


def full_is_best(r: Results):
    for backbone in (BERT, ROBERTA):
        yield from over(r.score, [(backbone, m) for m in EFFICIENT], (backbone, "full"))


def losses_fall(r: Results):
    for backbone in (BERT, ROBERTA):
        for method in METHODS:
            curve = r.curve("training_loss", backbone, method)
            fall = minus(curve.iloc[0], curve.iloc[-1]) if len(curve) else None
            yield Claim(f"fall ({backbone}, {method})", fall, low=0)


def full_roberta_overfits(r: Results):
    losses = {m: r.curve("training_loss", ROBERTA, m) for m in METHODS}
    last = {m: curve.iloc[-1] if len(curve) else pd.Series(dtype=float) for m, curve in losses.items()}
    for method in EFFICIENT:
        yield Claim(f"last loss, {method} {MINUS} full", minus(last[method], last["full"]), low=0)
    gap = minus(r.score(ROBERTA, "full"), r.score(ROBERTA, "bitfit"))
    yield Claim(f"score, full {MINUS} bitfit, within 0.02", gap, -0.02, 0.02)


def bitfit_leads(r: Results):
    for backbone in (BERT, ROBERTA):
        yield from over(r.score, [(backbone, m) for m in EFFICIENT if m != "bitfit"], (backbone, "bitfit"))


def prompt_is_lowest(r: Results):
    for backbone in (BERT, ROBERTA):
        for method in EFFICIENT:
            if method != "prompt":
                yield from over(r.score, [(backbone, "prompt")], (backbone, method))


def others_than(backbone: str, method: str) -> list[tuple[str, str]]:
    return [(b, m) for b in (BERT, ROBERTA) for m in METHODS if (b, m) != (backbone, method)]


def full_roberta_converges_first(r: Results):
    for other in others_than(ROBERTA, "full"):
        yield from over(r.epochs_to_converge, [(ROBERTA, "full")], other)


def embeddings_roberta_converges_last(r: Results):
    yield from over(r.epochs_to_converge, others_than(ROBERTA, "embeddings"), (ROBERTA, "embeddings"))


def selective_starts_lower(r: Results):
    def first(backbone, method):
        curve = r.held_out(backbone, method)
        return curve.iloc[0] if len(curve) else pd.Series(dtype=float)

    for backbone in (BERT, ROBERTA):
        yield from over(first, [(backbone, "embeddings"), (backbone, "encoder")], (backbone, "full"))


def roberta_takes_two_to_three_times(r: Results):
    for method in METHODS:
        ratio = r.seconds(ROBERTA, method) / r.seconds(BERT, method)
        # Their seconds are whole numbers: 2 to 3 times is read as 1.5 to 3.5.
        yield Claim(f"ratio ({method})", mean(ratio), 1.5, 3.5)


def selective_is_faster(r: Results):
    for backbone in (BERT, ROBERTA):
        yield from over(r.seconds, [(backbone, "embeddings"), (backbone, "encoder")], (backbone, "full"))


def bitfit_is_fastest(r: Results):
    for backbone in (BERT, ROBERTA):
        for method in METHODS:
            if method != "bitfit":
                yield from over(r.seconds, [(backbone, "bitfit")], (backbone, method))


def bitfit_trains_least(r: Results):
    def trained(backbone, method):
        return r.column("method_parameters", backbone, method)

    for backbone in (BERT, ROBERTA):
        for method in METHODS:
            if method != "bitfit":
                yield from over(trained, [(backbone, "bitfit")], (backbone, method), difference=counted)


def roberta_needs_memory(r: Results):
    for method in METHODS:
        yield from over(r.memory, [(BERT, method)], (ROBERTA, method), difference=counted)


def bitfit_roberta_beats_embeddings_bert(r: Results):
    yield from over(r.seconds, [(ROBERTA, "bitfit")], (BERT, "embeddings"), "seconds, ")
    loss = minus(drop(r, BERT, "embeddings"), drop(r, ROBERTA, "bitfit"))
    yield Claim(f"loss by less data, tinybert embeddings {MINUS} tinyroberta bitfit", loss, low=0)


def encoder_overtakes_embeddings(r: Results):
    for method, other, split in (("embeddings", "encoder", MANY), ("encoder", "embeddings", FEW)):
        gap = minus(r.score(BERT, method, split), r.score(BERT, other, split))
        yield Claim(f"{method} {MINUS} {other} at {split}", gap, low=0)


def prompt_loses_little(r: Results):
    for backbone in (BERT, ROBERTA):
        loss = minus(r.score(backbone, "prompt", MANY), r.score(backbone, "prompt", FEW))
        yield Claim(f"loss ({backbone}), below 0.05", loss, high=0.05)


def embeddings_are_nearly_as_good(r: Results):
    for backbone in (BERT, ROBERTA):
        gap = minus(r.score(backbone, "full"), r.score(backbone, "embeddings"))
        yield Claim(f"full {MINUS} embeddings ({backbone}), below 0.04", gap, high=0.04)
        yield from over(r.memory, [(backbone, "embeddings")], (backbone, "full"), "MB, ", counted)


def bitfit_depends_on_backbone(r: Results):
    yield from over(r.score, [(BERT, "bitfit")], (ROBERTA, "bitfit"))


FINDINGS: dict[str, list[tuple[str, str, Check]]] = {
    "course-report": [
        ("full-is-best", "Training everything scores best on both backbones.", full_is_best),
        ("losses-fall", "The training loss falls with every method.", losses_fall),
        ("full-overfits", "On TinyRoBERTa, training everything reaches by far the lowest training loss, yet scores "
         "no better than BitFit.", full_roberta_overfits),
        ("bitfit-leads", "BitFit scores best among the efficient methods.", bitfit_leads),
        ("prompt-is-lowest", "Prompt tuning with 20 tokens scores lowest among the efficient methods.",
         prompt_is_lowest),
        ("full-converges-first", "TinyRoBERTa trained in full converges in the fewest epochs of all.",
         full_roberta_converges_first),
        ("embeddings-converge-last", "TinyRoBERTa with its embeddings trained converges in the most epochs of all.",
         embeddings_roberta_converges_last),
        ("selective-starts-lower", "Training a part of the layers starts from a lower score than training all.",
         selective_starts_lower),
        ("time-ratio", "An epoch of TinyRoBERTa takes two to three times as long as one of TinyBERT.",
         roberta_takes_two_to_three_times),
        ("selective-is-faster", "Training a part of the layers takes less time than training all.",
         selective_is_faster),
        ("bitfit-is-fastest", "BitFit takes the least time on both backbones.", bitfit_is_fastest),
        ("bitfit-trains-least", "BitFit trains the fewest parameters.", bitfit_trains_least),
        ("roberta-needs-memory", "TinyRoBERTa needs more memory than TinyBERT.", roberta_needs_memory),
        ("best-choice", "TinyRoBERTa with BitFit is faster than TinyBERT with its embeddings trained, and loses less "
         "when there is less data.", bitfit_roberta_beats_embeddings_bert),
        ("encoder-overtakes", "On TinyBERT, training the encoder falls behind training the embeddings with much data "
         "and overtakes it with little.", encoder_overtakes_embeddings),
        ("prompt-loses-little", "Prompt tuning loses little when there is less data.", prompt_loses_little),
        ("embeddings-suffice", "Training the embeddings scores nearly as well as training everything, with less "
         "memory.", embeddings_are_nearly_as_good),
        ("bitfit-depends", "BitFit depends on the backbone: it scores higher on TinyRoBERTa than on TinyBERT.",
         bitfit_depends_on_backbone),
    ]
}  # fmt: skip


def check(name: str, runs: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return finding, sentence, verdict (holds, fails, undecided) and evidence for each finding of a publication."""
    results = Results(runs, epochs)
    rows = []
    for finding, sentence, test in FINDINGS[name]:
        claims = list(test(results))
        rows.append((finding, sentence, verdict(claims), evidence(claims)))
    return pd.DataFrame(rows, columns=["finding", "sentence", "verdict", "evidence"])
