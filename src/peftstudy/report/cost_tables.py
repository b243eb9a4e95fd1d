"""The tables of what runs cost, of where their seconds went, and of what to take when a cost is limited."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from peftstudy.evidence import bargains
from peftstudy.evidence.places import backbones, first_splits, of
from peftstudy.report.captions import mixed, rule
from peftstudy.report.latex import NONE, absent, amount, bounds, count, escape, floating, group, score, share, tabular
from peftstudy.study import Study


def costs(tables: SimpleNamespace, study: Study) -> str:
    """Return what a run of each method costs on its dataset's first split, means over the runs that finished."""
    has_energy = bool(bargains.joules(tables.scores).notna().any())
    rows: list[list[str] | str] = []
    for dataset in study.datasets:
        split = study.first_split(dataset)
        for backbone in backbones(study, split, dataset):
            here = of(tables.scores, dataset=dataset, split=split, backbone=backbone)
            rows += [r"\addlinespace"] if rows else []
            rows.append(
                group(escape(backbone if len(study.datasets) == 1 else f"{dataset}, {backbone}"), 10 + has_energy)
            )
            here = bargains.costed(here)
            unbeaten = {
                column: bargains.on_front(here[column], here.test_score)
                for column in ("trained", "training_seconds", "memory", "stored_bytes", "joules")
            }
            for index, row in here.iterrows():
                star = {column: r"$^{\star}$" if front[index] else "" for column, front in unbeaten.items()}
                rows.append([
                    escape(row.method) + ("" if absent(row.mixed) else " (m)"),
                    count(row.method_parameters) + star["trained"], count(row.head_parameters),
                    share(row.method_parameters / row.backbone_parameters),
                    amount(row.training_seconds) + star["training_seconds"], amount(row.evaluation_seconds),
                    amount(row.setup_seconds), count(row.examples_per_second),
                    count(row.memory / 1e6) + star["memory"], amount(row.stored_bytes / 1e3) + star["stored_bytes"],
                    *([amount(row.joules / 1e3) + star["joules"]] if has_energy else []),
                ])  # fmt: skip
    on_device = tables.scores.peak_device_memory_bytes.notna().any()
    header = [
        ["", r"\multicolumn{3}{c}{trained parameters}", r"\multicolumn{3}{c}{seconds}", "examples", "memory", "stored"],
        ["method", "method", "head", "share", "training", "evaluation", "set-up", "a second", "MB", "kB"],
    ]
    if has_energy:
        header = [[*line, name] for line, name in zip(header, ("energy", "kJ"), strict=True)]
    caption = (
        f"Costs of a run on {escape(first_splits(study))}, means over seeds. {rule(study)} {mixed(tables)}"
        "Share: the method's parameters of the "
        f"backbone's. Memory: the peak {'on the device' if on_device else 'resident in the process'}. Stored: what "
        f"must be kept for the task besides the backbone. {energy(tables.runs)} "
        r"$^{\star}$: on the Pareto front; no other method scores "
        "higher for as little of it, or as high for less."
    )
    lines = r"\cmidrule(lr){2-4}\cmidrule(lr){5-7}"
    return floating(tabular("lrrrrrrrrr" + "r" * has_energy, header, rows, lines), caption, "costs")


def seconds(tables: SimpleNamespace, study: Study) -> str:
    """Return what the seconds of a run went to on its dataset's first split, where that was measured."""
    parts = ["forward_seconds", "backward_seconds", "optimizer_seconds"]
    rows: list[list[str] | str] = []
    for dataset in study.datasets:
        split = study.first_split(dataset)
        for backbone in backbones(study, split, dataset):
            here = of(tables.scores, dataset=dataset, split=split, backbone=backbone).dropna(subset=parts)
            if len(here):
                rows += [r"\addlinespace"] if rows else []
                rows.append(group(escape(backbone if len(study.datasets) == 1 else f"{dataset}, {backbone}"), 7))
            for _, row in here.iterrows():
                rest = max(0.0, row.training_seconds - row[parts].sum())
                columns = [*row[parts], rest, row.evaluation_seconds, row.setup_seconds]
                rows.append([escape(row.method), *map(amount, columns)])
    if not rows:
        return (
            "What the seconds of training went to was not measured: older runs kept no record of it, and on a GPU it "
            "would take waiting for the device.\n"
        )
    caption = (
        f"Where the seconds of a run go on {escape(first_splits(study))}, means over seeds. Forward: batches and the "
        "model up to the loss; backward: gradients; optimizer: cutting them, the update, and what the method does "
        "after it; other: the rest of training, such as checkpoints. What trains little saves in the optimizer and in "
        "the gradients of weights, and pays the forward pass and the way back through the layers all the same."
    )
    header = [["method", "forward", "backward", "optimizer", "other", "evaluation", "set-up"]]
    return floating(tabular("lrrrrrr", header, rows), caption, "seconds")


def energy(runs: pd.DataFrame) -> str:
    """Return in a sentence what the joules of runs are of, or why there are none."""
    done = runs[runs.status == "finished"]
    known = bargains.joules(done).notna()
    if not known.any():
        why = ", ".join(sorted(done.energy_absent.dropna().unique())) or "the records do not say why"
        return f"Energy is not known ({escape(why)})."
    whose = (
        "the device"
        if done[known].peak_device_memory_bytes.notna().any()
        else "the processors, shared out by busy time"
    )
    of = "" if known.all() else f" of {count(known.sum())} of {count(len(known))} runs; the others have no count"
    return f"Energy: of training and evaluation, by the counters of {whose}{of}."


def best_under(tables: SimpleNamespace, study: Study) -> str:
    """Return which method to take under which limit, on their first split, a column for each dataset and backbone."""
    splits = {dataset: study.first_split(dataset) for dataset in study.datasets}
    places = [(dataset, backbone) for dataset, split in splits.items() for backbone in backbones(study, split, dataset)]
    cells = [bargains.costed(of(tables.scores, dataset=d, split=splits[d], backbone=b)) for d, b in places]
    cells_of = {place: found for place, found in zip(places, cells, strict=True) if len(found)}
    limits = [("none", "trained", np.inf)]
    limits += [(f"{name} at most {share(of_dearest)}", column, of_dearest)
               for name, (column, parts) in bargains.COSTS.items() for of_dearest in parts]  # fmt: skip
    floats = []
    for start in range(0, len(cells_of), 3):
        beside = list(cells_of.items())[start : start + 3]
        rows = [
            [name, *(_chosen(bargains.best_under(found, column, part)) for _, found in beside)]
            for name, column, part in limits
        ]
        rows = [row for row in rows if any(text != NONE for text in row[1:])] or rows[:1]
        heads = [escape(b if len(study.datasets) == 1 else f"{d}, {b}") for (d, b), _ in beside]
        label = f"best-under-{len(floats) + 1}" if floats else "best-under"
        body = tabular("l" * (1 + len(beside)), [["limit", *heads]], rows)
        floats.append(floating(body, _limits(study), label))
    return "\n".join(floats) or floating("No run has finished.", _limits(study), "best-under")


def _limits(study: Study) -> str:
    return (
        f"Which method to take on {escape(first_splits(study))} when a cost is limited to a share of what the dearest "
        r"method takes: the best mean among those that keep within it, with its 95\,\% interval. Methods that lost a "
        f"run, or collapsed in one, are not offered; limits that none keeps are left out. {rule(study)}"
    )


def _chosen(row: pd.Series | None) -> str:
    return NONE if row is None else f"{escape(row.method)} {score(row.test_score)} {bounds(row.low, row.high)}".rstrip()
