"""The tables of what runs cost, and of where their seconds went."""

from types import SimpleNamespace

from peftstudy.report import bargains
from peftstudy.report.captions import mixed, rule
from peftstudy.report.latex import (
    absent,
    amount,
    count,
    escape,
    floating,
    group,
    share,
    tabular,
)
from peftstudy.report.views import backbones, first_splits, of
from peftstudy.study import Study


def costs(tables: SimpleNamespace, study: Study, methods) -> str:
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
        f"must be kept for the task besides the backbone. {bargains.energy(tables.runs)} "
        r"$^{\star}$: on the Pareto front; no other method scores "
        "higher for as little of it, or as high for less."
    )
    lines = r"\cmidrule(lr){2-4}\cmidrule(lr){5-7}"
    return floating(tabular("lrrrrrrrrr" + "r" * has_energy, header, rows, lines), caption, "costs")


def seconds(tables: SimpleNamespace, study: Study, methods) -> str:
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
