"""The report: its numbers as LaTeX macros, and its typesetting, to the same bytes every time."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

from peftstudy import figures, searching, seeds, tables
from peftstudy.errors import StudyError
from peftstudy.evidence import places
from peftstudy.evidence.intervals import MANY
from peftstudy.files import whole
from peftstudy.report import answer, evidence_tables, latex, searches
from peftstudy.report.views import took
from peftstudy.study import Study
from peftstudy.wording import listed

PACKAGES = "latexmk texlive-latex-recommended texlive-fonts-recommended lmodern"
INSTALL = f"install it with: apt-get install --no-install-recommends {PACKAGES}"
HEAD = "% Written by the workflow: every number that the report's text names.\n"


def numbers(data: SimpleNamespace, study: Study) -> str:
    r"""Return the macros of numbers.tex: \StudyTitle and its kin, and which tables and figures there are."""
    macros = study_macros(study) | result_macros(data, study)
    lines = [rf"\newcommand{{\{name}}}{{{value}}}" for name, value in macros.items()]
    # A section asks for what exists, so that a study without, say, random backbones reads well too.
    lines += [has("table", kind, f"{kind}.tex") for kind in tables.kinds(study)]
    lines += [has("figure", kind, ",".join(figures.files(study, kind))) for kind in figures.kinds(study)]
    return HEAD + "\n".join(lines) + "\n"


def has(what: str, kind: str, value: str) -> str:
    return rf"\expandafter\def\csname {what}:{kind}\endcsname{{{value}}}"


def study_macros(study: Study) -> dict[str, str]:
    """Return what the configuration says, as macros."""
    names = {
        "TheDatasets": study.datasets, "TheSplits": study.splits, "TheMethods": study.methods,
        "TheBackbones": places.backbones(study), "TheSeeds": map(str, study.seeds),
    }  # fmt: skip
    number, word = seeds.counted(study.seeds)
    return {
        "StudyName": latex.escape(study.name),
        "StudyTitle": latex.escape(study.title),
        "StudyQuestion": latex.escape(study.question),
        "MainSplit": latex.escape(places.first_splits(study)),
        "NumberOfMethods": latex.count(len(study.methods)),
        "NumberOfSeeds": number,
        "SeedWord": word,
        "WhatSeedsFix": what_seeds_fix(study),
        "TheHead": the_head(study),
        "SelectionRule": tables.selection_rule(study),
        "SearchCurve": searches.curve(study),
        "SearchRule": searches.rule(study) if searching.searched(study) else "",
        "ValidationShare": latex.share(study.validation),
        "NearMargin": f"{answer.NEAR:g}",
        **{name: listed([latex.escape(word) for word in words]) for name, words in names.items()},
        **({"ReferenceMethod": latex.escape(study.reference)} if study.reference else {}),
        **({"Replicates": latex.escape(study.replicates)} if study.replicates else {}),
    }


def the_head(study: Study) -> str:
    """Return what is trained beside what a method chooses, in sentences that follow those on methods."""
    trained = "Every method also trains the head, the freshly initialised output layers"
    if tables.writing(study) == {False}:
        return f"{trained}; its parameters are counted apart."
    if tables.writing(study) == {True}:
        return "Texts are written by the backbone's own output layer, so there is no head, and nothing new but these."
    return f"{trained}, whose parameters are counted apart, but where texts are written by the backbone's own one."


ARCHITECTURES = {
    "bert": r"BERT \citep{devlin2019bert}", "roberta": r"RoBERTa \citep{liu2019roberta}", "electra": "ELECTRA",
    "distilbert": "DistilBERT", "deberta-v2": "DeBERTa", "modernbert": "ModernBERT", "gpt2": "GPT-2", "llama": "Llama",
    "t5": "T5", "bart": "BART",
}  # fmt: skip
MINIATURE = 30_000_000
"""Parameters; BERT's published tiny, mini and small ones have 4, 11 and 29 million."""


def architectures(data: SimpleNamespace) -> str:
    """Return whose architectures the backbones have, as the end of a sentence; nothing while none is known."""
    own = [ARCHITECTURES.get(family, latex.escape(family)) for family in data.backbones.family.dropna().unique()]
    if not own:
        return ""
    small = r", in miniature \citep{turc2019well,bhargava2021generalization}"
    alike = " their architecture is that" if len(own) == 1 else " their architectures are those"
    return f";{alike} of {listed(own)}{small if data.backbones.parameters.max() < MINIATURE else ''}"


def what_seeds_fix(study: Study) -> str:
    """Return what a seed fixes, and what the intervals are of, in sentences."""
    levels = seeds.shared(study.seeds)
    if min(levels) > 1:
        return (
            "A run has two seeds: one fixes its initialisation, all that is drawn before the first step, the other its "
            "order, which is what is drawn from then on, the order of the examples and dropout. The same are used for "
            "all methods, so that differences are paired. Scores are means over all pairs. Runs that share a seed are "
            r"alike, so intervals are put together from the variance components \citep{searle1992variance}, those "
            "below zero taken for zero, with the degrees of freedom of the seed of which there are fewer."
        )
    head = "" if tables.writing(study) == {True} else "of the head and "
    start, later = f"the first values {head}of what a method adds", "the order of the examples and dropout"
    fixes = f"{start}, {later}"
    if max(levels) > 1:
        varied, same = (start, later) if levels[1] == 1 else (later, start)
        fixes = f"{varied}; {same} are alike in all runs"
    return (
        f"A seed fixes {fixes}; the same seeds are used for all methods, so that differences are paired. Scores are "
        "means over seeds; their "
        rf"intervals are Student's for fewer than {MANY} seeds and bootstrapped from there on "
        r"\citep{efron1993bootstrap}."
    )


