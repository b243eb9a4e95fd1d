"""Seeds for the initialisation and for the order: what each fixes, and that all that goes by seeds knows both."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from synthetic import default_study, write_results

from peftstudy import (
    __main__,
    archive,
    building,
    configuration,
    files,
    merging,
    metrics,
    seeds,
    specs,
    statistics,
    status,
    study,
    tokens,
    training,
)
from peftstudy.checkpoints import Checkpoints
from peftstudy.evidence import summaries
from peftstudy.evidence.places import finished_epochs
from peftstudy.paper import what_seeds_fix
from peftstudy.report import page, why
from peftstudy.seeds import Apart

GRID = {"initialization": [0, 1], "order": [0, 1]}
WHOLE = ROOT / "results/archive/imdb-local"


def spec(seed, method="full"):
    options = (("examples", 8),) if method == "gradient-share" else ()  # so few that they are drawn
    budget = specs.Training(epochs=1, batch_size=16, learning_rate=3e-3, engine="plain")
    return specs.RunSpec(
        "made", "90-10", "bert", method, seed, "classification", method, options, budget, specs.Search(seed=0)
    )


def test_plain_seeds_are_what_they_were():
    plain, listed = default_study(), default_study(seeds=[{"initialization": 0, "order": 0}, 1, 2])
    assert plain.seeds == listed.seeds == (0, 1, 2)
    assert [run.as_dict() for run in plain.runs()] == [run.as_dict() for run in listed.runs()]
    assert type(plain.runs()[0].as_dict()["seed"]) is int
    assert plain.runs()[1].path == "libraries/90-10/bert-tiny/full/seed-1"


def test_a_grid_holds_the_runs_of_the_plain_seeds():
    crossed = default_study(seeds={"initialization": [0, 1, 2], "order": [0, 1, 2]})
    of_plain = {run.path: run for run in default_study().runs()}
    of_grid = {run.path: run for run in crossed.runs()}
    assert len(of_grid) == 3 * len(of_plain)
    assert of_grid.items() >= of_plain.items()
    assert "libraries/90-10/bert-tiny/full/seed-i1-o0" in of_grid


def test_runs_of_two_seeds_travel_as_json():
    crossed = default_study(seeds=GRID)
    for pack in crossed.packs():
        assert tuple(study.Pack.runs_from_json(pack.json)) == pack.runs
    run = next(run for run in crossed.runs() if run.seed == Apart(1, 0))
    told = json.loads(json.dumps(run.as_dict()))
    assert told["seed"] == {"initialization": 1, "order": 0}
    assert specs.RunSpec.from_dict(told) == run
    assert all(seeds.parse(str(run.seed)) == run.seed for run in crossed.runs())


@pytest.fixture
def inputs(bert, make_tokens, tmp_path):
    return building.Inputs(make_tokens("bert"), bert, tmp_path / "state", tmp_path / "runs", torch.device("cpu"))


@pytest.fixture
def begun(inputs, monkeypatch):
    """A function that returns a run's weights before its first step, and the examples and the dropout of its steps."""
    data = tokens.load(inputs.tokens)

    def begin(seed, method):
        asked, batches, first = spec(seed, method), [], {}
        adapted, method, task = building.build(asked, inputs, data)
        run = training.Run(adapted.model, method, task, asked.training, asked.seed)

        def step(tokens, batch, plan):
            held = [*run.model.named_parameters(), *run.model.named_buffers()]
            first.update({} if first else {name: tensor.detach().clone() for name, tensor in held})
            batches.append(batch.tolist())
            run.progress.step += 1
            return torch.rand(())  # what dropout would draw

        monkeypatch.setattr(run, "_step", step)
        run.fit(data, np.arange(96), np.arange(0), Checkpoints())
        return first, batches, torch.rand(3).tolist()

    return begin


