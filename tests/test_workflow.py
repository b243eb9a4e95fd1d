"""The whole workflow on a tiny study of made texts: real Snakemake, real training, real files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import own_method
import pandas as pd
import psutil
import pytest
from conftest import ROOT
from project import CONFIG, LONG, METRICS, PART, Project, changed

from peftstudy import archive, files, metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """The tiny study, run once to its metrics."""
    project = Project(tmp_path_factory.mktemp("finished"))
    project.run(METRICS)
    return project


@pytest.fixture
def copied(finished, tmp_path) -> Project:
    """A copy of the finished study, to change."""
    return Project.copy(finished, tmp_path / "copy")


def written(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Return the runs that were trained in between."""
    return {name for name, when in after.items() if before.get(name) != when}


def test_every_run_asked_for_is_in_the_metrics(finished):
    runs = pd.read_csv(finished.folder / METRICS)
    assert len(runs) == 2 * (2 * 2 + 1)
    assert set(runs["status"]) == {"finished"}
    assert runs["method"].drop_duplicates().tolist() == ["lora", "full"], "the configuration's order"
    assert runs["test_score"].between(0.2, 1).all()
    assert runs.groupby("backbone")["seed"].count().to_dict() == {"small": 8, "small-random": 2}
    searches = pd.read_csv(finished.folder / "results/tiny/metrics/searches.csv")
    assert searches.groupby(["split", "backbone"])["chosen"].sum().eq(1).all()


def test_crossing_the_seeds_trains_the_new_pairs_alone(copied):
    before = copied.records()
    copied.run(METRICS, config=changed(PART, seeds={"initialization": [0, 1], "order": [0, 1]}))
    new = {f"made/90-10/small/{name}/seed-{seed}" for name in ("lora", "full") for seed in ("i0-o1", "i1-o0")}
    assert written(before, copied.records()) == new
    runs = pd.read_csv(copied.folder / METRICS)
    assert set(runs["status"]) == {"finished"} and set(runs["seed"]) == {"0", "1", "i0-o1", "i1-o0"}


@pytest.fixture(scope="module")
def archived(finished, tmp_path_factory) -> Project:
    """The tiny study with its archive and its report, if there is a LaTeX to make it with."""
    project = Project.__new__(Project)
    project.folder = tmp_path_factory.mktemp("archived") / "project"
    shutil.copytree(finished.folder, project.folder, symlinks=True)
    project.run("archive", *(["all"] if shutil.which("latexmk") else []))
    return project


def test_the_report_is_typeset_and_then_there_is_nothing_to_do(archived):
    if not shutil.which("latexmk"):
        pytest.skip("no latexmk: install latexmk, texlive-latex-recommended, texlive-fonts-recommended, lmodern")
    report = archived.folder / "results/tiny/paper/report.pdf"
    assert report.read_bytes().startswith(b"%PDF")
    assert "Nothing to be done" in archived.run()


def test_snakemakes_own_report_holds_the_results_with_their_captions(archived):
    if not shutil.which("latexmk"):
        pytest.skip("no latexmk, so no report")
    archived.run("--report", "all.html")
    held = (archived.folder / "all.html").read_text()
    captions = [re.sub("<[^>]+>", "", caption) for caption in re.findall(r'"caption": "(.*?)(?<!\\)"', held)]
    figures = [caption for caption in captions if caption.startswith("Figure tiny/figures: open marks are seeds")]
    assert len(figures) == len(list((archived.folder / "results/tiny/figures").glob("*.pdf"))) > 0
    assert sum(caption.startswith("The report of the study tiny") for caption in captions) == 2, "as PDF, as page"
    assert any(caption.startswith("Statistics of the study tiny: means over seeds") for caption in captions)
    assert not [caption for caption in captions if "{{" in caption]


