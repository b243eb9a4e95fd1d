"""A run on two devices: torchrun, two processes with gloo, and the numbers of one."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from slurm_cluster import wait_for
from test_runs import PARTS, spec, train, write_parts

from peftstudy import backbones, building, devices, files
from peftstudy.specs import Search

# 13 steps of 7 examples and one of 5 in each epoch; of three micro-batches, one process has none for the third.
RUNS = [
    spec("full", batch_size=7, micro_batch_size=3, epochs=3),
    spec("lora", batch_size=7, micro_batch_size=3, epochs=1, test_curve=True),
]


@pytest.fixture
def inputs(bert, make_tokens, tmp_path) -> building.Inputs:
    """Runs of a backbone without dropout: processes draw masks of their own."""
    still = tmp_path / "backbone"
    shutil.copytree(bert, still)
    config = files.read_json(still / "config.json")
    files.write_json(still / "config.json", config | dict.fromkeys([k for k in config if "dropout_prob" in k], 0.0))
    manifest = files.read_json(still / "manifest.json")
    backbones.write_manifest(still, {key: manifest[key] for key in ("kind", "family", "origin")})
    return building.Inputs(make_tokens("bert"), still, *places(tmp_path / "one"), torch.device("cpu"), 0.0)


def places(folder):
    folder.mkdir()
    write_parts(folder, PARTS)
    return folder / "state", folder / "runs"


def elsewhere(inputs, name):
    state, output = places(inputs.state.parent.parent / name)
    return dataclasses.replace(inputs, state=state, output=output)


def two(inputs, asked):
    """Start two processes on the runs; what they say is in the file `said`."""
    place = inputs.state.parent
    cells = json.dumps([{**run.as_dict(), "seed": [run.seed]} for run in asked])
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "5", "--nproc-per-node", "2",
        "-m", "peftstudy", "train", "--runs", cells, "--tokens", inputs.tokens, "--backbone", inputs.backbone,
        "--checkpoint-seconds", "0", "--train", place / "train.npy", "--validation", place / "validation.npy",
        "--state", inputs.state, "--output", inputs.output,
    ]  # fmt: skip
    said = (place / "said").open("a")
    return subprocess.Popen(
        list(map(str, command)), stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def history(inputs, run):
    return pd.read_csv(inputs.output / run.path / "history.csv").filter(regex="epoch|step|loss|score")


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_are_dealt_out_to_as_many_a_process_and_the_mean_of_all_is_their_sum(monkeypatch, parts):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "made")
    monkeypatch.setenv("WORLD_SIZE", "2")
    dealt = []
    for number in ("0", "1"):
        monkeypatch.setenv("RANK", number)
        dealt.append(
            [(part.tolist(), factor) for part, factor in devices.deal([np.arange(9) + 9 * i for i in range(parts)])]
        )
    assert len(dealt[0]) == len(dealt[1]) == (parts + 1) // 2
    means = [(part, factor / 2) for one in dealt for part, factor in one if factor]
    assert sorted(means) == [(list(range(9 * i, 9 * i + 9)), 1) for i in range(parts)]


@pytest.mark.parametrize(("index", "kept", "taken"), [(0, 1, 0), (1, 1, 0), (0, 4, 0), (1, 4, 1), (3, 2, 1)])
def test_a_gpu_s_generator_goes_on_whatever_gpus_were_visible_before(monkeypatch, index, kept, taken):
    found = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *given: found.append(given))
    device = torch.device("cuda", index)
    devices.set_generator(device, [torch.tensor([number]) for number in range(kept)])
    assert found == [(torch.tensor([taken]), device)]


def test_jobs_beside_each_other_take_a_card_each_and_share_when_there_are_more(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_claims", [])
    monkeypatch.setattr(os, "getpid", lambda: 7)
    assert [devices.claimed(["a", "b", "c"], tmp_path) for _ in range(5)] == [0, 1, 2, 7 % 3, 7 % 3]
    devices._claims.pop(1).close()
    assert devices.claimed(["a", "b", "c"], tmp_path) == 1, "the job that had it has ended"
    assert devices.claimed(["d"], tmp_path) == devices.claimed(["d"], tmp_path) == 0


def test_two_processes_that_are_stopped_and_go_on_come_to_the_losses_of_one(inputs):
    on_two = elsewhere(inputs, "two")
    said = on_two.state.parent / "said"
    process = two(on_two, RUNS)
    wait_for(lambda: list(on_two.state.rglob("checkpoint.pt")), "a checkpoint", 100)
    process.send_signal(signal.SIGTERM)
    assert process.wait(100) != 0
    [stopped] = re.findall(r"after step (\d+)", said.read_text())
    assert two(on_two, RUNS).wait(200) == 0, said.read_text()
    # A later one would be of a process that crashed within, which costs no number either.
    assert re.findall(r"going on from step (\d+)", said.read_text())[0] == stopped
    for run, record in zip(RUNS, train(RUNS, inputs), strict=True):
        shared = files.read_sealed(on_two.output / run.path / "record.json")
        assert (record["measured"]["devices"], shared["measured"]["devices"]) == (1, 2)
        for name in ("steps", "method_parameters", "stored_bytes"):
            assert shared["measured"][name] == record["measured"][name]
        one, other = history(inputs, run), history(on_two, run)
        assert one["training_loss"].is_monotonic_decreasing
        assert np.allclose(one, other, rtol=1e-3), run.method


TROUBLED = """
from dataclasses import dataclass
from pathlib import Path