@pytest.mark.parametrize("method", ["full", "gradient-share", "increlora"])
def test_the_initialisation_fixes_what_is_there_before_the_first_step_and_the_order_the_rest(begun, method):
    first, batches, drawn = begun(Apart(0, 1), method)
    other_order, other_batches, other_drawn = begun(Apart(0, 2), method)
    assert all(torch.equal(first[name], other_order[name]) for name in first)
    assert batches != other_batches and drawn != other_drawn
    other_first, same_batches, same_drawn = begun(Apart(2, 1), method)
    assert (batches, drawn) == (same_batches, same_drawn)
    assert any(not torch.equal(first[name], other_first[name]) for name in first)
    plain, plain_batches, plain_drawn = begun(1, method)
    assert (plain_batches, plain_drawn) == (batches, drawn)
    same_first, _, _ = begun(Apart(1, 3), method)
    assert all(torch.equal(plain[name], same_first[name]) for name in plain)


def test_the_dropout_of_the_engine_goes_with_the_order(inputs):
    data = tokens.load(inputs.tokens)

    def engine(seed):
        adapted, method, task = building.build(spec(seed), inputs, data)
        return training.Run(adapted.model, method, task, spec(seed).training, seed).engine.seed

    assert [engine(seed) for seed in (Apart(0, 5), Apart(5, 0), 5)] == [5, 0, 5]


def crossed_archive(folder):
    """Archive a study with crossed seeds: runs of the archived one, taken for those of other seeds."""
    found = archive.read(WHOLE)
    found.config.update(seeds=GRID, methods={name: found.config["methods"][name] for name in ("full", "bitfit")},
                        splits=["30-70"], claims=[])  # fmt: skip
    found.config.pop("replicates")
    asked = configuration.from_config(archive.configuration(WHOLE) | found.config)
    for run in asked.runs():
        taken = run.path if isinstance(run.seed, int) else f"{run.path.rpartition('/')[0]}/seed-2"
        row = dict(found.records[taken])
        record = json.loads(row["record"])
        record["asked"]["seed"] = seeds.plain(run.seed)
        found.records[run.path] = row | {"run": run.path, "record": json.dumps(record)}
        found.histories[run.path], found.answers[run.path] = found.histories[taken], found.answers[taken]
    names = {name: value for name, value in found.about.items() if archive_needs(name, asked)}
    archive.store(found.config, names, merging.tables_of(asked, found), folder)
    return folder


def archive_needs(name, asked):
    places = [f"/{split}" for split in ("90-10", "30-70") if split not in asked.splits]
    methods = [f"/{name}/" for name in ("embeddings", "encoder", "prompt")]
    return not any(part in name for part in [*places, *methods])


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = crossed_archive(tmp_path_factory.mktemp("crossed") / "archive")
    assert archive.check(folder)["runs"] == 16
    place = tmp_path_factory.mktemp("unpacked")
    asked = configuration.from_config(archive.configuration(folder))
    archive.unpack(folder, asked, place)
    metrics.write(asked, place, place / "metrics")
    statistics.write(place / "metrics", place / "statistics", asked, place / "runs")
    return folder, asked, place


def test_an_archive_of_crossed_seeds_becomes_metrics_and_statistics(unpacked):
    _, asked, place = unpacked
    found = statistics.read(place / "metrics/runs.csv")
    assert set(found.status) == {"finished"} and set(found.seed) == {"0", "1", "i0-o1", "i1-o0"}
    differences = statistics.read(place / "statistics/differences.csv")
    assert set(differences[differences.kind == "reference"].pairs) == {4}
    assert set(statistics.read(place / "statistics/predictions.csv").seeds) == {4}
    said, chosen = why.why("scores/tinybert/full/seed-i0-o1", found, asked, [], Path("none"))
    assert chosen.seed.tolist() == ["i0-o1"]
    assert "/tinybert/full/seed-i0-o1  accuracy 0." in why.listing(said, chosen, "results/x")


