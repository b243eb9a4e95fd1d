"""What only reads leaves in place what an interrupted start left; the rest is seen in test_workflow.py."""

import pytest

from peftstudy import leftovers


@pytest.mark.parametrize(
    ("line", "reads"),
    [
        ("--cores all --configfile study.yaml", False),
        ("-c1 -F --rerun-incomplete all", False),
        ("--cores 2 --config name=new -R train", False),
        ("--profile slurm --report-after-run --report r.html", False),
        ("-n", True),
        ("-nF", True),
        ("-nR train", True),
        ("--cores 1 --dryrun", True),
        ("--summary", True),
        ("-D", True),
        ("--dag mermaid-js", True),
        ("--list-changes code", True),
        ("--lint", True),
        ("--unlock --quiet all", True),
    ],
)
def test_what_runs_no_job_is_known_by_its_command_line(line, reads):
    assert leftovers.only_reads(line.split()) == reads
