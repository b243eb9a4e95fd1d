"""What a study takes from this machine, looked at before the first job: folders, files, columns and models."""

from collections.abc import Iterable
from pathlib import Path

from peftstudy import backbones, checking, files, formats, sources
from peftstudy.errors import StudyError, unknown
from peftstudy.shapes import Shape, read_shape
from peftstudy.specs import Backbone, Dataset, Source
from peftstudy.study import Study


def refuse_absent(study: Study, where: str, results: Path | None = None) -> None:
    """Raise StudyError for the first file, column or model that is not here, or that the study cannot use.

    where: opens each sentence; the configuration's name. results: the study's folder; what was read into it before may
    be gone, and backbones that are there tell what methods they can have. Nothing is read but the beginnings of files.
    """
    for name, source in study.sources.items():
        if source.kind == "files" and not (results and (results / "sources" / name / "manifest.json").exists()):
            first = _first_files(f"{where}: sources.{name}", source)
            for dataset in study.datasets.values():
                if dataset.source == name:
                    _refuse_columns(f"{where}: datasets.{dataset.name} (source {name})", dataset, source, first)
    shapes = {}
    for name, backbone in study.backbones.items():
        made = results / "backbones" / name if results else None
        shape = _shape(f"{where}: backbones.{name}", backbone, made if made and made.exists() else None)
        shapes |= {name: shape} if shape else {}
    checking.refuse_impossible(study, shapes, where)


def _first_files(at: str, source: Source) -> list[Path]:
    """Return the first file of each part."""
    options = dict(source.options)
    folder = sources.local_folder(at, options["path"])
    parts = dict(options.get("files", ()))
    named = {part: [names] if isinstance(names, str) else names for part, names in parts.items()}
    return [sources.named_files(f"{at}.files", folder, names)[0] for names in named.values()]


def _refuse_columns(at: str, dataset: Dataset, source: Source, paths: Iterable[Path]) -> None:
    wanted = [*dataset.text, *dataset.choices, dataset.label, *([dataset.group] if dataset.group else [])]
    chosen = dict(source.options).get("columns")
    for path in paths:
        known = chosen or formats.columns(path)
        # A line of JSON may leave out what others have.
        if not set(wanted) <= set(known) and not chosen:
            known = formats.read_table(path).column_names
        for name in wanted:
            if name not in known:
                raise unknown(f"{at}: {path}", "column", name, known)


def _shape(at: str, backbone: Backbone, made: Path | None) -> Shape | None:
    """Return the shape of a local folder, or of what was fetched from the hub; None where that is not known yet.

    made: the backbone's folder in the results, if it is there: the one that it was copied from may be gone.
    """
    if backbone.folder is None:
        if not (backbone.hub and made):
            return None
        fetched = files.read_json(made / "manifest.json")
        is_the_one = (fetched["origin"], fetched["revision"]) == (backbone.hub, backbone.revision)
        return read_shape(made) if is_the_one else None
    try:
        folder = sources.local_folder(at, backbone.folder, ".folder")
    except StudyError:
        if made:
            return read_shape(made)
        raise
    try:
        backbones.tokenizer_files(folder)
        return read_shape(folder, backbone.family)
    except StudyError as error:
        raise StudyError(f"{at}.folder: {error}") from None
