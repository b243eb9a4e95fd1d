"""The archives of finished studies: whole, and still understood by the code of today."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from peftstudy import archive, configuration, files, metrics
from peftstudy.errors import StudyError
from peftstudy.specs import RunSpec

ARCHIVES = sorted(path for path in (ROOT / "results/archive").iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", ARCHIVES, ids=lambda path: path.name)
def test_an_archive_is_whole_and_holds_the_runs_that_its_study_asks_for(folder):
    assert archive.check(folder)["study"] == folder.name
    asked = {spec.path: spec for spec in configuration.from_config(files.read_json(folder / "study.json")).runs()}
    records = pd.read_parquet(folder / "records.parquet").set_index("run")["record"]
    assert {name: RunSpec.from_dict(json.loads(text)["asked"]) for name, text in records.items()} == asked


@pytest.mark.parametrize("folder", ARCHIVES, ids=lambda path: path.name)
def test_the_archived_configuration_is_the_study_s(folder):
    """But for what a newer schema adds, and the folder of a machine's files."""
    config = yaml.safe_load((ROOT / f"studies/{folder.name}.yaml").read_text())
    kept = files.read_json(folder / "study.json")
    assert {key: value for key, value in kept.items() if key in config} == config


def test_what_was_measured_is_what_was_chosen():
    """The default study's pre-training rates, from the archive's validation scores."""
    records = pd.read_parquet(ROOT / "results/archive/libraries-pretraining/records.parquet")["record"].map(json.loads)
    scores = pd.DataFrame([{"backbone": r["asked"]["backbone"], **r["measured"]} for r in records])
    named = scores["backbone"].str.extract(r"(?P<family>bert|roberta)-(?P<rate>\de-\d)(?P<kind>|-again|-masked)$")
    scores = scores.join(named.assign(bag_of_words=(named["kind"] != "-masked").astype(float)))
    means = scores.groupby(["family", "bag_of_words", "rate"])["validation_score"].mean()
    backbones = yaml.safe_load((ROOT / "config.yaml").read_text())["backbones"]
    for family in ("bert", "roberta"):
        weight, rate = means[family].idxmax()
        chosen = backbones[f"{family}-tiny"]["pretrain"]
        assert (chosen["bag_of_words"], chosen["learning_rate"]) == (weight, float(rate))


def test_the_methods_learn_at_the_rates_that_their_search_preferred():
    """Over both backbones, in the archive."""
    about = files.read_json(ROOT / "results/archive/libraries-search/about.json")
    found = {name: content for name, content in about.items() if name.endswith("/search.json")}
    trials = pd.DataFrame(
        [{"method": name.split("/")[-2], **trial} for name, content in found.items() for trial in content["trials"]]
    )
    best = trials.groupby(["method", "learning_rate"])["validation_score"].mean().groupby("method").idxmax()
    methods = yaml.safe_load((ROOT / "config.yaml").read_text())["methods"]
    assert {name: settings["learning_rate"] for name, settings in methods.items()} == dict(best.tolist())
    assert trials.groupby("method").size().eq(10).all()


@pytest.mark.parametrize("folder", ARCHIVES, ids=lambda path: path.name)
def test_an_archive_unpacks_into_the_metrics_of_every_run(folder, tmp_path):
    study = configuration.from_config(archive.configuration(folder))
    assert archive.unpack(folder, study, tmp_path) == len(study.runs())
    metrics.write(study, tmp_path, tmp_path / "metrics")
    runs = pd.read_csv(tmp_path / "metrics/runs.csv")
    assert set(runs["status"]) == {"finished"}
    for row in runs.itertuples():
        name = f"runs/{row.dataset}/{row.split}/{row.backbone}/{row.method}/seed-{row.seed}"
        predictions = pd.read_parquet(tmp_path / name / "predictions.parquet")
        assert (predictions["label"] == predictions["predicted"]).mean() == pytest.approx(row.test_accuracy)
    epochs = pd.read_csv(tmp_path / "metrics/epochs.csv")
    assert len(epochs) == runs["epochs"].sum() and epochs["epoch"].dtype == int


@pytest.fixture
def copied(tmp_path):
    folder = tmp_path / "libraries-pretraining"
    shutil.copytree(ROOT / "results/archive/libraries-pretraining", folder)
    return folder


def signed(folder, name):
    """Make the manifest agree with a file that was changed."""
    manifest = files.read_json(folder / "manifest.json")
    manifest["files"] = [
        files.file_entry(folder / name) if entry["name"] == name else entry for entry in manifest["files"]
    ]
    files.write_json(folder / "manifest.json", manifest)


def test_what_an_archive_lacks_or_has_too_much_is_named(copied, tmp_path):
    study = configuration.from_config(archive.configuration(copied))
    about = files.read_json(copied / "about.json")
    lost = "splits/libraries/90-10/split.json"
    files.write_json(copied / "about.json", {name: value for name, value in about.items() if name != lost})
    with pytest.raises(StudyError, match=f"about.json: holds no file {lost}, which the report needs"):
        archive.unpack(copied, study, tmp_path / "out")
    files.write_json(copied / "about.json", about | {"../../elsewhere.json": {}})
    with pytest.raises(StudyError, match=r"about\.json: the file \.\./\.\./elsewhere\.json is none of the study's"):
        archive.unpack(copied, study, tmp_path / "out")
    files.write_json(copied / "about.json", about)
    records = pd.read_parquet(copied / "records.parquet")
    records.iloc[1:].to_parquet(copied / "records.parquet")
    with pytest.raises(StudyError, match=f"records.parquet: holds no run {records.run[0]}"):
        archive.unpack(copied, study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_s_folder_has_its_study_s_name(tmp_path):
    shutil.copytree(ROOT / "results/archive/imdb-local", tmp_path / "imdb-merged")
    with pytest.raises(StudyError, match="imdb-merged: is of the study 'imdb-local'; give the folder that name"):
        archive.find("imdb-merged", tmp_path)


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda folder: (folder / "about.json").unlink(), r"about\.json: is missing"),
        (lambda folder: (folder / "about.json").write_text("{}"), r"about\.json: changed since"),
        (lambda folder: (folder / "more.csv").write_text(""), r"more\.csv: is not in the manifest"),
    ],
    ids=["missing", "changed", "foreign"],
)
def test_a_file_that_is_not_as_it_was_is_named(copied, spoil, said):
    spoil(copied)
    with pytest.raises(StudyError, match=said):
        archive.check(copied)


def test_an_archive_of_another_study_is_refused(copied):
    files.write_json(copied / "study.json", files.read_json(copied / "study.json") | {"study": "another"})
    signed(copied, "study.json")
    with pytest.raises(StudyError, match=r"of the study libraries-pretraining, and study\.json of another"):
        archive.check(copied)