def test_archives_of_plain_and_of_crossed_seeds_are_merged(unpacked, tmp_path):
    folder, asked, _ = unpacked
    found = archive.read(folder)
    plain = configuration.from_config(found.config | {"seeds": [1, 0]})
    archive.store(found.config | {"seeds": [1, 0]}, found.about, merging.tables_of(plain, found), tmp_path / "plain")
    assert merging.merge([tmp_path / "plain", folder], tmp_path / "merged")["runs"] == 16
    merged = files.read_json(tmp_path / "merged/study.json")["seeds"]
    assert merged == [1, 0, {"initialization": 0, "order": 1}, {"initialization": 1, "order": 0}]
    assert set(seeds.of(merged)) == set(asked.seeds)


def test_commands_know_crossed_seeds(unpacked, tmp_path, capsys):
    folder, _, place = unpacked
    given = ["plan", str(folder / "study.json"), "--folder", ".", "--results", str(place)]
    assert __main__.main([*given, "--separate", "bitfit", "full"]) == 0
    said = capsys.readouterr().out
    assert "over 4 pairs of seeds" in said
    files.write_json(place / "study.json", files.read_json(folder / "study.json"))
    assert __main__.main(["export", "--results", str(place), "--form", "peft", "--output", str(tmp_path / "out")]) == 0
    exported = files.read_json(next(iter(sorted((tmp_path / "out").glob("*-seedi0-o1.json")))))
    assert exported["run_info"]["train_config"]["seed"] == "i0-o1"
    assert __main__.main(["export", "--results", str(place), "--form", "csv", "--output", str(tmp_path / "csv")]) == 0
    table = pd.read_csv(tmp_path / "csv/runs.csv")
    assert set(zip(table.seed, table.initialization, table.order, strict=True)) == {
        ("0", 0, 0), ("1", 1, 1), ("i0-o1", 0, 1), ("i1-o0", 1, 0)
    }  # fmt: skip


def test_the_status_of_crossed_seeds_counts_them(unpacked):
    _, asked, place = unpacked
    assert "      16  done" in status.report(status.look(asked, place), place)


def test_the_page_leads_to_the_runs_of_two_seeds(tmp_path):
    crossed = default_study(seeds=GRID, splits=["90-10"])
    published = ROOT / "paper" / "reported"
    results = write_results(tmp_path, crossed, published)
    page.write(results, crossed, results / "report.html", ROOT / "paper", published)
    text = (results / "report.html").read_text()
    assert 'id="libraries/90-10/bert-tiny/lora/seed-i0-o1"' in text
    assert "over 2 initialisations, each with 2 orders" in text
    assert "that takes 3 or more of each, and the study crosses 2 with 2" in text


def test_epochs_of_plain_seeds_alone_are_found_beside_runs_of_two_seeds(tmp_path):
    cell = dict.fromkeys(summaries.CELL, "a")
    runs = [cell | {"seed": "0", "status": "finished"}, cell | {"seed": "i0-o1", "status": "failed"}]
    pd.DataFrame(runs).to_csv(tmp_path / "runs.csv", index=False)
    pd.DataFrame([cell | {"seed": "0", "epoch": 1}]).to_csv(tmp_path / "epochs.csv", index=False)
    read = [statistics.read(tmp_path / f"{name}.csv") for name in ("runs", "epochs")]
    assert finished_epochs(*read)[["seed", "epoch"]].values.tolist() == [["0", 1]]


@pytest.mark.parametrize(
    "block, said",
    [
        ([0, 1], "A seed fixes the first values of the head and of what a method adds, the order of the examples and"),
        ({"initialization": [0], "order": [0, 1]}, "A seed fixes the order of the examples and dropout; the first"),
        ({"initialization": [0, 1], "order": [0]}, "adds; the order of the examples and dropout are alike in all runs"),
    ],
)
def test_the_text_says_what_the_study_s_seeds_fix(block, said):
    assert said in what_seeds_fix(default_study(seeds=block))
