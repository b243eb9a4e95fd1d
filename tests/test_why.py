"""Every figure, table and number of the report can name its runs."""

import re
from pathlib import Path

import pandas as pd
import pytest
from synthetic import course_study, default_study, write_metrics

from peftstudy import figures, statistics, tables
from peftstudy.errors import StudyError
from peftstudy.evidence import overall
from peftstudy.evidence.places import sized
from peftstudy.report import why

REPORTED = Path(__file__).parents[1] / "paper" / "reported"
GOLDEN = (Path(__file__).parent / "golden" / "numbers.tex").read_text()
NUMBERS = re.findall(r"newcommand\{\\(\w+)\}", GOLDEN)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    return {study.name: statistics.read(write_metrics(folder / study.name, study) / "runs.csv")
            for study in (default_study(), course_study())}  # fmt: skip


def ask(name, runs, study=None):
    study = study or default_study()
    return why.why(name, runs[study.name], study, NUMBERS, REPORTED)


def test_every_table_and_figure_has_its_runs_and_every_special_number_exists():
    assert set(why.TABLES) == set(tables.MADE)
    assert set(why.FIGURES) == set(figures.DRAWN)
    assert set(why.NUMBERS) <= set(NUMBERS)


def test_a_cell_is_narrowed_down(runs):
    said, found = ask("scores/90-10/bert-tiny/lora", runs)
    assert said == "table scores" and found.seed.tolist() == [0, 1, 2]
    assert len(ask("scores/90-10/bert-tiny/lora/seed-1", runs)[1]) == 1
    said, found = ask("bert-tiny-random", runs)
    assert said == "runs" and set(found.method) == {"full", "head", "bitfit"}


def test_what_a_figure_draws_is_what_stands_behind_it(runs):
    study, frame = default_study(), runs["default"]
    _, found = ask("score-by-training-examples", runs)
    assert set(found.split) == set(sized(study, "libraries"))
    assert set(found.backbone) == {"bert-tiny", "roberta-tiny"}
    _, found = ask("pretraining", runs)
    assert set(found.split) == {"90-10"} and set(found.method) == {"full", "head", "bitfit"}
    assert set(found.backbone) == {"bert-tiny", "bert-tiny-random"}
    assert len(ask("NumberOfRuns", runs)[1]) == len(frame)
    assert len(ask("failures", runs)[1]) == 4 and len(ask("settings", runs)[1]) == 0
    assert set(ask("searches", runs)[1].method) == {"bitfit"}


def test_what_is_compared_with_stands_behind_a_difference(runs):
    _, found = ask("differences/90-10/bert-tiny/lora", runs)
    assert set(found.method) == {"lora", "full"} and len(found) == 6
    _, found = ask("scores/90-10/bert-tiny/lora", runs)
    assert set(found.method) == {"lora"}
    _, found = ask("crossings/bert-tiny/lora/head", runs)
    assert set(found.method) == {"lora", "head"} and set(found.backbone) == {"bert-tiny"}


def test_results_with_random_weights_have_their_runs(runs):
    _, found = ask("pretraining/90-10/bert-tiny/full", runs)
    assert found.groupby("backbone").seed.apply(list).to_dict() == {
        "bert-tiny": [0, 1, 2], "bert-tiny-random": [0, 1, 2],
    }  # fmt: skip
    _, found = ask("pretraining/90-10/bert-tiny-random/full", runs)
    assert set(found.backbone) == {"bert-tiny-random"} and len(found) == 3


def test_a_rate_of_loss_is_of_all_runs_of_its_cell(runs):
    _, found = ask("losses/90-10/bert-tiny/prompt", runs)
    assert found.seed.tolist() == [0, 1, 2] and found.collapsed.sum() == 1


def test_what_is_taken_together_is_of_the_shared_settings(runs):
    study, frame = default_study(), runs["default"]
    _, found = ask("overall/lora", runs)
    settings = set(overall.shared(frame, study))
    assert set(found.method) == {"lora", "full"} and (found.status == "finished").all()
    assert set(zip(found.dataset, found.split, found.backbone, strict=True)) == settings
    fewer = {"default": frame[(frame.split == "90-10") | (frame.method != "head")]}
    assert set(ask("overall/lora", fewer)[1].split) == {"90-10"}


def test_a_claim_names_what_it_looks_at(runs):
    said, found = ask("claim-18", runs, course_study())
    assert said.startswith("claim: BitFit depends") and set(found.method) == {"bitfit"}
    assert set(found.backbone) == {"tinybert", "tinyroberta"} and set(found.split) == {"90-10"}
    with pytest.raises(StudyError, match="unknown claim 'claim-19'"):
        ask("claim-19", runs, course_study())


def test_an_unknown_name_has_its_neighbour(runs):
    with pytest.raises(StudyError, match=r"why scores/lroa: unknown .* 'lroa' .*Did you mean 'lora'"):
        ask("scores/lroa", runs)
    with pytest.raises(StudyError, match=r"'replication-scores' \(known"):
        ask("replication-scores", runs)


def test_the_listing_names_paths_ends_and_commits(runs):
    said, found = ask("scores/90-10/bert-tiny/bitfit", runs)
    lines = why.listing(said, found, "results/default").splitlines()
    assert lines[0] == "table scores: 3 runs, 2 of them finished, from commit 0123456789"
    assert lines[2] == "  results/default/runs/libraries/90-10/bert-tiny/bitfit/seed-1  missing: no record"
    assert re.fullmatch(r"  results/default/runs/\S+/seed-0  accuracy 0\.\d{4}", lines[1])
    assert "no runs stand behind it" in why.listing("table data", pd.DataFrame(), "results/default")
