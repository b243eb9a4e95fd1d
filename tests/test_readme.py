"""What README.md says is so: its tables are those of the archives, its links lead somewhere, its commands are there."""

import re

import pandas as pd
import pytest
from conftest import ROOT

from peftstudy import __main__, archive, configuration, metrics, statistics

README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)[1]


def table(text: str, first: str) -> pd.DataFrame:
    """Return the table of a section whose first column is so called, by that column."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    start = next(number for number, line in enumerate(lines) if line[0] == first)
    rows = lines[start + 2 :]
    rows = rows[: next((number for number, row in enumerate(rows) if len(row) != len(lines[start])), len(rows))]
    return pd.DataFrame(rows, columns=lines[start]).set_index(first)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The statistics of the archived study imdb-local, made anew."""
    folder, results = ROOT / "results/archive/imdb-local", tmp_path_factory.mktemp("results")
    study = configuration.from_config(archive.configuration(folder))
    archive.unpack(folder, study, results)
    metrics.write(study, results, results / "metrics")
    statistics.write(results / "metrics", results / "statistics", study, results / "runs")
    return results


def test_the_course_report_s_table_is_the_archive_s(course):
    scores = statistics.read(course / "statistics/scores.csv")
    said = table(section("A course report, done again"), "method")
    assert set(said.index) == set(scores.method) and said.size == len(scores)
    for row in scores.itertuples():
        interval = "(no interval)" if pd.isna(row.low) else f"[{row.low:.2f}, {row.high:.2f}]"
        written = f"{row.test_score:.2f} {interval}"
        assert said.loc[row.method, f"{row.backbone}, {row.split}"] == written


def test_so_many_findings_hold_as_it_says(course):
    verdicts = statistics.read(course / "statistics/claims.csv").verdict.value_counts()
    said = re.search(r"Of the report's (\d+) findings (\d+) hold here, (\d+) fail and (\d+) stay undecided", README)
    counts = [int(number) for number in said.groups()]
    assert counts == [verdicts.sum(), *(verdicts.get(name, 0) for name in ("holds", "fails", "undecided"))]


def test_its_relative_links_and_the_places_that_it_names_are_there():
    named = re.findall(r"\]\(([^)#:]+)\)", README)
    named += re.findall(r"`((?:workflow|results/archive|studies|benchmarks|slurm|src|paper)/[\w./-]+)`", README)
    assert len(named) > 10
    assert [path for path in named if "mine" not in path and not (ROOT / path).exists()] == []


def test_its_commands_are_there():
    commands = set(re.findall(r"peftstudy ([a-z-]+)", re.sub(r"\s+", " ", README)))
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert commands and commands <= set(__main__.COMMANDS)
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?= |`|\n|$)", README)) - {"is"} <= targets
