"""Joules by counters in the kernel's layout: started again, shared, unreadable; and what becomes of them."""

import math
import os
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from synthetic import default_study, write_metrics, write_statistics
from test_training import SETTINGS, TRAIN, VALIDATION, a_run

from peftstudy import devices, energy, estimates, statistics, status, tables, training
from peftstudy.checkpoints import Checkpoints
from peftstudy.evidence import bargains
from peftstudy.report import checklists, cost_tables

CPU = torch.device("cpu")


class Counters:
    """A folder in powercap's layout, and a /proc/stat: two packages, memory, and what counts the same again."""

    def __init__(self, folder):
        self.folder, self.size = folder, 262_143_328_850
        for zone, name in [("0", "package-0"), ("0:0", "core"), ("0:1", "dram"), ("1", "package-1"), ("2", "psys")]:
            self.write(zone, "name", name)
            self.write(zone, "max_energy_range_uj", self.size)
            self.set(zone, 0)
        self.write("0", "name", "package-0", interface="intel-rapl-mmio")
        self.busy(0)

    def write(self, zone, file, value, interface="intel-rapl"):
        place = self.folder / "powercap" / f"{interface}:{zone}"
        place.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(f"{value}\n")

    def set(self, zone, joules):
        self.write(zone, "energy_uj", round(joules * 1e6))

    def busy(self, seconds):
        """All cores' clock: user, nice, system, idle, waiting, interrupts, soft ones, stolen."""
        ticks = round(os.sysconf("SC_CLK_TCK") * seconds)
        (self.folder / "stat").write_text(f"cpu  {ticks} 0 0 99999 88888 0 0 0 7 7\ncpu0 1 2 3 4 5 6 7 8 0 0\n")


@pytest.fixture
def counters(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(energy, "STAT", tmp_path / "stat")
    return Counters(tmp_path)


@pytest.fixture
def own(monkeypatch):
    """The CPU seconds of this process, to be set."""
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(time, "process_time", lambda: clock.seconds)
    return clock


def meter():
    return energy.Meter(energy.Device(CPU))


def test_packages_and_memory_are_counted_once(counters, own):
    found = meter()
    for zone, joules in [("0", 10), ("0:0", 7), ("0:1", 2), ("1", 30), ("2", 99)]:
        counters.set(zone, joules)
    own.seconds = 4
    counters.busy(4)
    device, processor = found.joules()
    assert math.isnan(device) and processor == pytest.approx(42)
    assert found.joules()[1] == pytest.approx(42), "nothing more was taken"


def test_a_counter_that_starts_again_goes_on(counters, own):
    size = counters.size / 1e6
    counters.set("0", size - 3)
    found = meter()
    counters.set("0", 5)
    assert found.joules()[1] == pytest.approx(8)
    counters.set("0", 6)
    assert found.joules()[1] == pytest.approx(9)


def test_a_process_is_counted_its_share_of_the_busy_time_and_the_shares_add_up(counters, monkeypatch):
    clocks = {"one": 0.0, "other": 0.0}
    who = SimpleNamespace(name="one")
    monkeypatch.setattr(time, "process_time", lambda: clocks[who.name])
    meters = {}
    for who.name in clocks:
        meters[who.name] = meter()
    counters.set("0", 80)
    clocks.update(one=3.0, other=1.0)
    counters.busy(4)
    taken = {}
    for who.name, found in meters.items():
        taken[who.name] = found.joules()[1]
    assert taken == {"one": pytest.approx(60), "other": pytest.approx(20)}


def test_a_counter_that_may_have_started_again_unseen_says_nothing(counters, own, monkeypatch):
    found = meter()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + counters.size / 1e6 / energy.MOST_WATTS + 1)
    counters.set("0", 5)
    assert math.isnan(found.joules()[1])
    said = energy.measured(*found.joules(), found, on_device=False)
    assert said == {"device_joules": None, "processor_joules": None, "energy_absent": energy.UNREAD}