def test_a_cell_of_the_report_names_its_runs(archived):
    if not shutil.which("latexmk"):
        pytest.skip("no latexmk, so no report")
    command = [sys.executable, "-m", "peftstudy", "why", "--results", "results/tiny"]
    done = subprocess.run([*command, "scores/90-10/small/lora"], cwd=archived.folder, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("table scores: 2 runs, 2 of them finished, from commit ")
    paths = [archived.folder / line.split()[0] for line in lines[1:]]
    assert len(paths) == 2 and all((path / "record.json").is_file() for path in paths)
    done = subprocess.run([*command, "Anser"], cwd=archived.folder, capture_output=True, text=True)
    assert done.returncode == 1 and "unknown figure, table, number or place 'Anser'" in done.stderr


def test_the_archive_holds_every_run(archived):
    folder = archived.folder / "results/archive/tiny"
    assert archive.check(folder)["runs"] == 10
    record = json.loads(pd.read_parquet(folder / "records.parquet").set_index("run")["record"].iloc[0])
    assert record["status"] == "finished"
    runs = pd.read_csv(archived.folder / METRICS)
    predictions = pd.read_parquet(folder / "predictions.parquet")
    right = (predictions["label"] == predictions["predicted"]).groupby(predictions["run"].astype(str)).mean()
    assert sorted(right) == pytest.approx(sorted(runs["test_score"]))


POISONED = ("torch", "transformers", "peft", "adapters", "tokenizers", "safetensors")


def rebuild(archived: Project, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Rebuild where there is the archive alone, and where importing what trains is an error."""
    for name in ("workflow", "paper", "Snakefile", "config.yaml"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(archived.folder / "results/archive", folder / "results/archive", dirs_exist_ok=True)
    (folder / "src").mkdir()
    (folder / "src/peftstudy").symlink_to(ROOT / "src/peftstudy")
    for name in POISONED:
        (folder / f"src/{name}.py").write_text(f"raise RuntimeError('{name} was imported')\n")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--nocolor", "--config", "rebuild=tiny"]
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=os.environ | {"PYTHONPATH": str(folder / "src")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_the_report_is_rebuilt_from_the_archive_alone_to_the_same_bytes(archived, tmp_path):
    if not shutil.which("latexmk"):
        pytest.skip("no latexmk: install latexmk, texlive-latex-recommended, texlive-fonts-recommended, lmodern")
    done = rebuild(archived, tmp_path)
    assert done.returncode == 0, done.stdout
    first, again = archived.folder / "results/tiny", tmp_path / "results/rebuilt/tiny"
    made = [path.relative_to(first) for kind in ("metrics", "statistics", "tables", "figures")
            for path in (first / kind).rglob("*") if path.is_file() and not path.name.startswith(".")]  # fmt: skip
    for name in [*made, Path("paper/numbers.tex"), Path("paper/report.pdf"), Path("report.html")]:
        assert (again / name).read_bytes() == (first / name).read_bytes(), name


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda folder: (folder / "records.parquet").unlink(), "records.parquet: is missing; fetch the archive again."),
        (lambda folder: (folder / "study.json").write_text("{}"), "study.json: changed since the manifest was written"),
        (lambda folder: (folder / "more.csv").write_text(""), "more.csv: is not in the manifest"),
        (lambda folder: shutil.rmtree(folder), "unknown study under results/archive 'tiny' (known: none)."),
    ],
    ids=["missing", "changed", "foreign", "unknown"],
)
def test_from_an_archive_that_is_not_whole_nothing_is_built(archived, tmp_path, spoil, said):
    project = Project.__new__(Project)
    project.folder = tmp_path / "archived"
    shutil.copytree(archived.folder / "results/archive", project.folder / "results/archive")
    spoil(project.folder / "results/archive/tiny")
    (tmp_path / "here").mkdir()
    done = rebuild(project, tmp_path / "here")
    assert done.returncode == 1 and said in done.stdout.strip().splitlines()[-1]
    assert not (tmp_path / "here/results/rebuilt").exists()


def test_a_changed_rank_repeats_the_runs_of_that_method_alone(copied):
    before = copied.records()
    copied.run(METRICS, config=changed(PART, methods={**CONFIG["methods"], "lora": {"rank": 4}}))
    assert written(before, copied.records()) == {f"made/90-10/small/lora/seed-{seed}" for seed in (0, 1)}


def test_an_added_seed_trains_that_seed_alone(copied):
    before = copied.records()
    copied.run(METRICS, config=changed(PART, seeds=[0, 1, 2]))
    assert written(before, copied.records()) == {f"made/90-10/small/{name}/seed-2" for name in ("lora", "full")}


def test_an_added_method_trains_that_method_alone(copied):
    before = copied.records()
    copied.run(METRICS, config=changed(PART, methods={**CONFIG["methods"], "bitfit": {}}))
    assert written(before, copied.records()) == {f"made/90-10/small/bitfit/seed-{seed}" for seed in (0, 1)}


def test_a_method_of_ones_own_is_run_again_when_its_file_changes(copied):
    own, config = copied.folder / "own.py", changed(PART, methods={**CONFIG["methods"], "own": {"method": "own.py"}})
    own.write_text(own_method.TEXT)
    copied.run(METRICS, config=config)
    resolved = json.loads((copied.folder / "results/tiny/study.json").read_text())
    assert resolved["methods"]["own"]["code"], "an archive is read as it was made, though the file may change"
    assert "train_" not in copied.run(METRICS, "-n", config=config)
    own.write_text(f"{own_method.TEXT}\n# One line more.\n")
    said = copied.run(METRICS, "-n", "-p", config=config).splitlines()
    jobs = [line for line in said if "-m peftstudy train" in line]
    assert len(jobs) == 1 and '"method":"own"' in jobs[0] and '"method":"lora"' not in jobs[0]


def test_a_run_that_starts_from_others_comes_after_them_and_brings_back_their_weights(tmp_path, bert):
    """Added to a study of which one such run is there without its weights, and another is not."""
    project, made = Project(tmp_path / "p"), CONFIG["datasets"]["made"]
    config = changed(
        datasets={"made": made, "other": made | {"source": "more", "methods": ["pfeiffer"]}}, splits=["90-10"],
        seeds=[0], claims=[], backbones={"small": {"folder": str(bert)}}, reference="pfeiffer",
        methods={"pfeiffer": {}},
    )  # fmt: skip
    path = "results/tiny/{}/made/90-10/small/{}/seed-0/{}"
    weights = project.folder / path.format("state/runs", "pfeiffer", "trained.safetensors")
    project.run(path.format("runs", "pfeiffer", "record.json"), config=config)
    weights.unlink()  # as evaluation does
    config["methods"] = {"fusion": {"method": "adapterfusion", "of": "pfeiffer"}, **config["methods"]}
    tested = [path.format("runs", method, "test.json") for method in ("pfeiffer", "fusion")]
    said = project.run(*tested, config=config)
    assert re.findall("^(?:local)?rule (train_.*):", said, re.MULTILINE)[-1] == "train_made_90-10_small_2"
    assert weights.exists(), "evaluated, and kept"
    record = json.loads((project.folder / path.format("runs", "fusion", "record.json")).read_text())
    assert record["status"] == "finished" and [run["dataset"] for run in record["asked"]["origins"]] == [
        "made",
        "other",
    ]
    assert "Nothing to be done" in project.run("-n", *tested, config=config)


def test_jobs_that_are_cut_by_minutes_follow_the_finished_runs_and_repeat_none(copied):
    # By the guess four runs share a job, as they did; they took longer than that.
    minutes = {**CONFIG["workflow"], "job_minutes": 0.004, "run_minutes": 0.001}
    assert "rule train_" not in copied.run(METRICS, "-n", config=changed(workflow=minutes))
    added = changed(splits=[*CONFIG["splits"], "50-50"], workflow=minutes)
    jobs = set(re.findall(r"rule (train_\S+):", copied.run(METRICS, "-n", config=added)))
    assert jobs == {f"train_made_50-50_small_{number}" for number in (1, 2, 3, 4)}
    (copied.folder / ".snakemake/locks/0.input.lock").write_text("results/tiny/study.json\n")
    assert not (copied.folder / "results/tiny/state/packs.json").exists(), "a dry run keeps nothing"
    jobs = set(re.findall(r"rule (train_\S+):", copied.run(METRICS, "-n", "--nolock", config=added)))
    assert jobs == {"train_made_50-50_small_1"}, "beside another Snakemake nothing is decided"


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory) -> Project:
    """The study with longer runs, made without an interruption."""
    project = Project.copy(finished, tmp_path_factory.mktemp("whole") / "p")
    project.run(METRICS, config=LONG)
    return project


def resume_when_waited_for(processes: list[psutil.Process], logs: Path) -> None:
    deadline = time.monotonic() + 60
    while processes and not any("waiting for its end" in path.read_text() for path in logs.rglob("*.log")):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for process in processes:
        process.resume()


@pytest.mark.parametrize("how", ["all killed", "Snakemake killed", "interrupted"])
def test_a_study_that_is_stopped_ends_with_the_same_numbers(copied, whole, how):
    """Also when what a killed Snakemake had started goes on beside the next one."""
    before = copied.records()
    process = subprocess.Popen(
        copied.command(METRICS, config=LONG), cwd=copied.folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    state = copied.folder / "results/tiny/state/runs"
    deadline = time.monotonic() + 120
    while not (written(before, copied.records()) and list(state.rglob("checkpoint.pt"))):
        assert time.monotonic() < deadline and process.poll() is None, "no run was under way to be killed"
        time.sleep(0.02)
    left = psutil.Process(process.pid).children(recursive=True) if how == "Snakemake killed" else []
    for child in left:
        child.suspend()  # so that it is not at its end before the next one comes
    if left:
        os.kill(process.pid, signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL if how == "all killed" else signal.SIGINT)
    process.wait()
    done = written(before, copied.records())
    between = copied.records()
    copied.run("--unlock", config=LONG)
    threading.Thread(target=resume_when_waited_for, args=(left, copied.folder / "results/tiny/logs")).start()
    said = copied.run("--rerun-incomplete", METRICS, config=LONG)
    assert not done & written(between, copied.records()), "a finished run was repeated"
    pd.testing.assert_frame_equal(copied.scores(), whole.scores())
    waited = re.search(r"process \d+ on \S+ (is at it; waiting for its end|ended without giving it up)", said)
    expected = {"all killed": "ended without giving it up", "Snakemake killed": "is at it; waiting for its end"}
    assert waited[1] == expected[how] if how in expected else not waited, said


def test_older_records_that_came_back_after_an_interruption_are_not_taken_for_the_new_request(copied, whole):
    """What Snakemake leaves of a job that failed: its earlier outputs, and no note on what they were made from."""
    unfinished = copied.folder / "results/tiny/state/unfinished"
    assert not unfinished.exists(), "the study was finished"
    shutil.rmtree(copied.folder / ".snakemake/metadata")
    for name in ("results/tiny/study.json", METRICS):
        (copied.folder / name).unlink()
    unfinished.touch()
    kept = sorted((copied.folder / "results/tiny/runs").rglob("record.json"))
    assert "2 runs are of an earlier request; the next start does them again" in copied.run("-n", config=LONG)
    assert sorted((copied.folder / "results/tiny/runs").rglob("record.json")) == kept, "a dry run changes nothing"
    copied.run(METRICS, config=LONG)
    pd.testing.assert_frame_equal(copied.scores(), whole.scores())
    assert not unfinished.exists()


def test_what_came_back_after_an_interruption_for_other_inputs_or_another_training_is_made_again(copied):
    """The request is the same: a record of other data, and scores of another training."""
    runs = copied.folder / "results/tiny/runs/made/90-10/small"
    record, test = runs / "lora/seed-0/record.json", runs / "full/seed-1/test.json"
    was, old = files.read_sealed(record), files.read_sealed(test)
    other = {**was, "provenance": {**was["provenance"], "inputs": {**was["provenance"]["inputs"], "train": "0" * 64}}}
    files.write_sealed(record, {**other, "key": "0" * 64})
    files.write_sealed(test, {**old, "key": "0" * 64, "record": "0" * 64, "scores": dict.fromkeys(old["scores"], 0.5)})
    row = metrics.run_row(metrics.asked_of(files.read_json(test.with_name("record.json"))), test.parent)
    assert (row["status"], row["reason"]) == ("missing", "what was measured on test is of another training")
    (copied.folder / "results/tiny/state/unfinished").touch()
    assert "2 runs are of an earlier request" in copied.run("-n", METRICS, config=PART)
    trained = copied.records()
    copied.run(METRICS, config=PART)
    assert files.read_sealed(record) == was and files.read_sealed(test) == old
    assert not written(trained, copied.records()), "they were whole in the state folder"


def test_what_another_study_s_lock_says_is_no_matter(copied):
    """Snakemake lets two studies run in one folder, and a killed one leaves its lock."""
    record = copied.folder / "results/tiny/runs/made/90-10/small/lora/seed-0/record.json"
    was = files.read_sealed(record)
    other = {**was, "provenance": {**was["provenance"], "inputs": {**was["provenance"]["inputs"], "train": "0" * 64}}}
    files.write_sealed(record, {**other, "key": "0" * 64})
    (copied.folder / "results/tiny/state/unfinished").touch()
    lock = copied.folder / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("results/other/metrics/runs.csv\n")
    assert "1 runs are of an earlier request" in copied.run("-n", METRICS, config=PART)
    lock.write_text("results/tiny/metrics/runs.csv\n")
    assert "earlier request" not in copied.run("-n", "--nolock", METRICS, config=PART), "who is at it has seen to it"


def test_data_that_are_gone_take_nothing_with_them(copied):
    """Snakemake would remove what was read of them, for the inputs are others, and then find nothing to read."""
    table = copied.folder / "results/tiny/sources/made/table.parquet"
    whole = table.read_bytes()
    (copied.folder / "data").rename(copied.folder / "moved")
    assert "Nothing to be done" in copied.run(METRICS)
    for source in CONFIG["sources"].values():
        source = {**source, "path": "dta"}
        command = copied.command(METRICS, config=changed(sources={**CONFIG["sources"], "made": source}))
        done = subprocess.run(command, cwd=copied.folder, capture_output=True, text=True)
        said = "sources.made.path: there is no folder dta (looked for at "
        assert done.returncode == 1 and said in done.stdout + done.stderr
    assert table.read_bytes() == whole


def test_results_that_were_copied_here_have_the_configuration_of_now(copied):
    """Without Snakemake's memory nothing else tells that a title is another one."""
    shutil.rmtree(copied.folder / ".snakemake")
    copied.run("results/tiny/study.json", config=changed(title="Another title"))
    assert files.read_json(copied.folder / "results/tiny/study.json")["title"] == "Another title"


def test_a_dry_run_lists_the_jobs_of_the_default_study_and_of_a_published_one(finished):
    for arguments in ([], ["--configfile", "studies/imdb-tiny.yaml"]):
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", *arguments]
        done = subprocess.run(command, cwd=finished.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "make_backbone" in done.stdout + done.stderr


ON_FILES = [path.stem for path in sorted((ROOT / "studies").glob("*.yaml")) if "\nfolder:" in path.read_text()]


@pytest.mark.parametrize("name", ON_FILES)
def test_a_dry_run_lists_the_jobs_of_studies_on_files_that_are_not_here(finished, name):
    """Several kinds of problems, budgets and backbones in one study: no job of it wants what none makes."""
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--configfile", f"studies/{name}.yaml"]
    command += ["--config", "folder=data"]
    environment = os.environ | {"MODELS": str(finished.folder)}
    done = subprocess.run(command, cwd=finished.folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "evaluate_" in done.stdout + done.stderr


def test_a_training_starts_on_as_many_devices_as_its_own_backbone_asks_for(copied):
    """Not on those of the backbone that was named last."""
    backbones = {**CONFIG["backbones"], "small-random": {"random": "small", "devices": 2}}
    record = "results/tiny/runs/made/90-10/small/lora/seed-3/record.json"
    copied.run(record, config=changed(backbones=backbones, seeds=[3]))
    assert json.loads((copied.folder / record).read_text())["measured"]["devices"] == 1


def test_a_training_on_two_devices_has_two_of_what_it_needs(tmp_path):
    project = Project(tmp_path / "two")
    config = changed(backbones={**CONFIG["backbones"], "small-random": {"random": "small", "devices": 2}})
    limit = ("--default-resources", "max_runtime=25")
    said = project.run(METRICS, "-n", "-p", "--set-resources", "train:gpu=1", *limit, config=config)
    jobs = re.findall(
        r"rule train_made_90-10_(small\S*)_1:(.*?)Shell command: (.*?) -m peftstudy train", said, re.DOTALL
    )
    one, two = (next(job for job in jobs if job[0] == name) for name in ("small", "small-random"))
    assert "gpu=1" in one[1] and "threads" not in one[1] and one[2] == "python"
    assert "gpu=2" in two[1] and "threads: 2" in two[1] and two[2].endswith("--nproc-per-node 2")
    memory = [int(re.search(r"mem_mb=(\d+)", job[1])[1]) for job in (one, two)]
    assert memory[1] == 2 * memory[0]
    assert "runtime=25" in one[1], "30 minutes, but for the profile's limit"
    assert re.search(r"rule make_backbone:.*?runtime=25", said, re.DOTALL)


@pytest.mark.parametrize(("seed", "gpus"), [(7, 1), (8, 2)])
def test_as_many_jobs_share_the_gpu_of_one_machine_as_its_profile_says(copied, seed, gpus):
    profile = copied.folder / "local/config.yaml"
    profile.write_text(profile.read_text().replace("gpu=1, mem_mb", f"gpu={gpus}, mem_mb"))
    records = [f"results/tiny/runs/made/{split}/small/lora/seed-{seed}/record.json" for split in ("90-10", "30-70")]
    said = copied.run(*records, config=changed(seeds=[seed]), where=("--profile", "local", "--cores", "2"))
    at_once = [0]
    for _, ended in re.findall(r"^(localrule train_)|^Finished jobid: .*(train_)", said, re.MULTILINE):
        at_once.append(at_once[-1] + (-1 if ended else 1))
    assert (len(at_once), max(at_once)) == (5, gpus), said


def test_a_folder_s_name_may_have_quotation_marks_and_spaces(tmp_path):
    project = Project(tmp_path / "o'brien and $HOME")
    project.run("results/tiny/study.json")
    assert files.read_json(project.folder / "results/tiny/study.json")["study"] == "tiny"


def test_a_misspelt_key_is_one_sentence_and_no_job(finished, tmp_path):
    project = Project(tmp_path / "p")
    command = project.command("-n", config=changed(methods={**CONFIG["methods"], "prompt": {"tokns": 2}}))
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 1
    said = (done.stdout + done.stderr).strip().splitlines()
    known = "initial, learning_rate, method, tokens"
    assert said == [f"study.yaml: methods.prompt: unknown option 'tokns' (known: {known}). Did you mean 'tokens'?"]
    assert not (project.folder / "results").exists()


def test_what_is_not_here_is_one_sentence_and_no_job(tmp_path):
    """At a start; a dry run lists the jobs all the same."""
    project = Project(tmp_path / "p")
    config = changed(datasets={"made": CONFIG["datasets"]["made"] | {"label": "lable"}})
    assert "train_" in project.run(METRICS, "-n", config=config)
    done = subprocess.run(project.command(config=config), cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 1
    said = (done.stdout + done.stderr).strip().splitlines()
    assert said[-1] == (
        "study.yaml: datasets.made (source made): data/made.csv: unknown column 'lable' (known: id, label, text). "
        "Did you mean 'label'?"
    )
    assert not (project.folder / "results/tiny/sources").exists()
    assert not any((project.folder / ".snakemake/locks").glob("*"))
