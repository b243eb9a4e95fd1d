"""What a study takes from this machine, looked at before the first job: folders, files, columns and models."""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

from peftstudy import backbones, checking, docstring_views, docstrings, files, formats, sources
from peftstudy.errors import StudyError, refuse_unknown
from peftstudy.shapes import Shape, read_shape
from peftstudy.specs import Backbone, Source, digest, expanded
from peftstudy.study import Study


def refuse_absent(study: Study, where: str, results: Path | None = None) -> None:
    """Raise StudyError for the first file, column or model that is not here, or that the study cannot use.

    where: opens each sentence; the configuration's name. results: the study's folder; what was read into it before may
    be gone, and backbones that are there tell what methods they can have. Nothing is read but the beginnings of files.
    """
    for name, source in study.sources.items():
        if not (results and _is_there(source, results / "sources" / name)):
            for place, columns in _tables(f"{where}: sources.{name}", source):
                for key, wanted in _readers(study, name):
                    refuse_unknown(f"{where}: {key} (source {name}): {place}", "column", wanted, columns(wanted))
    shapes = {}
    for name, backbone in study.backbones.items():
        made = results / "backbones" / name if results else None
        is_made = made is not None and _is_there(backbone.without_grid(), made)
        shape = _shape(f"{where}: backbones.{name}", backbone, made if is_made else None)
        shapes |= {name: shape} if shape else {}
    checking.refuse_impossible(study, shapes, where)


def kept(study: Study, results: Path) -> tuple[list[str], list[str]]:
    """Return the sources and the backbones whose copies under `results` stand for files that are gone.

    Nothing makes them again: Snakemake would remove the copy first.
    """
    read = [name for name, source in study.sources.items()
            if _is_there(source, results / "sources" / name) and not _can_be_read(source)]  # fmt: skip
    made = [name for name, backbone in study.backbones.items()
            if _is_there(backbone.without_grid(), results / "backbones" / name)
            and backbone.reads and not expanded(backbone.reads).is_dir()]  # fmt: skip
    return read, made


def _can_be_read(source: Source) -> bool:
    try:
        list(_tables("", source))
    except StudyError:
        return False
    return True


def _is_there(asked: Source | Backbone, made: Path) -> bool:
    """Return whether a source or a backbone was made as it is asked for now; earlier manifests do not say as what."""
    try:
        manifest = files.read_json(made / "manifest.json")
    except StudyError:  # none there, or a damaged one, which the next stage tells of
        return False
    return manifest.get("asked", told := digest(asked)) == told


def _tables(at: str, source: Source) -> Iterator[tuple[str, Callable[[Sequence[str]], Collection[str]]]]:
    """Yield the tables of a source that can be looked at, the first of each part: what tells which columns it has."""
    options = dict(source.options)
    if source.kind == "docstrings":
        columns = docstring_views.COLUMNS.get(options.get("view"), docstrings.COLUMNS)
        yield "docstrings", lambda wanted: columns
    if source.kind != "files":
        return
    folder = sources.local_folder(at, options["path"])
    for part, labels in dict(options.get("classes", ())).items():
        for label in labels:
            sources.class_files(at, folder, part, label)
        yield str(folder / part), lambda wanted: sources.OF_CLASSES
    for names in dict(options.get("files", ())).values():
        first = sources.named_files(f"{at}.files", folder, [names] if isinstance(names, str) else names)[0]
        yield str(first), partial(_columns, first, options.get("columns"))


def _columns(path: Path, chosen: Sequence[str] | None, wanted: Sequence[str]) -> Collection[str]:
    """Return the columns of a file: a line of JSON may leave out what others have."""
    known = chosen or formats.columns(path)
    return known if chosen or set(wanted) <= set(known) else formats.read_table(path).column_names


def _readers(study: Study, source: str) -> Iterator[tuple[str, list[str]]]:
    """Yield what reads a source, and the columns that it wants."""
    for name, dataset in study.datasets.items():
        if dataset.source == source:
            group = [dataset.group] if dataset.group else []
            yield f"datasets.{name}", [*dataset.text, *dataset.choices, dataset.label, *group]
    for name, backbone in study.backbones.items():
        for of, column in backbone.pretrain.corpus if backbone.pretrain else ():
            if of == source:
                yield f"backbones.{name}.pretrain.corpus", [column]
        for excluded in (backbone.pretrain.exclude or ()) if backbone.pretrain else ():
            of, colon, column = excluded.partition(":")
            if colon and of == source:
                yield f"backbones.{name}.pretrain.exclude", [column]


def _shape(at: str, backbone: Backbone, made: Path | None) -> Shape | None:
    """Return the shape of a local folder, or of what was fetched from the hub; None where that is not known yet.

    made: the backbone's folder in the results, if it is there: the one that it was copied from may be gone.
    """
    if backbone.pretrain and (own := dict(backbone.pretrain.tokenizer).get("folder")) and not made:
        sources.local_folder(f"{at}.pretrain.tokenizer", own, ".folder")
    if backbone.folder is None:
        if not (backbone.hub and made):
            return None
        fetched = files.read_json(made / "manifest.json")
        is_the_one = (fetched.get("origin"), fetched.get("revision")) == (backbone.hub, backbone.revision)
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
