"""Two invented studies and the metrics that a pipeline could have left for them, from a seed."""

from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from peftstudy import seeds, statistics
from peftstudy.configuration import from_config
from peftstudy.study import Study

SHAPE = {"hidden_size": 128}
PRETRAIN = {"shape": SHAPE, "tokenizer": {"vocabulary": 8192}, "corpus": {"docstrings": "text"}, "steps": 2000}
QUALITY = {
    "full": 0.68, "embeddings": 0.62, "encoder": 0.655, "head": 0.46, "bitfit": 0.55, "prompt": 0.50,
    "lora": 0.66, "houlsby": 0.645,
}  # fmt: skip
TRAINED = {
    "full": 1_465_088, "embeddings": 1_068_544, "encoder": 396_544, "head": 0, "bitfit": 3_072,
    "prompt": 2_560, "lora": 16_384, "houlsby": 25_344,
}  # fmt: skip
SECONDS = {
    "full": 30.0, "embeddings": 27.0, "encoder": 24.0, "head": 12.0, "bitfit": 19.0, "prompt": 26.0,
    "lora": 23.0, "houlsby": 24.5,
}  # fmt: skip
METHODS = {
    name: (citation, description)
    for name, citation, description in [
        ("full", "devlin2019bert", "Train every parameter."),
        ("embeddings", "", "Train the embedding layers alone."),
        ("encoder", "lee2019elsa", "Train the encoder layers alone."),
        ("head", "", "Train the head alone, on a frozen body."),
        ("bitfit", "benzaken2022bitfit", "Train the bias terms alone."),
        ("prompt", "lester2021prompt", "Train vectors that stand before the text."),
        ("lora", "hu2022lora", "Train low-rank updates of the attention weights."),
        ("houlsby", "houlsby2019adapter", "Train two bottlenecks in each layer."),
    ]
}


def default_study(**changes) -> Study:
    """A study like the default one: three backbones (one random), eight methods, five splits, three seeds."""
    config = {
        "study": "default",
        "title": "Which adaptation is worth its cost?",
        "question": "Which way of adapting a tiny encoder tells best which library a docstring documents?",
        "sources": {"docstrings": {"kind": "docstrings"}},
        "datasets": {"libraries": {"source": "docstrings", "task": "classification", "text": "text", "label": "library",
                                   "examples": 6000, "max_length": 64}},
        "splits": ["90-10", "30-70", "size-300", "size-900", "size-2700"],
        "backbones": {
            "bert-tiny": {"pretrain": PRETRAIN | {"family": "bert"}},
            "roberta-tiny": {"pretrain": PRETRAIN | {"family": "roberta"}, "splits": ["90-10", "30-70"]},
            "bert-tiny-random": {"random": "bert-tiny", "methods": ["full", "head", "bitfit"], "splits": ["90-10"]},
        },
        "methods": {name: {} for name in METHODS} | {"bitfit": {"learning_rate": [1e-3, 3e-3, 1e-2]}},
        "reference": "full",
        "seeds": [0, 1, 2],
        "training": {"epochs": 4, "batch_size": 32, "learning_rate": 5e-4},
    }  # fmt: skip
    return from_config(config | changes)


def course_study(**changes) -> Study:
    """A study like the replication of the course report: two backbones, five methods, two splits, ten epochs."""
    config = {
        "study": "imdb",
        "title": "A course report, replicated",
        "question": "Do the findings of the course report hold over seeds?",
        "replicates": "course-report",
        "sources": {"reviews": {"kind": "files", "path": "reviews", "files": {"all": "a.csv"}}},
        "datasets": {"imdb": {"source": "reviews", "task": "classification", "text": "text", "label": "label"}},
        "splits": ["90-10", "30-70"],
        "backbones": {name: {"pretrain": PRETRAIN | {"family": family}}
                      for name, family in [("tinybert", "bert"), ("tinyroberta", "roberta")]},
        "methods": {name: {} for name in ("full", "embeddings", "encoder", "prompt", "bitfit")},
        "reference": "full",
        "seeds": [0, 1, 2],
        "training": {"epochs": 10, "learning_rate": 5e-4, "test_curve": True},
    }  # fmt: skip
    return from_config(config | changes)


