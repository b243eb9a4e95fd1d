"""What is wrong with a study whose runs start from other runs, if anything."""

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from peftstudy import methods
from peftstudy.errors import StudyError, refuse_unknown
from peftstudy.specs import MethodSpec, Source, expanded, several
from peftstudy.study import Study


def check(study: Study, where: str) -> None:
    """Raise StudyError for the first method whose runs cannot start from those that its block names.

    where: opens each sentence; the file's name. Without it, every method is known with its options.
    """
    for method in study.methods.values():
        _check_block(f"{where}: methods.{method.name}", method, study)
    for method in study.methods.values():
        _check_chain(f"{where}: methods.{method.name}", method, study)
    for dataset, split, backbone, chosen in study.cells():
        for method in chosen:
            if method.of is not None:
                _check_cell(f"{where}: methods.{method.name}", method, dataset.name, split, backbone.name, study)
                _check_trials(where, method, dataset.name, study)


def _check_block(at: str, method: MethodSpec, study: Study) -> None:
    made = methods.create(method.method, method.options)
    if not made.least_origins:
        if method.settings.keys() & {"of", "trained_on"}:
            raise StudyError(f"{at}: {method.method} starts from its backbone alone; leave 'of' and 'trained_on' out.")
        return
    if method.of is None:
        raise StudyError(
            f"{at}: the key 'of' is missing: {method.method} starts from runs of another method of the study, which it "
            "names (of: pfeiffer)."
        )
    refuse_unknown(f"{at}.of", "method", [method.of], study.methods)
    other = study.methods[method.of]
    if reason := made.cannot_start_from(methods.create(other.method, other.options)):
        raise StudyError(f"{at}.of: {method.method} cannot start from {method.of}: {reason}.")
    refuse_unknown(f"{at}.trained_on", "dataset", method.trained_on, study.datasets)


def _check_chain(at: str, method: MethodSpec, study: Study) -> None:
    names = list(_chain(method, study))
    if names[-1] in names[:-1]:
        raise StudyError(f"{at}.of: {' of '.join(names)}: a run cannot start from itself.")


def _chain(method: MethodSpec, study: Study) -> Iterator[str]:
    """Yield a method and what it starts from in turn, down to one that starts from its backbone or was there before."""
    seen: set[str] = set()
    while True:
        yield method.name
        if method.of is None or method.name in seen:
            return
        seen.add(method.name)
        method = study.methods[method.of]


def _check_cell(at: str, method: MethodSpec, dataset: str, split: str, backbone: str, study: Study) -> None:
    run = study.starting_points(method, split, backbone)
    for name in method.trained_on:
        if name not in run:
            raise StudyError(
                f"{at}.trained_on: {method.of} is not run on {name}, {split}, {backbone}, and {method.name} on "
                f"{dataset}, {split}, {backbone} starts from that; widen what datasets and backbones name for "
                f"themselves (methods, splits, datasets), or narrow {method.name} by them."
            )
    tested = study.datasets[dataset].test_from or dataset
    for name in run:
        if name not in (dataset, tested) and _overlap(_source(study, name), _source(study, tested)):
            raise StudyError(
                f"{at}.trained_on: {name} and {tested} are drawn from one source, so that {method.of} on {name} may "
                f"be trained on what {method.name} on {dataset} is tested on; leave one of them out."
            )
    least = methods.create(method.method, method.options).least_origins
    if len(run) < least:
        raise StudyError(
            f"{at}: starts from runs on {least} datasets or more, and of {method.of} on {split}, {backbone} there are "
            f"{len(run)} ({', '.join(run) or 'none'})."
        )


def _source(study: Study, dataset: str) -> Source:
    return study.sources[study.datasets[dataset].source]


def _overlap(one: Source, other: Source) -> bool:
    """Return whether two sources may hold the same texts, whatever columns, parts or views of them they show."""
    if one.kind != other.kind:
        return False
    mine, theirs = dict(one.options), dict(other.options)
    if one.kind == "docstrings":
        packages = [set(options.get("packages", ())) for options in (mine, theirs)]
        return not all(packages) or bool(packages[0] & packages[1])
    here = [{Path(path).resolve() for path in source.inputs()} for source in (one, other)]
    named = [_named_files(source) for source in (one, other)]
    return bool(here[0] & here[1]) or any(fnmatch(a, b) or fnmatch(b, a) for a in named[0] for b in named[1])


def _named_files(source: Source) -> list[str]:
    """Return the paths of a source's files, or patterns, as the study has them."""
    options = dict(source.options)
    parts = [*dict(options.get("files", ())).values(), *dict(options.get("classes", ()))]
    names = [name for part in parts for name in ([part] if isinstance(part, str) else part)]
    if source.kind == "hub":
        return [f"{options['repository']}/{name}" for name in names]
    return [str((expanded(options["path"]) / name).resolve()) for name in names]


def _check_trials(where: str, method: MethodSpec, dataset: str, study: Study) -> None:
    has_trials = several(method.learning_rate or study.training.learning_rate) or study.budget(dataset).seconds
    if has_trials and study.search.seed not in study.seeds:
        raise StudyError(
            f"{where}: search.seed: found {study.search.seed}, and the trials of {method.name} start from runs of that "
            f"seed; want one of the study's seeds ({', '.join(map(str, study.seeds))})."
        )
