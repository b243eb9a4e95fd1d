"""Figures are looked at by people; here: which there are, that they hold the data, collide with nothing, repeat."""

import doctest
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic import course_study, default_study, write_metrics

from peftstudy import figures, plotting, statistics, views
from peftstudy.errors import StudyError
from peftstudy.plotting import spread, style


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, study = tmp_path_factory.mktemp("default"), default_study()
    metrics = write_metrics(folder / "metrics", study)
    statistics.write(metrics, folder / "statistics", study)
    figures.write(metrics, folder / "statistics", folder / "figures", study)
    return folder


@pytest.fixture(scope="module")
def data(made):
    names = {"runs": "metrics", "epochs": "metrics", "baselines": "metrics", "scores": "statistics",
             "differences": "statistics"}  # fmt: skip
    return SimpleNamespace(**{name: statistics.read(made / where / f"{name}.csv") for name, where in names.items()})


def draw(kind, data, study):
    with style():
        figure = figures.DRAWN[kind](data, study, next(iter(study.datasets)))
        figure.canvas.draw()
    return figure


def test_doctests():
    assert doctest.testmod(plotting).failed == 0


def test_the_files_are_those_that_the_study_says(made):
    names = figures.names(default_study())
    assert sorted(path.name for path in (made / "figures").iterdir()) == sorted(names)
    assert len(names) == 6
    assert all((made / "figures" / name).read_bytes().startswith(b"%PDF") for name in names)


def test_a_study_has_only_the_figures_that_it_has_data_for():
    assert figures.kinds(course_study()) == [
        "score-by-method", "learning-curves", "score-by-trained-parameters", "score-by-training-seconds",
    ]  # fmt: skip
    shares = default_study(splits=["90-10", "70-30", "50-50", "30-70"])
    assert "score-by-training-examples" not in figures.kinds(shares)
    once = default_study(training={"epochs": 1})
    assert "learning-curves" not in figures.kinds(once)
    block = {"source": "docstrings", "task": "classification", "text": "text", "label": "library"}
    two = default_study(datasets={"a": block, "b": block})
    assert figures.files(two, "score-by-method") == ["score-by-method-a.pdf", "score-by-method-b.pdf"]


def test_figures_are_the_same_bytes_twice(made, tmp_path):
    figures.write(made / "metrics", made / "statistics", tmp_path, default_study())
    for name in figures.names(default_study()):
        assert (tmp_path / name).read_bytes() == (made / "figures" / name).read_bytes()


def test_fonts_are_embedded_as_outlines_that_can_be_searched(made):
    assert b"/Type3" not in (made / "figures" / "score-by-method.pdf").read_bytes()


def test_every_finished_run_is_a_dot(data):
    study = default_study()
    figure = draw("score-by-method", data, study)
    dots = np.concatenate(
        [line.get_xdata() for axes in figure.axes for line in axes.get_lines() if line.get_gid() == "seeds"]
    )
    shown = data.runs[(data.runs.status == "finished") & data.runs.split.isin(["90-10", "30-70"])]
    shown = shown[shown.backbone != "bert-tiny-random"]
    assert sorted(dots) == pytest.approx(sorted(shown.test_score))


def test_curves_end_in_the_mean_of_the_last_epoch(data):
    figure = draw("learning-curves", data, default_study())
    last = data.epochs[
        (data.epochs.backbone == "bert-tiny") & (data.epochs.split == "90-10") & (data.epochs.epoch == 4)
    ]
    assert data.epochs.training_loss.max() == 99
    assert views.finished_epochs(data.runs, data.epochs).training_loss.max() < 3
    ends = [line.get_ydata()[-1] for line in figure.axes[0].get_lines()]
    assert sorted(ends) == pytest.approx(sorted(last.groupby("method").validation_score.mean()))


def test_size_curves_leave_out_the_split_with_another_test_part(data):
    figure = draw("score-by-training-examples", data, default_study())
    sizes = figure.axes[0].get_lines()[0].get_xdata()
    assert list(sizes) == [270, 810, 2430, 4860]


@pytest.mark.parametrize("kind", ["learning-curves", "score-by-training-examples", "score-by-trained-parameters",
                                  "score-by-training-seconds"])  # fmt: skip
def test_names_do_not_collide(data, kind):
    study = default_study()
    figure = draw(kind, data, study)
    for axes in figure.axes:
        boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
        assert set(study.methods) <= set(boxes)
        for a, box in boxes.items():
            for b, other in boxes.items():
                if a < b:
                    width = min(box.x1, other.x1) - max(box.x0, other.x0)
                    height = min(box.y1, other.y1) - max(box.y0, other.y0)
                    assert width <= 0 or height <= 0.4 * box.height, (a, b)


def test_looks_differ_without_colour():
    looks = plotting.looks([f"method-{i}" for i in range(16)])
    assert len({(look.dashes, look.shape) for look in looks.values()}) == 16
    assert len(set(looks.values())) == 16


def test_spread_keeps_order_and_distance():
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=12)
    placed = spread(wanted, 0.4)
    assert (np.diff(np.sort(placed)) >= 0.4 - 1e-9).all()
    assert (np.argsort(placed) == np.argsort(wanted)).all()
    assert spread([0.0, 3.0], 1.0) == pytest.approx([0.0, 3.0])


def test_a_wide_interval_does_not_squeeze_the_others(data):
    figure = draw("score-by-method", data, default_study())
    assert data.scores.low.min() < 0 < figure.axes[0].get_xlim()[0]


def test_a_figure_whose_runs_failed_says_so_in_words(made, tmp_path, data):
    metrics, found = tmp_path / "metrics", tmp_path / "statistics"
    runs = data.runs.copy()
    lost = runs.backbone == "bert-tiny-random"
    runs.loc[lost, ["status", "test_score"]] = ["failed", None]
    write_metrics(metrics, default_study())
    runs.to_csv(metrics / "runs.csv", index=False)
    statistics.write(metrics, found, default_study())
    figures.write(metrics, found, tmp_path / "figures", default_study())
    width, height = re.search(
        rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", (tmp_path / "figures" / "pretraining-gain.pdf").read_bytes()
    ).groups()
    assert (float(width), float(height)) == pytest.approx((432, 28.8))


def test_no_finished_run_is_one_clear_sentence(tmp_path):
    study = course_study()
    metrics = write_metrics(tmp_path / "metrics", study)
    runs = pd.read_csv(metrics / "runs.csv")
    runs[["status", "test_score"]] = ["failed", None]
    runs.to_csv(metrics / "runs.csv", index=False)
    statistics.write(metrics, tmp_path / "statistics", study)
    with pytest.raises(StudyError, match=r"runs\.csv: no run has finished"):
        figures.write(metrics, tmp_path / "statistics", tmp_path / "figures", study)
    assert not (tmp_path / "figures").exists()


def test_figures_are_as_wide_as_the_text():
    frame = (Path(__file__).parents[1] / "paper" / "report.tex").read_text()
    assert f"textwidth={plotting.TEXT_WIDTH:g}in" in frame