import torch

from peftstudy import devices
from peftstudy.methods import register
from peftstudy.methods.bitfit import BitFit


@register("troubled")
@dataclass(frozen=True)
class Troubled(BitFit):
    cause: str = ""

    def after_step(self, model, step):
        cause = Path(self.cause)
        if step == 5 and devices.number() == 1 and cause.exists():
            if cause.name == "memory":
                cause.unlink()
                raise torch.OutOfMemoryError("no memory left")
            raise RuntimeError("something went wrong")
"""


def test_the_second_process_fails_and_the_others_of_the_pack_go_on(inputs, tmp_path):
    """One run that fails as long as its cause is there, one for which memory is too small once, and two neighbours.

    The last one tries out its learning rate and how many steps fit its time, which takes both processes, too.
    """
    (tmp_path / "troubled.py").write_text(TROUBLED)
    method, causes = str(tmp_path / "troubled.py"), [tmp_path / name for name in ("error", "memory")]
    for cause in causes:
        cause.touch()
    plain = spec(batch_size=7, micro_batch_size=2, epochs=1)
    failing, scarce = (
        dataclasses.replace(plain, method=cause.name, adaptation=method, options=(("cause", str(cause)),))
        for cause in causes
    )
    tried = dataclasses.replace(
        spec("head", batch_size=7, seconds=0.2, learning_rate=(1e-3, 3e-3)), search=Search(examples=20)
    )
    pack, on_two = [failing, scarce, plain, tried], elsewhere(inputs, "two")
    said = on_two.state.parent / "said"
    assert two(on_two, pack).wait(300) == 0, said.read_text()
    records = [files.read_sealed(on_two.output / run.path / "record.json") for run in pack]
    assert [record["status"] for record in records] == ["failed", *["finished"] * 3], said.read_text()
    assert records[0]["reason"] == "RuntimeError: something went wrong (process 1)"
    assert [record["measured"]["micro_batch_size"] for record in records[1:3]] == [1, 2]
    assert "memory/seed-0: out of device memory (no memory left); again with micro-batches of 1" in said.read_text()
    causes[0].unlink()
    before = said.stat().st_size
    assert two(on_two, pack).wait(300) == 0, said.read_text()
    assert re.findall(r"going on from step (\d+)", said.read_text()[before:]) == ["4"]
    train([plain], inputs)
    for run in pack[:3]:
        assert np.allclose(history(on_two, run), history(inputs, plain), rtol=1e-3), run.method


def test_a_process_that_is_killed_costs_no_number(inputs):
    killed, whole = elsewhere(inputs, "killed"), elsewhere(inputs, "whole")
    run, said = spec("full", batch_size=7, micro_batch_size=3), killed.state.parent / "said"
    process = two(killed, [run])
    wait_for(lambda: list(killed.state.rglob("checkpoint.pt")), "a checkpoint", 100)
    [second] = [child for child in psutil.Process(process.pid).children() if child.environ().get("RANK") == "1"]
    second.kill()
    assert process.wait(300) == 0, said.read_text()
    assert "full/seed-0: another of its processes ended; all its processes end, and start again." in said.read_text()
    assert int(re.findall(r"going on from step (\d+)", said.read_text())[0]) > 0
    assert two(whole, [run]).wait(300) == 0
    assert history(killed, run).equals(history(whole, run))
