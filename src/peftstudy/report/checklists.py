"""Reproducibility checklists, answered from the records where these can; what they cannot is the author's to say.

The lists are those of NeurIPS (the paper checklist), of the ACL Rolling Review (responsible NLP research) and of
Papers with Code (Stojnic, 2020). Their questions stand here in a few words of our own.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

from peftstudy import searching, seeds
from peftstudy.evidence import bargains
from peftstudy.report import cost_tables, searches
from peftstudy.report.answer import comparability
from peftstudy.report.captions import way
from peftstudy.report.latex import amount, count, escape, floating, tabular
from peftstudy.report.views import selection_rule, took
from peftstudy.study import Study
from peftstudy.wording import listed

Answer = Callable[[SimpleNamespace, Study], tuple[str, str]]
"""Tables, study -> yes, no or partly, and where or why, in LaTeX."""


class Item(NamedTuple):
    """A question of a checklist, and what answers it: the records, or the author, who is told what to say."""

    name: str
    question: str
    answer: Answer | str


def claims(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    if not len(data.claims):
        return (
            "author",
            "No claims stand in the configuration; say what the study shows, and compare it with the abstract.",
        )
    return "yes", r"Each claim with its intervals and its verdict: Table~\ref{tab:claims}."


def limits(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return "partly", "The section Limits says what intervals and models leave out; add those of your own question."


def reproducible(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return "yes", (
        r"Settings of all runs: Tables~\ref{tab:settings} and~\ref{tab:methods}; seeds "
        f"{escape(seeds.said(study.seeds))}; commit {commits(data)}. The raw results rebuild this report."
    )


def code(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    kinds = {source.kind for source in study.sources.values()}
    data_from = {
        "docstrings": "the packages of the lock", "hub": "the hub, at pinned revisions", "files": "files, by checksum",
    }  # fmt: skip
    texts = listed([text for kind, text in data_from.items() if kind in kinds])
    return "partly", f"One command makes the report; its data are from {texts}. Say where code and data can be had."


def details(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    parts = r"Splits: Table~\ref{tab:data}; budget: Table~\ref{tab:settings}; rates: Table~\ref{tab:methods}."
    return "yes", f"{parts} {searches.fairness(data.searches, study)}"


def significance(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    number = len(study.seeds)
    if number < 2:
        return "no", "There is one seed, so there are no intervals."
    tests = r", tests and what they could have seen: Table~\ref{tab:power}" if study.reference else ""
    seeds_counted = " ".join(seeds.counted(study.seeds))
    return "yes", rf"95\,\% intervals over {seeds_counted} by {way(study)}: Table~\ref{{tab:scores}}{tests}."


def compute(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return "partly", (
        f"{comparability(data, study)} {hours(data)} Time and memory of each method: Table~\\ref{{tab:costs}}. "
        f"{kilowatt_hours(data)} Say what was computed before, and is not in these runs."
    )


def parameters(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return "yes", (
        r"Parameters: Tables~\ref{tab:backbones} and~\ref{tab:costs}. "
        f"{hours(data)} {comparability(data, study)}"
    )  # fmt: skip


def search(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    sizes = [searching.trials(study, method) for method in study.methods]
    where = r" Every trial: Table~\ref{tab:searches}." if max(sizes) > 1 else ""
    return "yes", f"{searches.fairness(data.searches, study)}{where} Reported is {selection_rule(study)}."


def descriptive(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    runs = data.runs
    lost = int((runs.status != "finished").sum())
    return "yes", (
        rf"Means over {' '.join(seeds.counted(study.seeds))} with the number of runs: Table~\ref{{tab:scores}}. "
        f"{count(lost)} of {count(len(runs))} runs came to nothing and {count(runs.collapsed.sum())} collapsed; "
        "they are named in the results."
    )


def packages(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return (
        "yes",
        "Each record holds the versions of the packages that decide a score; the lock holds all. Metrics: Results.",
    )


def statistics_of_data(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return (
        "yes",
        r"Examples by part, classes, duplicates: Table~\ref{tab:data}; lengths and cuts: Table~\ref{tab:tokens}.",
    )


def cited(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return "partly", r"Methods and libraries are cited (Table~\ref{tab:methods}); cite your data and backbones."


def dependencies(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return "yes", "requirements.lock, with hashes; envs/ for conda."


def training(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return "yes", "make report; each job is a command of its own, printed by the workflow."


def evaluation(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return "yes", "The same command; the predictions of every run are kept."


def weights(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    if study.keep_weights:
        return (
            "partly",
            f"Kept are those of {listed([escape(name) for name in study.keep_weights])}; peftstudy publish.",
        )
    return "partly", "Weights are removed once they are scored; peftstudy publish makes a run's again, with a card."


def results(data: SimpleNamespace, study: Study) -> tuple[str, str]:
    return "partly", "This report is the table of results; a README that names its command is yours to write."


def commits(data: SimpleNamespace) -> str:
    found = sorted(data.runs.commit.dropna().astype(str).unique())
    return listed([rf"\texttt{{{escape(commit[:10])}}}" for commit in found]) or "unknown"


def hours(data: SimpleNamespace) -> str:
    """Return what all runs took."""
    return (
        f"{count(len(data.runs))} runs took {amount(took(data.runs) / 3600)} hours together, without searches of rates "
        "and pre-training."
    )


def kilowatt_hours(data: SimpleNamespace) -> str:
    """Return the energy of all finished runs, as far as counters say."""
    done = data.runs[data.runs.status == "finished"]
    joules = bargains.joules(done)
    total = f"{amount(joules.sum() / 3.6e6)} kWh. " if joules.notna().any() else ""
    return total + cost_tables.energy(data.runs)


CHECKLISTS: dict[str, tuple[str, tuple[Item, ...]]] = {
    "NeurIPS": ("neurips2025checklist", (
        Item("1", "claims as in the abstract", claims),
        Item("2", "limits", limits),
        Item("3", "theory and proofs", "State that there is none, or add it."),
        Item("4", "enough to repeat the results", reproducible),
        Item("5", "code and data at hand", code),
        Item("6", "details of the experiments", details),
        Item("7", "significance, error bars", significance),
        Item("8", "computing resources", compute),
        Item("9", "code of ethics", "Confirm that the work keeps to it."),
        Item("10", "wider consequences", "Discuss good and bad ones, or why there are none."),
        Item("11", "safeguards", "Needed where what you release may be misused."),
        Item("12", "licences of what is used", "Name licence and version of data, backbones and code."),
        Item("13", "new assets documented", "Needed where you release data or models."),
        Item("14", "crowd work", "State that there was none, or give instructions and pay."),
        Item("15", "review board", "State that none was needed, or its approval."),
        Item("16", "use of language models", "Say whether they had a part in the method."),
    )),
    "ACL": ("arr2022checklist", (
        Item("A1", "limits", limits),
        Item("A2", "risks", "Discuss them."),
        Item("B1", "creators cited", cited),
        Item("B2", "licences", "Name those of data, backbones and code."),
        Item("B3", "intended use", "Say that the use agrees with it."),
        Item("B4", "personal or offensive data", "Say how you looked for it."),
        Item("B5", "artifacts documented", "Name domains, languages and groups in the data."),
        Item("B6", "statistics of the data", statistics_of_data),
        Item("C1", "parameters, budget, machines", parameters),
        Item("C2", "set-up and search", search),
        Item("C3", "descriptive statistics", descriptive),
        Item("C4", "packages and their settings", packages),
        Item("D", "human annotators", "State that there were none, or answer D1 to D5."),
        Item("E", "help by AI", "Say what it was used for."),
    )),
    "Code": ("stojnic2020completeness", (
        Item("1", "dependencies", dependencies),
        Item("2", "training code", training),
        Item("3", "evaluation code", evaluation),
        Item("4", "pre-trained models", weights),
        Item("5", "results with their commands", results),
    )),
}  # fmt: skip


def table(tables: SimpleNamespace, study: Study) -> str:
    """Return the checklists, a float each: item, answer, and where the answer rests."""
    floats = []
    columns = r"l>{\raggedright}p{1.45in}l>{\raggedright\arraybackslash}p{3.4in}"
    for name, (source, items) in CHECKLISTS.items():
        rows = [[escape(item.name), escape(item.question), *answered(item, tables, study)] for item in items]
        caption = (
            rf"Checklist: {name} \citep{{{source}}}, its questions in a few words. Answers are from the records; where "
            "these cannot answer, the author must."
        )
        label = f"checklist-{len(floats) + 1}" if floats else "checklist"
        floats.append(floating(tabular(columns, [["", "question", "answer", ""]], rows), caption, label, "scriptsize"))
    return "\n".join(floats)


def answered(item: Item, tables: SimpleNamespace, study: Study) -> tuple[str, str]:
    said, why = ("author", escape(item.answer)) if isinstance(item.answer, str) else item.answer(tables, study)
    return (r"\emph{author}" if said == "author" else said), why
