"""Archives of several machines become one, and what does not belong together is refused by name."""

import json
import shutil

import pandas as pd
import pytest
from conftest import ROOT

from peftstudy import __main__, archive, configuration, files, merging, metrics, statistics
from peftstudy.errors import StudyError
from peftstudy.evidence import mixtures, summaries

WHOLE = ROOT / "results/archive/imdb-local"


def part(seeds, output, change=lambda run, record, test: None, **config):
    """Archive some seeds of the archived study as a machine of its own would; `change` alters what it found."""
    found = archive.read(WHOLE)
    of_others = {name for key, own in config.items() if isinstance(own, dict) for name in {*found.config[key]} - {*own}}
    found.config.update({"seeds": seeds, **config})
    about = {name: value for name, value in found.about.items() if not of_others & set(name.split("/"))}
    study = configuration.from_config(archive.configuration(WHOLE) | found.config)
    for spec in study.runs():
        row = found.records[spec.path]
        record, test = json.loads(row["record"]), json.loads(row["test"])
        change(spec, record, test)
        row.update(record=json.dumps(record), test=json.dumps(test))
    archive.store(found.config, about, merging.tables_of(study, found), output)
    return output


def of_another_device(spec, record, test):
    record["measured"]["device"] = "A-GPU"


def unpacked(folder, place):
    study = configuration.from_config(archive.configuration(folder))
    archive.unpack(folder, study, place)
    metrics.write(study, place, place / "metrics")
    return study, statistics.read(place / "metrics/runs.csv")


def test_the_parts_of_a_study_are_the_study_again(tmp_path, capsys):
    parts = [str(part(seeds, tmp_path / name)) for name, seeds in (("a", [0, 2]), ("b", [1]))]
    assert __main__.main(["merge", *parts, "--output", str(tmp_path / "merged")]) == 0
    assert "60 runs of 2 archives" in capsys.readouterr().err
    assert archive.check(tmp_path / "merged")["runs"] == 60
    study, runs = unpacked(tmp_path / "merged", tmp_path / "one")
    assert study.seeds == (0, 2, 1)
    _, before = unpacked(WHOLE, tmp_path / "two")
    order = [*summaries.CELL, "seed"]
    pd.testing.assert_frame_equal(*(frame.sort_values(order, ignore_index=True) for frame in (runs, before)))
    for name in ("history.csv", "predictions.parquet"):
        one, two = (tmp_path / place / "runs/imdb/30-70/tinybert/full/seed-1" / name for place in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def only(key, *names):
    return {key: {name: entry for name, entry in archive.read(WHOLE).config[key].items() if name in names}}


def test_backbones_and_methods_of_their_own_are_put_together(tmp_path):
    by_backbone = [part([0], tmp_path / name, **only("backbones", name)) for name in ("tinyroberta", "tinybert")]
    assert merging.merge(by_backbone, tmp_path / "backbones")["runs"] == 20
    with pytest.raises(StudyError, match="backbones: is there already; name a new folder"):
        merging.merge(by_backbone, tmp_path / "backbones")
    study, _ = unpacked(tmp_path / "backbones", tmp_path / "one")
    assert list(study.backbones) == ["tinyroberta", "tinybert"]
    by_method = [
        part([0], tmp_path / "a", **only("methods", "full", "bitfit")),
        part([0], tmp_path / "b", **only("methods", "full", "prompt")),
    ]
    assert merging.merge(by_method, tmp_path / "methods")["runs"] == 12
    # Of what one archive has alone no seed may be missing.
    short = [part([0, 1], tmp_path / "c", **only("backbones", "tinybert")), by_backbone[0]]
    with pytest.raises(StudyError, match=r"hold no run imdb/90-10/tinyroberta/\w+/seed-1 \(10 are missing\); together"):
        merging.merge(short, tmp_path / "refused")


def test_one_backbone_under_two_descriptions_is_refused(tmp_path):
    one, own = part([0], tmp_path / "a"), only("backbones", "tinybert")
    own["backbones"]["tinybert"]["pretrain"] |= {"steps": 7}
    with pytest.raises(StudyError, match=r"b/study\.json: backbones\.tinybert: not as in .*a/study\.json"):
        merging.merge([one, part([1], tmp_path / "b", **own)], tmp_path / "refused")


def test_a_run_that_stands_in_both_must_be_the_same(tmp_path):
    one, same = part([0, 1], tmp_path / "a"), part([1, 2], tmp_path / "b")
    assert merging.merge([one, same], tmp_path / "merged")["runs"] == 60
    slower = part([1, 2], tmp_path / "c", lambda spec, record, test: record["measured"].update(training_seconds=9.0))
    said = r"c: the run imdb/90-10/tinybert/bitfit/seed-1 is not the one in .*/a; leave that seed out"
    with pytest.raises(StudyError, match=said):
        merging.merge([one, slower], tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_mixtures_are_marked_or_refused_where_the_study_is_strict(tmp_path):
    merging.merge([part([0], tmp_path / "a"), part([1], tmp_path / "b", of_another_device)], tmp_path / "merged")
    _, runs = unpacked(tmp_path / "merged", tmp_path / "out")
    assert mixtures.of(runs) == {"device": ["A-GPU", "cpu"]}
    assert set(summaries.summarise(runs).mixed) == {"device"}
    strict = [part([0], tmp_path / "c", strict=True), part([1], tmp_path / "d", of_another_device, strict=True)]
    with pytest.raises(StudyError, match=r"the runs mix device \(A-GPU, cpu\), and the study is strict"):
        merging.merge(strict, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_other_configurations_and_other_examples_are_refused(tmp_path):
    one = part([0], tmp_path / "a")
    with pytest.raises(StudyError, match=r"b/study\.json: validation: not as in .*a/study\.json; only archives of one"):
        merging.merge([one, part([1], tmp_path / "b", validation=0.2)], tmp_path / "refused")
    other = part([1], tmp_path / "c")
    about = files.read_json(other / "about.json")
    about["splits/imdb/30-70/split.json"]["sha256"]["train"] = "another"
    archive.store(files.read_json(other / "study.json"), about, merging.tables_of(
        configuration.from_config(archive.configuration(other)), archive.read(other)), other)  # fmt: skip
    with pytest.raises(StudyError, match=r"c/about\.json: splits/imdb/30-70/split\.json: not as in .*other examples"):
        merging.merge([one, other], tmp_path / "refused")
    with pytest.raises(StudyError, match="found 1 archive, want two"):
        merging.merge([one], tmp_path / "refused")


def test_a_damaged_archive_is_named(tmp_path):
    one, other = part([0], tmp_path / "a"), tmp_path / "b"
    shutil.copytree(one, other)
    (other / "records.parquet").unlink()
    with pytest.raises(StudyError, match=r"b/records\.parquet: is missing"):
        merging.merge([one, other], tmp_path / "refused")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda spec, record, test: record.pop("provenance"), "record.json: the field 'provenance'"),
        (lambda spec, record, test: record.pop("asked"), "record.json: the field 'asked'"),
        (lambda spec, record, test: test.pop("scores"), "test.json: the field 'scores'"),
    ],
    ids=["provenance", "asked", "scores"],
)
def test_a_record_without_a_field_is_named(tmp_path, spoil, said):
    with pytest.raises(StudyError, match=f"bitfit/seed-0/{said} is missing"):
        unpacked(part([0], tmp_path / "a", spoil), tmp_path / "out")
