"""The tables of the report: what was compared, and which file each table is."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from peftstudy import searching, seeds, statistics, tasks
from peftstudy.evidence.places import sized
from peftstudy.families import FAMILIES, MASKED
from peftstudy.files import write_text
from peftstudy.report import (
    checklists,
    cost_tables,
    efficiency_tables,
    epoch_tables,
    evidence_tables,
    replication,
    result_tables,
    searches,
    spread_tables,
)
from peftstudy.report.latex import NONE, absent, amount, count, escape, floating, rate, score, share, shortened, tabular
from peftstudy.report.views import selection_rule
from peftstudy.specs import MethodSpec, Training, several
from peftstudy.study import Study
from peftstudy.wording import listed

Citations = Mapping[str, tuple[str, str]]
"""Registered method -> the key of its citation (or nothing) and what it trains, in a sentence."""

PARTS = ["train", "validation", "test"]


def data(tables: SimpleNamespace, study: Study) -> str:
    """Return the table of splits: examples by part, classes, and the duplicates that were kept out."""
    rows = []
    for (dataset, split), parts in tables.splits.groupby(["dataset", "split"], sort=False):
        parts = parts.set_index("part")
        sizes = [count(parts.examples.get(part)) for part in PARTS]
        train = parts.loc["train"] if "train" in parts.index else parts.iloc[0]
        rows.append([
            escape(dataset), escape(split), *sizes, count(train.classes),
            NONE if absent(train.classes) else f"{count(train.smallest_class)} to {count(train.largest_class)}",
            count(parts.duplicates_removed.get("test")),
        ])  # fmt: skip
    header = [["dataset", "split", *PARTS, "classes", "examples a class", "duplicates"]]
    caption = (
        "Data. Splits are named by the percentages for training and for test, or by the number of examples for "
        f"training; validation is {share(study.validation)} of the training part. Duplicates: texts that occur on "
        "both sides and were kept out of test. Examples a class: the smallest and the largest class in training."
    )
    return floating(tabular("llrrrrlr", header, rows), caption, "data")


def tokens(tables: SimpleNamespace, study: Study) -> str:
    """Return the table of how long the texts are for each tokenizer, and how many were cut."""
    rows = [
        [escape(row.dataset), escape(row.backbone), count(row.examples), amount(row.mean_tokens),
         count(row.max_length), share(row.truncated_share)]
        for row in tables.tokens.itertuples()
    ]  # fmt: skip
    header = [["dataset", "backbone", "examples", "mean tokens", "longest allowed", "cut"]]
    caption = "Tokens. Mean length before cutting, and the share of examples that were cut."
    return floating(tabular("llrrrr", header, rows), caption, "tokens")


def backbones(tables: SimpleNamespace, study: Study) -> str:
    """Return the table of the backbones: shape, origin and pre-training."""
    rows, asked = [], {name: spec.pretrain for name, spec in study.backbones.items() if spec.pretrain}
    held_out = any(own.validation for own in asked.values())
    for row in tables.backbones.itertuples():
        origin = NONE if absent(row.origin) else shortened(row.origin, 44)
        if not absent(row.revision):
            origin += rf" ({escape(str(row.revision)[:10])})"
        rows.append([
            escape(row.backbone), escape(row.family), count(row.parameters), origin, count(row.pretraining_steps),
            count(row.pretraining_tokens), amount(row.pretraining_seconds), score(row.pretraining_loss, 2),
            *([score(row.pretraining_validation_loss, 2)] if held_out else []),
        ])  # fmt: skip
    header = [
        ["", "", "", "", rf"\multicolumn{{{4 + held_out}}}{{c}}{{pre-training}}"],
        ["backbone", "family", "parameters", "origin", "steps", "tokens", "seconds", "loss"],
    ]
    objectives = dict.fromkeys(FAMILIES[own.family].objective for own in asked.values()) or {MASKED: None}
    caption = (
        f"Backbones. Parameters are counted without the head. Pre-training is by {listed(objectives)}; a dash "
        "stands where it was done elsewhere or not at all. Loss: the mean over the last 100 steps on the training "
        f"text, in nats a {'hidden' if {*objectives} == {MASKED} else 'predicted'} token."
    )
    if held_out:
        header[1].append("held-out loss")
        caption += " Held-out loss: that of texts which were kept out of the training."
    if predicting := [name for name, own in asked.items() if own.bag_of_words]:
        caption += (
            f" {listed(predicting)}: in pre-training the first token, which the head reads, also predicts the words "
            r"of its block \citep{ma2024drop}."
        )
    alignment, rule = "llrlrrrr" + "r" * held_out, rf"\cmidrule(l){{5-{8 + held_out}}}"
    return floating(tabular(alignment, header, rows, rule), caption, "backbones")


def method_table(tables: SimpleNamespace, study: Study) -> str:
    """Return the table of methods: what each trains, its source, and how its learning rate came about."""
    rows = []
    for name, spec in study.methods.items():
        citation, description = tables.cited.get(spec.method, ("", ""))
        used = sorted(tables.runs[tables.runs.method == name].learning_rate.dropna().unique())
        options = "; ".join(f"{key} {value}" for key, value in spec.settings.items())
        rows.append([
            escape(name), escape(description.rstrip(".")) + (f" ({escape(options)})" if options else ""),
            rf"\citet{{{citation}}}" if citation else NONE,
            ", ".join(rate(value) for value in used) or NONE, origin_of_rate(study, spec),
        ])  # fmt: skip
    columns = "l" + "".join(rf">{{\raggedright\arraybackslash}}p{{{width}in}}" for width in (1.75, 1.25, 0.85, 0.8))
    besides = "" if writing(study) == {True} else ", besides the head"
    header = [["method", f"trains{besides}", "source", "learning rate", "chosen"]]
    rate_rule = f" {searches.rule(study)}" if searching.searched(study) else ""
    head = " The head, freshly initialised, is trained with every method." if besides else ""
    if len(writing(study)) == 2:
        head += " Where texts are written there is none."
    caption = f"Methods.{head}{rate_rule}"
    return floating(tabular(columns, header, rows), caption, "methods")


def writing(study: Study) -> set[bool]:
    """Return whether the study's tasks write texts, by the backbone's own output layer, and need no head."""
    return {tasks.create(dataset.task).writes for dataset in study.datasets.values()}


def settings(tables: SimpleNamespace, study: Study) -> str:
    """Return the table of the budget, which is one for all methods."""
    shape = study.training
    own = [name for name, dataset in study.datasets.items() if dataset.training]
    limits = sorted({study.max_length(dataset.name, backbone.name) for dataset, _, backbone, _ in study.cells()})
    rows = [
        *([["budget of a run", budget(shape)]] if len(own) < len(study.datasets) else []),
        *([rf"budget of a run on {escape(name)}", budget(study.budget(name))] for name in own),
        ["examples a step", str(shape.batch_size)],
        ["tokens an example, at most", listed([str(limit) for limit in limits])],
        ["optimizer", rf"AdamW \citep{{loshchilov2019adamw}}, weight decay {shape.weight_decay:g}"],
        ["schedule", f"linear warm-up over {share(shape.warmup)} of the steps, then linear decay to zero"],
        ["gradients", f"cut to length {shape.gradient_norm:g}"],
        ["precision", escape(shape.precision)],
        ["seeds", escape(seeds.said(study.seeds))],
        ["reported model", selection_rule(study)],
    ]
    caption = "Settings, the same for every method."
    return floating(tabular("ll", [["setting", "value"]], rows), caption, "settings")


def budget(shape: Training) -> str:
    """Return how long a run trains."""
    if shape.seconds:
        return f"as many steps as fit {shape.seconds:g} seconds of training, by a trial of each method"
    length = f"{shape.steps} steps" if shape.steps else f"{shape.epochs} epochs"
    return length + (f", at least {shape.minimum_steps} steps" if shape.minimum_steps else "")


def origin_of_rate(study: Study, spec: MethodSpec) -> str:
    asked = spec.learning_rate or study.training.learning_rate
    return f"search of {len(asked)}" if several(asked) else "beforehand"


MADE = {
    "data": data,
    "tokens": tokens,
    "backbones": backbones,
    "methods": method_table,
    "settings": settings,
    "searches": epoch_tables.searches,
    "scores": result_tables.scores,
    "differences": result_tables.differences,
    "overall": evidence_tables.overall,
    "efficiency": efficiency_tables.table,
    "crossings": efficiency_tables.crossings,
    "power": evidence_tables.power,
    "spread": spread_tables.table,
    "predictions": evidence_tables.predictions,
    "claims": evidence_tables.claims,
    "pretraining": result_tables.pretraining,
    "best-under": cost_tables.best_under,
    "costs": cost_tables.costs,
    "seconds": cost_tables.seconds,
    "metrics": result_tables.every_metric,
    "signatures": result_tables.signatures,
    "failures": result_tables.failures,
    "losses": evidence_tables.losses,
    "epochs": epoch_tables.epochs,
    "checklist": checklists.table,
    "replication-scores": replication.scores,
    "replication-figures": replication.figures,
    "replication-parameters": replication.parameters,
}


def kinds(study: Study) -> list[str]:
    """Return which tables a study has, judged by what it asks for."""
    absent_ones = set()
    if not searching.searched(study):
        absent_ones.add("searches")
    if not any(statistics.random_twins(study).values()):
        absent_ones.add("pretraining")
    sizes = max(len(sized(study, dataset)) for dataset in study.datasets)
    if not study.reference or sizes < 2:
        absent_ones.add("efficiency")
    if len(study.methods) < 2 or sizes < 2:
        absent_ones.add("crossings")
    if len(study.seeds) < 2:
        absent_ones.add("spread")
    if not study.reference:
        absent_ones |= {"differences", "power", "predictions"}
    absent_ones |= set(replication.TABLES) - set(replication.kinds(study))
    if not any(tasks.create(dataset.task).comparable for dataset in study.datasets.values()):
        absent_ones.add("signatures")
    if not study.claims and not study.replicates:
        absent_ones.add("claims")
    return [kind for kind in MADE if kind not in absent_ones]


def names(study: Study) -> list[str]:
    """Return the files that `write` makes for a study."""
    return [f"{kind}.tex" for kind in kinds(study)]


def load(metrics: Path, statistics_folder: Path, study: Study, reported: Path) -> SimpleNamespace:
    """Return every table that the report draws on, by name; `reported` holds the published figures' folders."""
    files = ("runs", "epochs", "baselines", "splits", "tokens", "backbones", "searches")
    loaded: dict[str, pd.DataFrame] = {name: statistics.read(metrics / f"{name}.csv") for name in files}
    loaded |= {name: statistics.read(statistics_folder / f"{name}.csv") for name in statistics.STATISTICS}
    published = replication.read(reported, study.replicates) if study.replicates else None
    return SimpleNamespace(**loaded, published=published)


def write(
    metrics: Path, statistics_folder: Path, output: Path, study: Study, methods: Citations,
    reported: Path = Path("paper/reported"),
) -> None:  # fmt: skip
    """Write the study's tables into `output`.

    methods: registered method -> (citation key, what it trains). reported: where the published figures
    of replicated studies lie, a folder each.
    """
    tables = load(metrics, statistics_folder, study, reported)
    tables.cited = methods
    for kind in kinds(study):
        write_text(output / f"{kind}.tex", MADE[kind](tables, study))