def write_metrics(folder: Path, study: Study, seed: int = 0, flaws: bool = True) -> Path:
    """Write the seven CSVs; with `flaws`, one run collapsed, one diverged, one failed and one is missing."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    runs, epochs = [], []
    for run in study.runs():
        row, history = one_run(study, run, rng)
        runs.append(row)
        epochs += history
    runs, epochs = pd.DataFrame(runs), pd.DataFrame(epochs)
    if flaws:
        runs, epochs = spoil(study, runs, epochs)
    tables = {"runs": runs, "epochs": epochs, **small_tables(study, rng)}
    for name, frame in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.8g")
    return folder


def examples(split: str) -> tuple[int, int]:
    """Examples for training (validation included) and for test, of 6,000."""
    if split.startswith("size-"):
        return int(split[5:]), 600
    share = int(split.split("-")[0])
    return 60 * share, 6000 - 60 * share


def checksum(*names: str) -> str:
    return sha256("/".join(names).encode()).hexdigest()


def one_run(study, run, rng):
    train, test = examples(run.split)
    random = bool(study.backbones[run.backbone].random)
    wide = "roberta" in run.backbone
    top = QUALITY[run.method] - 0.035 * np.log(5400 / train) + 0.02 * wide - (0.12 if random else 0)
    top = float(np.clip(top + rng.normal(0, 0.006), 0.12, 0.99))
    total = study.training.epochs
    seconds = SECONDS[run.method] * train / 5400 * (2.5 if wide else 1) * total / 4
    history = []
    for epoch in range(1, total + 1):
        reach = 1 - 0.35 * np.exp(-0.9 * (epoch - 1) - 0.2)
        history.append({
            "dataset": run.dataset, "split": run.split, "backbone": run.backbone, "method": run.method,
            "seed": run.seed, "epoch": epoch, "step": epoch * int(np.ceil(0.9 * train / 32)),
            "training_loss": round(2.3 - 1.9 * top * reach, 4), "validation_loss": round(2.3 - 1.7 * top * reach, 4),
            "validation_score": round(top * reach + rng.normal(0, 0.006), 4),
            "test_score": round(top * reach, 4) if study.training.test_curve else None,
            "training_seconds": seconds / total * (1 + rng.normal(0, 0.02)),
        })  # fmt: skip
    factor = 3 if wide else 1
    row = {
        "dataset": run.dataset, "split": run.split, "backbone": run.backbone, "method": run.method,
        "seed": run.seed, "task": run.task, "metric": "accuracy", "status": "finished", "reason": None,
        "collapsed": "false", "test_score": round(top, 4), "test_accuracy": round(top, 4),
        "test_f1_macro": round(top - 0.01, 4), "test_mcc": round(top - 0.04, 4), "test_loss": 2.3 - 1.7 * top,
        "best_epoch_score": round(top, 4) + 0.005 if study.training.test_curve else None,
        "validation_score": history[-1]["validation_score"], "validation_loss": history[-1]["validation_loss"],
        "learning_rate": 3e-3 if run.method == "bitfit" else 5e-4, "epochs": total, "chosen_epoch": total,
        "select": study.training.select, "steps": history[-1]["step"], "train_examples": round(0.9 * train),
        "validation_examples": round(0.1 * train), "test_examples": test,
        "method_parameters": TRAINED[run.method] * factor, "head_parameters": 1_290,
        "backbone_parameters": TRAINED["full"] * factor,
        "stored_bytes": 4 * (TRAINED[run.method] * factor + 1_290) + 900, "setup_seconds": 0.4,
        "training_seconds": sum(row["training_seconds"] for row in history), "evaluation_seconds": 0.1 * seconds,
        "forward_seconds": 0.35 * seconds, "backward_seconds": 0.5 * seconds, "optimizer_seconds": 0.1 * seconds,
        "test_seconds": 0.5, "examples_per_second": 0.9 * train * total / seconds,
        "tokens_per_second": 40 * train * total / seconds, "peak_memory_bytes": 600_000_000 + 16 * TRAINED[run.method],
        "peak_device_memory_bytes": None, "device_joules": None, "processor_joules": None,
        "energy_absent": "no counter", "device": "cpu", "engine": "plain", "precision": "float32", "threads": 2,
        "micro_batch_size": 32, "protocol": 1,
        "commit": "0123456789abcdef0123456789abcdef01234567", "dirty": "false", "environment": "e" * 64,
        "data_sha256": checksum(run.dataset, run.backbone), "backbone_sha256": checksum(run.backbone),
    }  # fmt: skip
    return row, history


def spoil(study, runs, epochs):
    """Give a study its share of bad luck, always in the same places."""
    backbone = next(iter(study.backbones))
    place = (runs.split == study.splits[0]) & (runs.backbone == backbone)
    keep = ["dataset", "split", "backbone", "method", "seed", "task", "metric", "status", "reason", "collapsed"]
    blank = [column for column in runs if column not in keep]
    for method, seed, status, reason in [
        ("prompt", 0, "collapsed", None),
        ("embeddings", 1, "diverged", "the loss was NaN at step 40"),
        ("encoder", 2, "failed", "RuntimeError: out of memory"),
        ("bitfit", 1, "missing", "no record"),
    ]:
        run = place & (runs.method == method) & (runs.seed == seed)
        if status == "collapsed":
            runs.loc[run, ["collapsed", "test_score", "test_accuracy", "test_mcc"]] = ["true", 0.15, 0.15, 0.0]
            continue
        runs.loc[run, ["status", "reason", "collapsed"]] = [status, reason, None]
        runs.loc[run, blank] = None
        gone = (epochs.split == study.splits[0]) & (epochs.backbone == backbone)
        gone &= (epochs.method == method) & (epochs.seed == seed)
        if status == "diverged":
            # Such a run leaves the epochs before it diverged.
            epochs.loc[gone & (epochs.epoch == 1), "training_loss"] = 99.0
            gone &= epochs.epoch > 1
        epochs = epochs[~gone].copy()
    return runs, epochs


def small_tables(study, rng):
    splits, baselines = [], []
    for dataset, split in product(study.datasets, study.splits):
        train, test = examples(split)
        for part, count in [("train", round(0.9 * train)), ("validation", round(0.1 * train)), ("test", test)]:
            splits.append({"dataset": dataset, "split": split, "part": part, "examples": count, "classes": 10,
                           "smallest_class": count // 12, "largest_class": count // 7,
                           "duplicates_removed": {"train": 0, "validation": 3, "test": 12}[part]})  # fmt: skip
        for baseline, score in [("majority", 0.15), ("tfidf-logistic-regression", 0.79 - 0.05 * np.log(5400 / train))]:
            baselines.append({"dataset": dataset, "split": split, "baseline": baseline, "test_score": round(score, 4),
                              "test_accuracy": round(score, 4), "test_f1_macro": round(score - 0.02, 4),
                              "test_mcc": 0.0 if baseline == "majority" else round(score - 0.05, 4)})  # fmt: skip
    tokens, backbones = [], []
    for name, backbone in study.backbones.items():
        wide = "roberta" in name
        for dataset in study.datasets if not backbone.random else ():
            tokens.append({"dataset": dataset, "backbone": name, "examples": 6000, "mean_tokens": 27.4 + 3 * wide,
                           "max_length": 64, "truncated_share": 0.031})  # fmt: skip
        backbones.append({"backbone": name, "kind": backbone.kind, "family": "roberta" if wide else "bert",
                          "parameters": TRAINED["full"] * (3 if wide else 1),
                          "origin": f"pretrain: {name}" if backbone.pretrain else f"random: {backbone.random}",
                          "revision": None, "pretraining_steps": 2000 if backbone.pretrain else None,
                          "pretraining_tokens": 5_000_000 if backbone.pretrain else None,
                          "pretraining_seconds": 200.0 if backbone.pretrain else None,
                          "pretraining_loss": 4.21 if backbone.pretrain else None, "sha256": "b" * 64})  # fmt: skip
    searched = [name for name, method in study.methods.items() if isinstance(method.learning_rate, tuple)]
    searches = [
        {"dataset": dataset, "split": split, "backbone": backbone, "method": method, "learning_rate": rate,
         "validation_score": round(0.4 + 0.02 * place + rng.normal(0, 0.005), 4), "chosen": str(place == 1).lower()}
        for dataset, split, backbone, method in product(study.datasets, study.splits, study.backbones, searched)
        for place, rate in enumerate(study.methods[method].learning_rate)
    ]  # fmt: skip
    columns = ["dataset", "split", "backbone", "method", "learning_rate", "validation_score", "chosen"]
    return {
        "baselines": pd.DataFrame(baselines), "splits": pd.DataFrame(splits), "tokens": pd.DataFrame(tokens),
        "backbones": pd.DataFrame(backbones), "searches": pd.DataFrame(searches, columns=columns),
    }  # fmt: skip


def write_predictions(folder: Path, metrics: Path) -> Path:
    """Write predictions for the finished runs in `metrics`, as right as their scores say, easy examples first."""
    for number, row in enumerate(pd.read_csv(metrics / "runs.csv").itertuples()):
        if row.status != "finished":
            continue
        examples = int(row.test_examples)
        noise = np.random.default_rng(number).normal(0, 0.15, examples)
        order = np.argsort(np.linspace(0, 1, examples) + noise)
        predicted = np.ones(examples, dtype=int)
        predicted[order[: round(row.test_score * examples)]] = 0
        place = folder / row.dataset / row.split / row.backbone / row.method / f"seed-{row.seed}"
        place.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"label": 0, "predicted": predicted}).to_parquet(place / "predictions.parquet")
    return folder


def write_statistics(folder: Path, study: Study) -> Path:
    """Write the statistics of the metrics in folder/metrics into folder/statistics."""
    runs = write_predictions(folder / "runs", folder / "metrics")
    statistics.write(folder / "metrics", folder / "statistics", study, runs)
    return folder / "statistics"


def write_numbers(folder: Path, study: Study, published: Path) -> None:
    """Write the numbers of the report's text, paper/numbers.tex."""
    from peftstudy import files, paper

    files.write_text(folder / "paper" / "numbers.tex", paper.numbers(paper.load(folder, study, published), study))


def write_results(folder: Path, study: Study, published: Path, runs: pd.DataFrame | None = None) -> Path:
    """Write what the report's page is made from: metrics, statistics, tables, numbers, configuration, records.

    runs: instead of the invented ones, as metrics/runs.csv has them.
    """
    from peftstudy import files, tables

    metrics = write_metrics(folder / "metrics", study)
    if runs is not None:
        runs.to_csv(metrics / "runs.csv", index=False)
    write_statistics(folder, study)
    tables.write(metrics, folder / "statistics", folder / "tables", study, METHODS, published)
    write_numbers(folder, study, published)
    files.write_json(
        folder / "study.json",
        {"study": study.name, "folder": "/home/somebody/data", "seeds": [*map(seeds.plain, study.seeds)]},
    )
    made = {"python": "3.11.2", "packages": {"torch": "2.13.0+cpu"}, "machine": {"processor": "A processor"}}
    for row in pd.read_csv(metrics / "runs.csv").itertuples():
        place = folder / "runs" / row.dataset / row.split / row.backbone / row.method / f"seed-{row.seed}"
        if place.is_dir():
            files.write_sealed(place / "record.json", {"provenance": made})
    return folder
