"""An archive's description: whole, true of the files, and understood by the library for such crates."""

import json
import shutil

import pytest
from conftest import ROOT
from rocrate.rocrate import ROCrate

from peftstudy import archive, configuration, crates, files, merging

ARCHIVED = ROOT / "results/archive/libraries-pretraining"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An older archive, written again as today's."""
    output = tmp_path_factory.mktemp("archive") / "libraries-pretraining"
    files.write_text(output / "README.md", "By hand.\n")
    found = archive.read(ARCHIVED)
    study = configuration.from_config(archive.configuration(ARCHIVED))
    archive.store(found.config, found.about, merging.tables_of(study, found), output)
    return output


@pytest.fixture(scope="module")
def entities(written):
    graph = files.read_json(written / "ro-crate-metadata.json")["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}


def test_the_archive_is_whole_with_it_and_an_older_one_without(written, tmp_path):
    assert archive.check(written)["runs"] == 180
    older, added = tmp_path / "older", {"ro-crate-metadata.json", "Snakefile"}
    shutil.copytree(written, older)
    manifest = files.read_json(older / "manifest.json")
    assert added <= {entry["name"] for entry in manifest["files"]}
    manifest["files"] = [entry for entry in manifest["files"] if entry["name"] not in added]
    files.write_json(older / "manifest.json", manifest)
    for name in added:
        (older / name).unlink()
    assert archive.check(older)["runs"] == 180


def test_every_file_is_described_as_it_is(written, entities):
    for path in written.iterdir():
        if path.name not in ("ro-crate-metadata.json", "manifest.json", "README.md"):
            about = entities[path.name]
            assert about["sha256"] == files.sha256(path) and about["contentSize"] == str(path.stat().st_size)
    parts = {part["@id"] for part in entities["./"]["hasPart"]}
    assert parts == {path.name for path in written.iterdir()} - {"ro-crate-metadata.json"}


def test_every_reference_leads_somewhere(entities):
    outside = ("https://w3id.org/ro/crate/1.1", "https://snakemake.readthedocs.io",
               "http://schema.org/CompletedActionStatus")  # fmt: skip

    def references(value):
        if isinstance(value, dict):
            if set(value) == {"@id"}:
                yield value["@id"]
            else:
                yield from (name for item in value.values() for name in references(item))
        elif isinstance(value, list):
            yield from (name for item in value for name in references(item))

    assert set(references(list(entities.values()))) <= {*entities, *outside}


def test_the_run_of_the_workflow_names_what_went_in_what_came_out_and_what_it_ran_with(entities):
    action = entities["#study"]
    assert action["instrument"] == entities["./"]["mainEntity"] == {"@id": "Snakefile"}
    assert {part["@id"] for part in action["result"]} == {f"{name}.parquet" for name in
                                                         ("records", "histories", "predictions")}  # fmt: skip
    assert action["description"].startswith("180 runs, 180 of them finished; commit ")
    torch = entities["#torch-2.13.0+cpu"]
    assert torch["softwareVersion"] == "2.13.0+cpu"
    assert {"@id": torch["@id"]} in entities["Snakefile"]["softwareRequirements"]
    assert "ComputationalWorkflow" in entities["Snakefile"]["@type"]


def test_the_library_for_such_crates_reads_it(written):
    crate = ROCrate(written)
    assert crate.mainEntity.id == "Snakefile" and crate.root_dataset["mentions"][0].type == "CreateAction"
    assert {entity.id for entity in crate.data_entities} >= {"records.parquet", "study.json"}


def test_a_file_that_was_changed_after_is_found(written, tmp_path):
    text = (written / "ro-crate-metadata.json").read_text()
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in written.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    files.write_text(copy / "ro-crate-metadata.json", json.dumps(json.loads(text) | {"more": 1}))
    with pytest.raises(files.StudyError, match=r"ro-crate-metadata\.json: changed since the manifest"):
        archive.check(copy)


def test_the_profiles_are_of_workflow_runs(entities):
    profiles = {profile["@id"] for profile in entities["./"]["conformsTo"]}
    assert profiles == set(crates.PROFILES) and "https://w3id.org/ro/wfrun/workflow/0.5" in profiles
