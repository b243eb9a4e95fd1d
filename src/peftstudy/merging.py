"""Archives of one study, made on several machines with seeds, backbones or methods of their own, as one archive."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from peftstudy import archive, configuration, files, metrics, seeds
from peftstudy.archive import Contents
from peftstudy.errors import StudyError
from peftstudy.evidence import mixtures
from peftstudy.study import Study

FREE = ("seeds", "folder", "workflow")
"""What archives of one study may say each for itself; the first one's workflow stays."""
UNITED = ("backbones", "methods")
"""Of what each archive may have entries of its own; an entry of several is the same in all."""


def merge(folders: Sequence[Path], output: Path) -> dict[str, Any]:
    """Write the runs of several archives into one; return its manifest.

    A run that stands in several must be the same in all. Raises StudyError when an archive is damaged, is of
    another configuration or of other data, or when the study is strict and the runs mix machines or versions.
    """
    if len(folders) < 2:
        raise StudyError(f"merge: found {len(folders)} archive, want two or more.")
    files.refuse_existing(output)
    for folder in folders:
        archive.check(folder)
    contents = {folder: archive.read(folder) for folder in folders}
    config = _configuration({folder: each.config for folder, each in contents.items()})
    study = configuration.from_config(config)
    merged = Contents(
        config,
        _about({folder: each.about for folder, each in contents.items()}),
        _runs({folder: each.records for folder, each in contents.items()}, _same_texts),
        _runs({folder: each.histories for folder, each in contents.items()}, _equal),
        _runs({folder: each.answers for folder, each in contents.items()}, _equal),
    )
    _refuse_gaps(study, merged, output)
    tables = tables_of(study, merged)
    with TemporaryDirectory() as place:
        archive.store(config, merged.about, tables, Path(place) / "archive")
        runs = _unpacked(Path(place) / "archive", study, Path(place))
    mixtures.refuse(runs, study, str(output))
    return archive.store(config, merged.about, tables, output)


def _unpacked(folder: Path, study: Study, place: Path) -> pd.DataFrame:
    """Return the rows of an archive's runs, which is whole when they can be had."""
    archive.unpack(folder, study, place)
    rows = [metrics.run_row(spec, place / "runs" / spec.path) for spec in study.runs()]
    return pd.DataFrame(rows, columns=metrics.COLUMNS["runs"])


def _configuration(configs: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the one configuration of all archives, with the seeds, backbones and methods of each."""
    (first, merged), *others = configs.items()
    merged = {**merged, **{key: dict(merged[key]) for key in UNITED}}
    for folder, config in others:
        pairs = {key: (config.get(key), merged.get(key)) for key in {*merged, *config} - {*FREE, *UNITED}}
        for key in UNITED:
            pairs |= {
                f"{key}.{name}": (entry, merged[key].setdefault(name, entry)) for name, entry in config[key].items()
            }
        differing = min((name for name, (own, known) in pairs.items() if own != known), default=None)
        if differing:
            raise StudyError(
                f"{folder / 'study.json'}: {differing}: not as in {first / 'study.json'}; only archives of one study, "
                "which differ in their seeds, or in which backbones or methods they have, are merged."
            )
    asked = dict.fromkeys(seed for config in configs.values() for seed in seeds.of(config["seeds"]))
    return {**merged, "seeds": list(map(seeds.plain, asked))}


def _about(abouts: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the runs were made from; where machines differ in what chance or speed decides, the first's."""
    (first, merged), *others = abouts.items()
    merged = dict(merged)
    for folder, about in others:
        for name, value in about.items():
            decides = _deciding(name, value)
            if decides != _deciding(name, merged.setdefault(name, value)):
                raise StudyError(
                    f"{folder / 'about.json'}: {name}: not as in {first / 'about.json'}; runs on other examples, "
                    "or with another chosen learning rate, are no seeds of the same cell."
                )
    return merged


def _deciding(name: str, value: Mapping[str, Any]) -> Any:
    """Return what must be the same in all archives: which examples a split has, and what a search chose."""
    if name.endswith("/split.json"):
        return value["sha256"]
    return value["learning_rate"] if name.endswith("/search.json") else None


def _runs(found: Mapping[Path, Mapping[str, Any]], same: Callable[[Any, Any], bool]) -> dict[str, Any]:
    (first, merged), *others = found.items()
    merged, origin = dict(merged), dict.fromkeys(merged, first)
    for folder, runs in others:
        for name, value in runs.items():
            if name in merged and not same(merged[name], value):
                raise StudyError(
                    f"{folder}: the run {name} is not the one in {origin[name]}; "
                    "leave that seed out of one of the two studies, and archive it anew."
                )
            merged.setdefault(name, value)
            origin.setdefault(name, folder)
    return merged


def _same_texts(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(json.loads(one[kind]) == json.loads(other[kind]) for kind in ("record", "test"))


def _equal(one: Any, other: Any) -> bool:
    return one.to_pylist() == other.to_pylist()


def _refuse_gaps(study: Study, found: Contents, output: Path) -> None:
    missing = [spec.path for spec in study.runs() if spec.path not in found.records]
    if missing:
        raise StudyError(
            f"{output}: the archives hold no run {missing[0]} ({len(missing)} are missing); "
            "together they must hold every cell of the study for every seed."
        )


def tables_of(study: Study, found: Contents) -> dict[str, Any]:
    """Return the tables of an archive, in the order of the study's runs."""
    import pyarrow as pa

    specs = study.runs()
    return {
        "records": pa.Table.from_pylist([found.records[spec.path] for spec in specs]),
        "histories": _together((s.path, found.histories[s.path]) for s in specs if s.path in found.histories),
        **archive.by_task((s, found.answers[s.path]) for s in specs if s.path in found.answers),
    }


def _together(histories: Iterable[tuple[str, Any]]) -> Any:
    import pyarrow as pa

    named = [table.add_column(0, "run", pa.array([name] * len(table))) for name, table in histories]
    return pa.concat_tables(named, promote_options="default")
