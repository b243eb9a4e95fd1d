"""The workflow on a real Slurm: to the same tables, and through its faults to the same numbers."""

import json
import re
import signal
import subprocess
import sys

import pandas as pd
import pytest
import slurm_cluster
from hub_server import COMMIT, serving
from on_cluster import PROFILE, RULE, closing, started, whole  # noqa: F401
from project import CONFIG, LONG, METRICS, Project
from slurm_cluster import wait_for

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="session")
def cluster():
    """A cluster for this process's tests."""
    with started(slurm_cluster, slurm_cluster.Cluster, "Slurm") as cluster:
        yield cluster


@pytest.fixture
def study(cluster, whole, tmp_path):  # noqa: F811
    with closing(cluster, whole, tmp_path / "study") as study:
        yield study


def test_a_study_comes_to_the_same_tables_as_on_one_machine(cluster, tmp_path):
    """The default study's shape: a pre-trained backbone and a random one, a search, methods, splits, seeds."""
    local, remote = Project(tmp_path / "local"), Project(tmp_path / "remote")
    tables = ["results/tiny/tables", "results/tiny/statistics/scores.csv"]
    command = remote.command(*tables, where=PROFILE)
    with (tmp_path / "remote.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=remote.folder, env=cluster.environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            local.run(*tables)
            assert process.wait(280) == 0, (tmp_path / "remote.log").read_text()[-3000:]
        finally:
            process.kill()
    pd.testing.assert_frame_equal(remote.scores(), local.scores())
    for name in ("scores.tex", "differences.tex", "data.tex", "methods.tex", "tokens.tex"):  # those without seconds
        texts = [(project.folder / tables[0] / name).read_text() for project in (local, remote)]
        assert texts[0] == texts[1], name
    logged = (remote.folder / "results/tiny/logs/runs/train_made_90-10_small_1.log").read_text()
    job = re.match(r"SLURM job (\d+) on \S+", logged)
    assert "gres:gpu:1" in cluster.ask("scontrol", "show", "job", job[1]), "trainings have a GPU"


def test_a_run_on_two_gpus(study):
    small = {**CONFIG["backbones"]["small"], "devices": 2}
    study.config = {**LONG, "backbones": {"small": small}, "training": CONFIG["training"]}
    study.set_in_profile("  train: {gpu: 1}", '  train: {gres: "gpu:a100:1"}')
    study.set_in_profile("  evaluate: {gpu: 1}", "  evaluate: {gpu: 1, gpu_model: a100}")
    study.start()
    said = study.end()
    assert study.started[-1].returncode == 0, said
    job = study.shown(RULE)
    assert "=gres:gpu:a100:2" in job and "NumCPUs=2" in job, job
    assert "=gres:gpu:a100:1" in study.shown(RULE.replace("train", "evaluate"))
    records = [json.loads(path.read_text()) for path in study.root.glob("runs/**/record.json")]
    assert [record["measured"]["devices"] for record in records] == [2, 2]


def test_what_is_on_the_hub_is_fetched_where_snakemake_runs(study, tmp_path):
    """Jobs have no network; both the data and the backbone are on a hub that the login node alone can reach."""
    (tmp_path / "reviews").mkdir()
    pd.read_csv(study.project.folder / "data/made.csv").to_parquet(tmp_path / "reviews/all.parquet")
    backbone = study.root / "backbones/small"
    kept = {"revision": COMMIT}
    source = {"kind": "hub", "repository": "org/reviews", "files": {"all": "all.parquet"}, **kept}
    study.config = {
        **LONG, "study": "fetched", "sources": {"made": source}, "backbones": {"small": {"hub": "org/small", **kept}},
        "training": CONFIG["training"],
    }  # fmt: skip
    study.target = METRICS.replace("tiny", "fetched")
    with serving({"datasets/org/reviews": tmp_path / "reviews", "models/org/small": backbone}) as hub:
        study.start(HF_ENDPOINT=hub.url)
        said = study.end()
    assert study.started[-1].returncode == 0, said
    assert {"localrule fetch_source:", "localrule fetch_backbone:"} <= set(said.splitlines())
    assert study.cluster.ask("srun", "printenv", "HTTP_PROXY").endswith(":9"), "a job would have got nowhere"
    assert pd.read_csv(study.project.folder / study.target)["status"].tolist() == ["finished"] * 2


def test_jobs_that_will_never_start_are_told_and_why_and_how_to_mend_it(study, whole):  # noqa: F811
    """The partition allows 20 minutes; two runs of five each, twice as long for safety, and ten to start: 30."""
    study.set_in_profile("# slurm_partition: gpu", "slurm_partition: short")
    study.set_in_profile("runtime: 30 * attempt", "runtime: 10 * attempt")
    process = study.start()
    status = [sys.executable, "-m", "peftstudy", "status", "study.yaml"]

    def told():
        done = subprocess.run(status, cwd=study.project.folder, env=study.cluster.environment, capture_output=True)
        return done.stdout.decode()

    reason = "  1 will not start (PartitionTimeLimit): they ask for more time than is allowed"
    wait_for(lambda: reason in told(), "the reason", 90)
    assert "a smaller max_runtime in slurm/config.yaml" in told()
    process.send_signal(signal.SIGINT)
    study.end()
    wait_for(lambda: not study.cluster.jobs("PENDING"), "the queue without it", 60)
    study.set_in_profile("# max_runtime: 1440", "max_runtime: 15")
    study.start()
    said = study.end()
    assert study.started[-1].returncode == 0, said
    for rule in (RULE, RULE.replace("train", "evaluate")):
        assert "TimeLimit=00:15:00" in study.shown(rule)
    study.assert_same_numbers(whole)


def test_scancel(study, whole):  # noqa: F811
    study.start()
    study.cluster.ask("scancel", study.training())
    said = study.end()
    assert study.started[-1].returncode == 0, said
    assert study.continued() == study.stopped(), "no step is lost"
    study.assert_same_numbers(whole)


def test_a_time_limit(study, whole):  # noqa: F811
    study.start()
    job = study.training()
    trainer = study.trainer()
    trainer.suspend()  # as slow as the limit needs it: the shortest that Slurm knows is a minute
    kept = study.checkpoint_step()  # perhaps of the last step of an epoch, and no further one under way
    study.cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    wait_for(lambda: job not in [each["id"] for each in study.cluster.jobs("RUNNING")], "the limit", 120)
    trainer.resume()
    said = study.end()
    assert study.started[-1].returncode == 0, said
    assert "SLURM status is: 'TIMEOUT'" in said
    assert study.continued() == study.stopped() >= kept, "no step is lost"
    assert "TimeLimit=01:00:00" in study.shown(RULE) and "mem=5002M" in study.shown(RULE), "twice as much"
    study.assert_same_numbers(whole)


def test_over_memory(study, whole):  # noqa: F811
    study.start("--set-resources", "train_made_90-10_small_1:mem_mb=350+2500*(attempt-1)")
    said = study.end()
    assert study.started[-1].returncode == 0, said
    assert "exceeded memory limit" in study.slurm_logs()
    study.assert_same_numbers(whole)


def test_a_node_that_dies(study, whole):  # noqa: F811
    study.start()
    job = study.training()
    [node] = [each["node"] for each in study.cluster.jobs("RUNNING") if each["id"] == job]
    study.cluster.kill_node(node)
    try:
        said = study.end()
    finally:
        study.cluster.start_node(node)
    assert study.started[-1].returncode == 0, said
    assert study.continued() > 0
    study.assert_same_numbers(whole)


def test_a_job_that_is_preempted_and_queued_again(study, whole):  # noqa: F811
    study.start()
    job = study.training()
    study.cluster.ask("scontrol", "requeue", job)
    said = study.end()
    assert study.started[-1].returncode == 0, said
    assert study.continued() > 0
    study.assert_same_numbers(whole)


def test_ctrl_c_on_snakemake(study, whole):  # noqa: F811
    process = study.start()
    study.training()
    study.trainer().suspend()  # until it is cancelled: no run ends before Snakemake has heard
    process.send_signal(signal.SIGINT)
    study.end()
    assert "Terminating processes on user request" in study.said()
    assert process.returncode == 1
    wait_for(lambda: not study.cluster.jobs("PENDING,RUNNING,COMPLETING"), "cancelled jobs")
    study.start()
    assert study.end() and study.started[-1].returncode == 0, study.said()
    assert study.continued() == study.stopped(), "no step is lost"
    study.assert_same_numbers(whole)


def test_a_snakemake_that_is_killed_and_started_again_beside_its_jobs(study, whole):  # noqa: F811
    process = study.start()
    study.training()
    trainer = study.trainer()
    trainer.suspend()  # until the second one has come to the same run
    process.kill()
    process.wait()
    study.start("--unlock")
    study.end()
    second = study.start()
    waiting = r"made/90-10/small/full/seed-\d: process \d+ on \S+ \(SLURM job \d+\) is at it; waiting for its end"
    wait_for(lambda: re.search(waiting, study.slurm_logs()), "a second writer that waits", 150)
    trainer.resume()
    said = study.end()
    assert second.returncode == 0, said
    trained = re.findall(r"made/90-10/small/full/seed-\d: finished", study.slurm_logs())
    assert len(set(trained)) == 2
    study.assert_same_numbers(whole)


def test_a_second_snakemake_is_refused(study, whole):  # noqa: F811
    first = study.start()
    study.training()
    second = study.start()
    said = study.end()
    assert second.returncode == 1
    assert "Directory cannot be locked" in said
    study.started.reverse()
    assert first.wait(200) == 0
    study.assert_same_numbers(whole)