def test_it_is_read_now_and_then(counters, own, monkeypatch):
    found, now = meter(), time.monotonic()
    counters.set("0", counters.size / 1e6 - 1)
    found.tick()
    assert found.processor.joules == 0
    monkeypatch.setattr(time, "monotonic", lambda: now + energy.SECONDS + 1)
    found.tick()
    counters.set("0", 1)
    assert found.joules()[1] == pytest.approx(counters.size / 1e6 + 1)


@pytest.mark.parametrize("spoil", [
    lambda folder: (folder / "intel-rapl:0:1" / "energy_uj").unlink(),
    lambda folder: (folder / "intel-rapl:0" / "max_energy_range_uj").write_text("none"),
    lambda folder: folder.rename(folder.parent / "elsewhere"),
])  # fmt: skip
def test_what_cannot_be_read_is_absent_and_not_zero(counters, spoil):
    spoil(counters.folder / "powercap")
    found = meter()
    assert math.isnan(found.joules()[1])
    assert energy.measured(*found.joules(), found, on_device=False) == {
        "device_joules": None, "processor_joules": None, "energy_absent": "no counter"
    }  # fmt: skip


def test_this_machine_s_own_clock_is_read():
    before = energy.busy_seconds()
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    assert 0.05 < energy.busy_seconds() - before < 60


def test_a_device_has_its_own_counter():
    if not torch.cuda.is_available():
        pytest.skip("no GPU: its counter of joules cannot be read")
    device = torch.device("cuda")
    found = energy.Meter(energy.Device(device))
    product = torch.randn(8192, 8192, device=device)
    begin = time.monotonic()
    while time.monotonic() - begin < 2:
        product = (product @ product).clamp(-1, 1)
        torch.cuda.synchronize()
    joules, _ = found.joules()
    if found.device.absent == energy.SHARED:
        pytest.skip("another process computes on the GPU")
    assert 20 < joules < 4000


def test_a_run_that_goes_on_has_the_joules_of_both_its_parts(counters, own, make_backbone, make_tokens, tmp_path):
    from peftstudy import tokens

    folder, data = make_backbone("bert"), tokens.load(make_tokens("bert"))
    steps = []

    class Stop(Exception):
        pass

    def begin(stop_after=None):
        run = a_run(folder, SETTINGS)
        step = run._step

        def heavy(*rest):
            steps.append(1)
            counters.set("0", len(steps) * 10)  # ten joules a step
            return step(*rest)

        run._step = heavy
        keep = Checkpoints(tmp_path / "checkpoint.pt", "key", seconds=0)

        def after(model, epoch):
            if epoch == stop_after:
                raise Stop

        return run.fit(data, TRAIN, VALIDATION, keep, after)

    with pytest.raises(Stop):
        begin(stop_after=1)
    whole = begin()
    assert whole.joules[1] == pytest.approx(10 * len(steps)) and math.isnan(whole.joules[0])
    assert whole.step == len(steps)


def test_the_processes_of_a_run_add_up(counters, own, make_backbone, monkeypatch):
    run = a_run(make_backbone("bert"))
    counters.set("0", 7)
    monkeypatch.setattr(devices, "add_up", lambda tensor: tensor * 2)  # another process that took as much
    assert run._joules()[1] == pytest.approx(14)


