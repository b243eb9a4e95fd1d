"""What a subcommand of the workflow does: it opens the files, calls the stage, and says in a line what it made.

Heavy modules are imported where they are needed, so that the command line starts at once.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from peftstudy import configuration, devices, files, seeds, specs, stopping
from peftstudy.errors import StudyError
from peftstudy.study import Pack, Study


def resolve(config: str, output: Path) -> None:
    files.write_json(output, json.loads(config), sort_keys=False)  # the order in which reports name things


def source(spec: str, output: Path, manifest: Path) -> str:
    from peftstudy import sources

    sources.read_source(specs.parse(specs.Source, spec), output, manifest)
    return f"{output}, {files.read_json(manifest)['rows']} rows"


def examples(spec: str, table: Path, data_seed: int, output: Path, tested: list[Path]) -> str:
    import pandas as pd

    from peftstudy import examples

    found, report = examples.read_examples(specs.parse(specs.Dataset, spec), table, data_seed)
    for other in tested:
        about = files.read_json(other.with_suffix(".json"))
        found, report = examples.borrow(found, report, pd.read_parquet(other), about)
    examples.write_examples(found, report, output)
    return f"{output}, {len(found)} examples" + (f" of {len(report['labels'])} labels" if report["labels"] else "")


def split(name: str, examples: Path, validation: float, data_seed: int, output: Path, tested: list[Path]) -> str:
    import pandas as pd

    from peftstudy import splits

    parts = [splits.load_part(path) for path in tested]
    about, rows = files.read_json(examples.with_suffix(".json")), pd.read_parquet(examples)
    rows.attrs["labels"] = about["labels"]
    try:
        found = splits.cut(rows, name, validation, data_seed, *parts)
    except StudyError as error:
        raise StudyError(f"datasets.{about['dataset']}: {error}") from None
    splits.write_split(found, output, examples)
    return f"{output}, " + ", ".join(f"{part} {size}" for part, size in found.report["sizes"].items())


def tokenize(examples: Path, backbone: Path, max_length: int, output: Path) -> str:
    # A tokenizer wants none of the models that transformers brings along with torch: four fifths of the start.
    os.environ |= {"USE_TORCH": "0", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}
    from peftstudy import tokens

    tokens.write(examples, backbone, max_length, output)
    about = files.read_json(output / "tokens.json")
    return f"{output}, {about['mean_tokens']:.1f} tokens an example, {about['truncated_share']:.1%} cut"


def backbone(spec: str, output: Path, **inputs: Any) -> str:
    from peftstudy import making

    asked = specs.parse(specs.Backbone, spec)
    if asked.pretrain:
        stopping.listen()
    manifest = making.make(asked, output, **inputs)
    return f"{output}, {manifest['parameters']:,} parameters"


def train(
    runs: str, train: Path, validation: Path, checkpoint_seconds: float, keep_weights: list[str], **folders: Path
) -> str | None:
    from peftstudy import runs as stage

    stopping.listen()
    inputs = stage.Inputs(**folders, device=devices.process_device(), checkpoint_seconds=checkpoint_seconds)
    with devices.together(inputs.device):
        if devices.number() > 0:
            with suppress(stopping.Stopped):  # the first process says so
                stage.follow(inputs, train, validation)
            return None
        records = stage.train_pack(Pack.runs_from_json(runs), inputs, train, validation, keep_weights)
    return _outcome(inputs.output, records)


def evaluate(runs: str, test: Path, keep_weights: list[str], **folders: Path) -> str:
    from peftstudy import evaluation
    from peftstudy.building import Inputs

    inputs = Inputs(**folders, device=devices.process_device())
    scored = evaluation.evaluate_pack(Pack.runs_from_json(runs), inputs, test, keep_weights)
    return f"{inputs.output}, {len(scored)} runs scored on test"


def _outcome(output: Path, records: list[Any]) -> str:
    failed = [record for record in records if record["status"] != "finished"]
    said = f"{output}, {len(records)} runs"
    for record in failed:
        asked = record["asked"]
        said += f"\n  {asked['method']}, seed {seeds.seed(asked['seed'])}: {record['status']}: {record['reason']}"
    return said


def baseline(examples: Path, split: Path, output: Path) -> str:
    import numpy as np
    import pandas as pd

    from peftstudy import baselines, tasks

    parts = {part: np.load(split / f"{part}.npy") for part in ("train", "validation", "test")}
    about = files.read_json(examples.with_suffix(".json"))
    task = tasks.create(about["task"], metric=about.get("metric"))
    rows = baselines.score_baselines(pd.read_parquet(examples), parts, task, about["labels"])
    files.write_json(output, rows)
    return f"{output}, " + ", ".join(f"{row['baseline']} {row['test_score']:.3f}" for row in rows)


def load_study(path: Path) -> Study:
    return configuration.from_config(files.read_json(path))


def collect(study: Path, results: Path, output: Path) -> str:
    from peftstudy import metrics

    asked = load_study(study)
    metrics.write(asked, results, output)
    rows = metrics.read_rows(output / "runs.csv")
    missing = [row for row in rows if row["status"] != "finished"]
    names = ["/".join(row[key] for key in metrics.KEYS) + f": {row['status']}: {row['reason']}" for row in missing]
    return f"{output}, {len(rows)} runs, {len(missing)} of them without a score" + "".join(
        f"\n  {name}" for name in names
    )


def compare(study: Path, results: Path) -> str:
    from peftstudy import statistics

    statistics.write(results / "metrics", results / "statistics", load_study(study), results / "runs")
    return str(results / "statistics")


def draw(study: Path, results: Path, output: Path) -> str:
    from peftstudy import figures

    with files.whole_folder(output) as folder:
        figures.write(results / "metrics", results / "statistics", folder, load_study(study))
        return f"{output}, {len(list(folder.iterdir()))} figures"


def tabulate(study: Path, results: Path, output: Path) -> str:
    from peftstudy import methods, tables

    asked = load_study(study)
    found = {spec.method: methods.create(spec.method, spec.options) for spec in asked.methods.values()}
    described = {name: (method.citation, method.trains) for name, method in found.items()}
    with files.whole_folder(output) as folder:
        tables.write(results / "metrics", results / "statistics", folder, asked, described)
        return f"{output}, {len(list(folder.iterdir()))} tables"


def number(study: Path, results: Path, output: Path, headline: Path) -> str:
    from peftstudy import paper

    asked = load_study(study)
    data = paper.load(results, asked)
    files.write_text(output, paper.numbers(data, asked))
    files.write_text(headline, f"{paper.headline(results, data, asked)}\n")
    return str(output)


def page(study: Path, results: Path, output: Path) -> str:
    from peftstudy.report import page

    page.write(results, load_study(study), output)
    return f"{output}, {output.stat().st_size / 1e6:.1f} MB"


def typeset(study: Path, results: Path, output: Path) -> str:
    from peftstudy import paper

    paper.typeset(Path("paper"), results, output, load_study(study))
    return str(output)


def archive(study: Path, results: Path, output: Path) -> str:
    from peftstudy import archive

    manifest = archive.write(load_study(study), results, output)
    size = sum(entry["bytes"] for entry in manifest["files"])
    return f"{output}, {manifest['runs']} runs, {size / 1e6:.1f} MB"


def unpack(archive: Path, output: Path) -> str:
    from peftstudy import archive as stage

    stage.check(archive)
    runs = stage.unpack(archive, configuration.from_config(stage.configuration(archive)), output)
    return f"{output}, {runs} runs"
