"""The profile as it stands on a cluster with accounts and sacct, whose database may be away."""

import pytest
import slurm_accounting
from on_cluster import RULE, closing, started, whole  # noqa: F401

from peftstudy import files

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster():
    """A cluster with accounting, for this process's tests of it; the others do without, and start sooner."""
    with started(slurm_accounting, slurm_accounting.AccountedCluster, "accounting") as cluster:
        yield cluster


@pytest.fixture
def study(cluster, whole, tmp_path):  # noqa: F811
    with closing(cluster, whole, tmp_path / "study") as study:
        study.set_in_profile("# slurm_account: my-account", "slurm_account: lab")
        yield study


def seconds(elapsed: str) -> int:
    """Return the seconds of what sacct prints ([days-]hours:minutes:seconds)."""
    days, _, clock = elapsed.rpartition("-")
    hours, minutes, rest = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest


def test_a_stated_account_is_charged_with_what_the_records_say(study, whole):  # noqa: F811
    study.start()
    said = study.end()
    assert study.started[-1].returncode == 0, said
    study.assert_same_numbers(whole)
    records = [files.read_sealed(path) for path in study.root.glob("runs/**/record.json")]
    [job] = {record["provenance"]["slurm"]["job"] for record in records}
    charged, _, step = study.cluster.accounted(job, "Account", "State", "Elapsed", "AllocTRES", "MaxRSS")
    assert (charged["Account"], charged["State"]) == ("lab", "COMPLETED")
    assert "gres/gpu=1" in charged["AllocTRES"].split(",")
    measured = [record["measured"] for record in records]
    assert {each["devices"] for each in measured} == {1}
    spent = sum(each[f"{part}_seconds"] for each in measured for part in ("setup", "training", "evaluation"))
    assert 0.2 * seconds(charged["Elapsed"]) < spent <= seconds(charged["Elapsed"]) + 1, "the rest: two Snakemakes"
    # Slurm adds up all processes of the step, looking once a second: ours and the Snakemake that started it.
    most = max(each["peak_memory_bytes"] for each in measured)
    assert 0.9 * most < 1024 * float(step["MaxRSS"].removesuffix("K")) < most + 400e6


def test_a_cancelled_job_and_a_failing_one_are_noticed(study, whole):  # noqa: F811
    study.start("--set-resources", "train_made_90-10_small_1:mem_mb=350+2500*(attempt-1)")
    study.cluster.ask("scancel", study.training())
    said = study.end()
    assert study.started[-1].returncode == 0, said
    states = [study.cluster.accounted(job, "State")[0]["State"].split()[0] for job in study.jobs_of(RULE)]
    assert states == ["FAILED", "CANCELLED", "COMPLETED"]
    for state in ("FAILED", "CANCELLED"):
        assert f"SLURM status is: '{state}'" in said
    study.assert_same_numbers(whole)


def test_an_unknown_account_is_named_with_the_known_ones(study):
    study.set_in_profile("slurm_account: lab", "slurm_account: labb")
    study.start()
    said = study.end(60)
    assert study.started[-1].returncode == 1
    assert "The given account labb appears to be invalid. Available accounts:" in said
    assert not study.cluster.jobs("PENDING,RUNNING")


def test_a_database_that_is_away_stops_no_study(study, whole):  # noqa: F811
    study.start()
    study.training()
    study.cluster.stop_accounting()
    try:
        said = study.end()
    finally:
        study.cluster.start_accounting()
    assert study.started[-1].returncode == 0, said
    study.assert_same_numbers(whole)
