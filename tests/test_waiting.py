"""Jobs that wait: how many, why, and which of them will for ever. That squeue says so is tested in test_slurm.py."""

from collections import Counter

from peftstudy import waiting


def test_what_needs_somebody_stands_out():
    said = waiting.report(Counter({"Priority": 9, "PartitionTimeLimit": 2, "JobHeldUser": 1}))
    assert said == [
        "waiting in the queue: 12 jobs (Priority 9, PartitionTimeLimit 2, JobHeldUser 1)",
        "  2 will not start (PartitionTimeLimit): they ask for more time than is allowed: fewer workflow.job_minutes, "
        "a smaller max_runtime in slurm/config.yaml, or another slurm_partition.",
        "  1 will not start (JobHeldUser): they are held: scontrol release JOB lets them go.",
    ]
    assert waiting.report(Counter()) == []


def test_without_slurm_nothing_waits(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert waiting.reasons(tmp_path) == Counter()
