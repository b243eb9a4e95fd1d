"""The archives of finished studies: whole, and still understood by the code of today."""

import json

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from peftstudy import archive, configuration, files
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
    best = scores.groupby("backbone")["validation_score"].mean().sort_values()
    backbones = yaml.safe_load((ROOT / "config.yaml").read_text())["backbones"]
    for family in ("bert", "roberta"):
        chosen = [name for name in best.index if name.startswith(f"{family}-")][-1].removeprefix(f"{family}-")
        assert backbones[f"{family}-tiny"]["pretrain"]["learning_rate"] == float(chosen)
