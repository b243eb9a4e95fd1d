"""The report typesets for both kinds of study, to the same bytes twice, and its errors say how to mend them."""

import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic import METHODS, course_study, default_study, write_metrics, write_numbers, write_statistics

from peftstudy import figures, paper, tables
from peftstudy.errors import StudyError
from peftstudy.report import plotting

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "paper"
REPORTED = PAPER / "reported"
needs_latex = pytest.mark.skipif(not shutil.which("latexmk"), reason="latexmk is not installed")


def make(results: Path, study) -> Path:
    write_metrics(results / "metrics", study)
    return finish(results, study)


def finish(results: Path, study) -> Path:
    metrics = results / "metrics"
    write_statistics(results, study)
    figures.write(metrics, results / "statistics", results / "figures", study)
    tables.write(metrics, results / "statistics", results / "tables", study, METHODS, REPORTED)
    write_numbers(results, study, REPORTED)
    return results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return {study.name: make(folder / study.name, study) for study in (default_study(), course_study())}


def test_numbers_are_the_golden_ones(made):
    golden = Path(__file__).parent / "golden" / "numbers.tex"
    text = (made["default"] / "paper" / "numbers.tex").read_text()
    if os.environ.get("PEFTSTUDY_UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_macro_that_the_text_uses_is_defined_or_asked_for(made):
    defined = set()
    for results in made.values():
        defined |= set(re.findall(r"\\newcommand\{\\(\w+)\}", (results / "paper" / "numbers.tex").read_text()))
    text = "".join(path.read_text() for path in sorted(PAPER.glob("sections/*.tex")))
    used = {name for name in re.findall(r"\\([A-Z][A-Za-z]+)", text)}
    assert used <= defined, used - defined


def test_every_table_and_figure_is_in_the_text():
    text = "".join(path.read_text() for path in sorted(PAPER.glob("sections/*.tex")))
    assert set(re.findall(r"\\tableof\{(.+?)\}", text)) == set(tables.MADE)
    assert set(re.findall(r"\\figureof\{(.+?)\}", text)) == set(figures.DRAWN)


def test_no_result_is_typed():
    text = "".join(path.read_text() for path in sorted(PAPER.glob("sections/*.tex")))
    # The confidence level is a convention, and years stand in keys of citations.
    text = re.sub(
        r"95\\,\\%|\\cite[pt]\{.*?\}|\\(?:ref|section|figureof|tableof|iffigure|iftable)\{.*?\}",
        "",
        text,
        flags=re.DOTALL,
    )
    assert re.findall(r"(?<!\w)\d[\d.]*", text) == []


def test_every_citation_is_known():
    keys = re.findall(r"^@\w+\{(\S+),$", (PAPER / "references.bib").read_text(), flags=re.MULTILINE)
    known = set(keys)
    text = "".join(path.read_text() for path in [PAPER / "report.tex", *PAPER.glob("sections/*.tex")])
    cited = {key.strip() for keys in re.findall(r"\\cite\w*\{([^}]*)\}", text) for key in keys.split(",")}
    assert cited and cited <= known
    assert {key for key, _ in METHODS.values() if key} <= known
    assert len(known) == len(keys)


@needs_latex
@pytest.mark.parametrize("study", [default_study(), course_study()], ids=lambda study: study.name)
def test_the_report_typesets_cleanly(made, study):
    results = made[study.name]
    output = results / "paper" / "report.pdf"
    paper.typeset(PAPER, results, output, study)
    log = (results / "paper" / "build" / "report.log").read_text(errors="replace")
    assert "undefined" not in log
    assert "multiply defined" not in log
    assert "Rerun to get" not in log
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert max(wide, default=0) < 5
    assert output.read_bytes().startswith(b"%PDF")


BLOCK = {"source": "docstrings", "task": "classification", "text": "text", "label": "library"}
WRITTEN = {"source": "docstrings", "task": "generation", "text": "text", "label": "summary"}
FEW = {"full": {}, "lora": {}, "head": {}}
AWKWARD = {
    "two-datasets": default_study(datasets={"first": BLOCK, "second": BLOCK}, splits=["90-10"]),
    "own-splits": default_study(
        datasets={"first": BLOCK, "second": BLOCK | {"splits": ["30-70"]}}, splits=["90-10", "30-70"], methods=FEW
    ),
    "one-seed": default_study(seeds=[5], splits=["size-300"], reference=None, training={"epochs": 1, "select": "last"}),
    "no-validation": course_study(validation=0.0, replicates=None, training={"steps": 50, "select": "last"}),
    "written-texts": default_study(datasets={"summaries": WRITTEN}, splits=["90-10"], methods=FEW),
    # More figures and tables than LaTeX lets wait by itself.
    "twelve-datasets": default_study(
        datasets={f"of-{number}": BLOCK for number in range(12)},
        splits=["90-10"],
        methods={name: {"learning_rate": [1e-4, 1e-3, 3e-3]} for name in ("full", "lora")},
        backbones={"bert-tiny": {"folder": "bert"}},
    ),
    "sizes-alone": default_study(splits=["size-300", "size-900", "size-2700"]),
}


def blank(*_):
    """Draw a figure's place, where it matters how many there are and not what they show."""
    return Figure(figsize=(plotting.TEXT_WIDTH, 2.5))


@needs_latex
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_studies_read_properly_too(name, tmp_path, monkeypatch):
    if len(AWKWARD[name].datasets) > 2:
        monkeypatch.setattr(figures, "DRAWN", dict.fromkeys(figures.DRAWN, blank))
    results = make(tmp_path / "results", AWKWARD[name])
    paper.typeset(PAPER, results, results / "paper" / "report.pdf", AWKWARD[name])
    assert "undefined" not in (results / "paper" / "build" / "report.log").read_text(errors="replace")


KEPT_BY_FAILED_RUNS = [
    "dataset", "split", "backbone", "method", "seed", "task", "metric", "status", "reason", "select", "precision",
    "protocol", "commit", "dirty", "environment", "data_sha256", "backbone_sha256",
]  # fmt: skip


@needs_latex
@pytest.mark.parametrize("lost", [{"backbone": "tinybert"}, {"split": "90-10"}, {"method": "full"}])
def test_a_study_that_lost_many_runs_is_still_reported(lost, tmp_path):
    study = course_study()
    metrics = write_metrics(tmp_path / "metrics", study)
    runs = pd.read_csv(metrics / "runs.csv")
    ((column, value),) = lost.items()
    failed = runs[column] == value
    runs.loc[failed, ["status", "reason"]] = ["failed", "out of memory"]
    runs.loc[failed, [name for name in runs if name not in KEPT_BY_FAILED_RUNS]] = None
    runs.to_csv(metrics / "runs.csv", index=False)
    finish(tmp_path, study)
    assert r"\newcommand{\Metric}{accuracy}" in (tmp_path / "paper" / "numbers.tex").read_text()
    paper.typeset(PAPER, tmp_path, tmp_path / "paper" / "report.pdf", study)
    assert "undefined" not in (tmp_path / "paper" / "build" / "report.log").read_text(errors="replace")


@needs_latex
def test_the_report_is_the_same_bytes_twice_wherever_it_is_made(made, tmp_path):
    study = course_study()
    first = made[study.name] / "paper" / "report.pdf"
    paper.typeset(PAPER, made[study.name], first, study)
    elsewhere = shutil.copytree(made[study.name], tmp_path / "a folder")
    paper.typeset(PAPER, elsewhere, elsewhere / "paper" / "report.pdf", study)
    assert (elsewhere / "paper" / "report.pdf").read_bytes() == first.read_bytes()


@needs_latex
def test_an_error_of_latex_names_its_line_and_the_log_and_leaves_no_report(made, tmp_path):
    study = course_study()
    results = shutil.copytree(made[study.name], tmp_path / "imdb", ignore=shutil.ignore_patterns("build", "report.pdf"))
    with (results / "tables" / "scores.tex").open("a") as file:
        file.write("\\nosuchcommand\n")
    with pytest.raises(StudyError, match=r"scores\.tex:\d+: Undefined control sequence.*report\.log"):
        paper.typeset(PAPER, results, results / "paper" / "report.pdf", study)
    assert not (results / "paper" / "report.pdf").exists()
    assert (results / "paper" / "build" / "report.log").is_file()


def test_a_missing_latex_names_the_packages(made, monkeypatch):
    monkeypatch.setenv("PATH", "")
    results = made["imdb"]
    with pytest.raises(
        StudyError, match=r"no latexmk .*apt-get install .*texlive-latex-recommended.*Every other output"
    ):
        paper.typeset(PAPER, results, results / "paper" / "none.pdf", course_study())
    assert not (results / "paper" / "none.pdf").exists()


@needs_latex
def test_a_missing_piece_is_named(made, tmp_path):
    results = shutil.copytree(made["imdb"], tmp_path / "imdb")
    (results / "figures" / "score-by-method.pdf").unlink()
    with pytest.raises(StudyError, match=r"score-by-method\.pdf: no such file"):
        paper.typeset(PAPER, results, results / "paper" / "report.pdf", course_study())


def test_the_headline_is_one_line_with_the_answer(made):
    study = default_study()
    line = paper.headline(made["default"], paper.load(made["default"], study, REPORTED), study)
    assert "\n" not in line
    assert re.search(r"report\.pdf: libraries 90-10 bert-tiny: full 0\.\d\d \[0\.\d\d, 0\.\d\d\], lora 0\.\d\d", line)
