"""Jobs that wait in SLURM's queue, and why; some wait for what never comes, and Snakemake waits with them."""

import subprocess
from collections import Counter
from pathlib import Path

TOO_LONG = (
    "they ask for more time than is allowed: fewer workflow.job_minutes, a smaller max_runtime in slurm/config.yaml, "
    "or another slurm_partition"
)
HELD = "they are held: scontrol release JOB lets them go"
NEVER = {
    "PartitionTimeLimit": TOO_LONG,
    "QOSMaxWallDurationPerJobLimit": TOO_LONG,
    "AssocMaxWallDurationPerJobLimit": TOO_LONG,
    "JobHeldUser": HELD,
    "JobHeldAdmin": HELD,
    "BadConstraints": "no node has what they ask for: see set-resources in slurm/config.yaml",
    "AssocGrpBillingMinutes": "the account has used up its time: another slurm_account",
    "AssocGrpCPUMinutesLimit": "the account has used up its time: another slurm_account",
    "AssocGrpGRESMinutes": "the account has used up its time: another slurm_account",
}
"""Slurm's reasons (squeue(1), job reason codes) for which a job stays where it is until somebody does something."""
PATIENCE_SECONDS = 3


def reasons(folder: Path) -> Counter[str]:
    """Return why the user's jobs that were sent off from a folder wait, and how many do; nothing without SLURM."""
    asked = ["squeue", "--me", "--noheader", "--states=PENDING", "--format=%r|%Z"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return Counter()
    lines = (line.partition("|") for line in done.stdout.splitlines())
    return Counter(reason for reason, _, sent_from in lines if Path(sent_from) == folder)


def report(found: Counter[str]) -> list[str]:
    """Return what there is to say of the jobs that wait, a line and one for each reason that needs somebody."""
    if not found:
        return []
    said = ", ".join(f"{reason} {count}" for reason, count in found.most_common())
    stuck = [
        f"  {count} will not start ({reason}): {NEVER[reason]}." for reason, count in found.items() if reason in NEVER
    ]
    return [f"waiting in the queue: {found.total()} jobs ({said})", *stuck]