def result_macros(data: SimpleNamespace, study: Study) -> dict[str, str]:
    """Return what the runs say, as macros."""
    runs = data.runs
    done = runs[runs.status == "finished"]
    seconds = took(runs)
    commits = sorted(done.commit.dropna().astype(str).unique())
    macros = {
        "Metric": answer.metric(data),
        "NumberOfRuns": latex.count(len(runs)),
        "NumberOfFinishedRuns": latex.count(len(done)),
        "NumberOfCollapsedRuns": latex.count(done.collapsed.sum()),
        "RunsTogetherTook": f"{latex.amount(seconds / 3600)} hours"
        if seconds >= 5400
        else f"{latex.amount(seconds / 60)} minutes",
        "Answer": answer.answer(data, study),
        "SamplingError": answer.sampling_error(data, study),
        "LostRuns": answer.losses(data),
        "SearchFairness": searches.fairness(data.searches, study),
        "Comparability": answer.comparability(data, study),
        "RanksOverDatasets": evidence_tables.ranking(data, study),
        "Architectures": architectures(data),
        "Commit": listed([rf"\texttt{{{latex.escape(commit[:10])}}}" for commit in commits]) or latex.NONE,
        "DirtyNote": " with changes that were not committed" if done.dirty.any() else "",
        "Headline": latex.escape(answer.headline(data, study)),
    }
    gain = answer.pretraining_gain(data, study)
    if gain:
        macros["PretrainingGain"] = gain
    if len(data.claims):
        verdicts = data.claims.verdict
        macros["NumberOfClaims"] = latex.count(len(verdicts))
        macros |= {
            f"NumberThat{word}": latex.count((verdicts == verdict).sum())
            for word, verdict in [("Hold", "holds"), ("Fail", "fails"), ("StayOpen", "undecided")]
        }
    return macros


def load(results: Path, study: Study, reported: Path = Path("paper/reported")) -> SimpleNamespace:
    return tables.load(results / "metrics", results / "statistics", study, reported)


def headline(results: Path, data: SimpleNamespace, study: Study) -> str:
    """Return one line for the terminal: where the report is, and what it found."""
    return f"{results / 'paper' / 'report.pdf'}: {answer.headline(data, study)}"


def typeset(paper: Path, results: Path, output: Path, study: Study) -> None:
    """Typeset the report into `output`, the same bytes from the same files, whole or not at all.

    paper: the hand-written text. All that the report needs is gathered beside `output` in build/, which
    keeps LaTeX's log and can be typeset by hand. A missing LaTeX and its errors are StudyErrors.
    """
    for program in ("latexmk", "pdflatex", "bibtex"):
        if not shutil.which(program):
            raise StudyError(
                f"{output}: there is no {program} to typeset it with; {INSTALL}. "
                f"Every other output of the study is made, under {results}."
            )
    build = output.parent / "build"
    gather(paper, results, build, study)
    for flags in ([], ["-g"], ["-g"]):
        printed = latexmk(build, output, flags)
        # Two quick passes may leave an aux file of one second and one size, which latexmk takes for unchanged.
        if "Rerun to get" not in (build / "report.log").read_text(encoding="utf-8", errors="replace"):
            break
    if not (build / "report.pdf").is_file():
        raise StudyError(f"{output}: LaTeX made no pages: {first_error(build, printed)}.")
    with whole(output) as temporary:
        shutil.copyfile(build / "report.pdf", temporary)


def latexmk(build: Path, output: Path, flags: list[str]) -> str:
    """Run latexmk in `build` and return what it printed; its failure is a StudyError with LaTeX's first error."""
    # A date of its own would change the bytes; report.tex leaves out the rest that does.
    fixed = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "TZ": "UTC", "max_print_line": "1000"}
    options = ["-norc", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "-file-line-error"]
    done = subprocess.run(
        ["latexmk", *options, *flags, "report.tex"],
        cwd=build, env=os.environ | fixed, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        raise StudyError(f"{output}: LaTeX stopped: {first_error(build, done.stdout)} (see {build / 'report.log'}).")
    return done.stdout


def gather(paper: Path, results: Path, build: Path, study: Study) -> None:
    """Copy what the report is made of into an empty folder: exactly the files that the study has."""
    shutil.rmtree(build, ignore_errors=True)
    wanted = {build / path.relative_to(paper): path for path in [*paper.glob("*.tex"), *paper.glob("*.bib")]}
    wanted |= {build / path.relative_to(paper): path for path in paper.glob("sections/*.tex")}
    wanted |= {build / "numbers.tex": results / "paper" / "numbers.tex"}
    wanted |= {build / "tables" / name: results / "tables" / name for name in tables.names(study)}
    wanted |= {build / "figures" / name: results / "figures" / name for name in figures.names(study)}
    for target, path in wanted.items():
        if not path.is_file():
            raise StudyError(f"{path}: no such file, and the report needs it; the stage before this one makes it.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def first_error(build: Path, printed: str) -> str:
    """Return the first error of LaTeX's log, or the last line that was printed when there is no log."""
    log = build / "report.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    found = re.search(r"^(?:\./)?(\S+\.\w+:\d+: .+|! .+)$", text, flags=re.MULTILINE)
    error = found[1].strip() if found else next(iter(reversed(printed.strip().splitlines())), "no message")
    return f"{error}; {INSTALL}" if ".sty' not found" in error else error