def test_older_checkpoints_do_not_say_what_was_taken(make_backbone):
    run = a_run(make_backbone("bert"))
    state = run.state()
    del state["progress"]["joules"]
    run.restore(state)
    assert all(map(math.isnan, run.progress.joules))
    absent = energy.measured(1.0, math.nan, run.meter, on_device=False)["energy_absent"]
    assert absent in (energy.NO_COUNTER, energy.IN_PART)


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Tables of a study whose runs have joules, those of the method head but one."""
    study = default_study(splits=["90-10", "size-300"])

    def load(change):
        folder = tmp_path_factory.mktemp("made")
        write_metrics(folder / "metrics", study)
        runs = pd.read_csv(folder / "metrics/runs.csv")
        change(runs)
        runs.to_csv(folder / "metrics/runs.csv", index=False)
        write_statistics(folder, study)
        return tables.load(folder / "metrics", folder / "statistics", study, folder)

    return study, load


def with_joules(runs):
    runs["processor_joules"] = np.where(runs.status == "finished", 50 * runs.training_seconds, None)
    runs["energy_absent"] = None


def test_energy_is_a_cost_like_others_where_it_is_known(counted):
    study, load = counted
    found = load(with_joules)
    cells = bargains.costed(found.scores)
    assert cells.joules.to_numpy() == pytest.approx(50 * cells.training_seconds)
    costs = tables.MADE["costs"](found, study)
    assert "energy" in costs and "& kJ" in costs and costs.count(r"\multicolumn{11}") == 2
    assert "Energy: of training and evaluation, by the counters of the processors" in costs
    assert "energy at most 90" in tables.MADE["best-under"](found, study)
    assert "kWh. Energy: of training" in checklists.compute(found, study)[1]


def test_without_a_counter_the_tables_say_so(counted):
    study, load = counted
    found = load(lambda runs: None)
    costs = tables.MADE["costs"](found, study)
    assert "Energy is not known (no counter)." in costs and "kJ" not in costs
    assert "energy" not in tables.MADE["best-under"](found, study)
    older = load(lambda runs: runs.isetitem(runs.columns.get_loc("energy_absent"), None))
    assert "Energy is not known (the records do not say why)." in tables.MADE["costs"](older, study)


def test_on_a_device_it_is_the_device_s_joules_and_never_the_processors():
    runs = pd.DataFrame({
        "status": "finished", "peak_device_memory_bytes": [1.0, 1.0, None], "device_joules": [5.0, None, None],
        "processor_joules": [1.0, 2.0, 3.0], "energy_absent": [None, energy.SHARED, None],
    })  # fmt: skip
    assert bargains.joules(runs).fillna(-1).tolist() == [5.0, -1, 3.0]
    assert "of 2 of 3 runs; the others have no count" in cost_tables.energy(runs)
    assert cost_tables.energy(runs.iloc[[1]]) == "Energy is not known (the device was shared)."


def test_what_is_left_takes_the_energy_of_runs_like_it(tmp_path):
    study = default_study(splits=["90-10"], seeds=[0, 1])
    first, second, *_ = study.runs()
    found = estimates.Estimates(study)
    seconds = {"setup_seconds": 1.0, "training_seconds": 8.0, "evaluation_seconds": 1.0}
    found.add(first.as_dict(), seconds)
    assert found.run_joules(second) is None
    found.add(first.as_dict(), seconds | {"processor_joules": 3.6e6, "device": "cpu"})
    found.add(first.as_dict(), seconds | {"processor_joules": 1.0, "device_joules": 7.2e6, "device": "A-GPU"})
    assert found.run_joules(second) == pytest.approx(5.4e6)
    overview = status.Overview(study, found)
    assert status._energy(overview, {"pack": [second, second]}, 2.0, 15.0) == ", 3 kWh"
    guess = ", about 0.03 kWh (a guess: 15 W, workflow.watts)"
    assert status._energy(overview, {"pack": [second, study.runs()[-1]]}, 2.0, 15.0) == guess
    assert status._energy(overview, {"pack": []}, 2.0, 15.0) == guess


def test_a_claim_may_be_about_energy(counted):
    from peftstudy.evidence import verdicts
    from peftstudy.specs import Claim

    study, load = counted
    found = load(with_joules)
    claim = Claim("The head alone takes less.", ("energy(head) < energy(full)",))
    said = verdicts.check(
        default_study(splits=["90-10", "size-300"], claims=[{"sentence": claim.sentence, "means": claim.means[0]}]),
        found.runs, found.epochs, study and statistics.REPORTED,
    )  # fmt: skip
    assert said.verdict.tolist() == ["holds"]
    assert training.TrainingState().joules == (0.0, 0.0)
