"""The checklists: whole, answered from the records alone, and honest about what these do not know."""

import re

import pytest
from synthetic import course_study, default_study, write_metrics, write_statistics
from test_tables import REPORTED

from peftstudy import tables
from peftstudy.report import checklists

SIZES = {"NeurIPS": 16, "ACL": 14, "Code": 5}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    def loaded(study, name="study"):
        folder = tmp_path_factory.mktemp(name)
        metrics = write_metrics(folder / "metrics", study)
        return tables.load(metrics, write_statistics(folder, study), study, REPORTED)

    return loaded


@pytest.fixture(scope="module")
def default(load):
    return load(default_study())


def answers(data, study):
    return {(name, item.name): checklists.answered(item, data, study)
            for name, (_, items) in checklists.CHECKLISTS.items() for item in items}  # fmt: skip


def test_the_lists_are_whole(default):
    assert {name: len(items) for name, (_, items) in checklists.CHECKLISTS.items()} == SIZES
    found = answers(default, default_study())
    assert {said for said, _ in found.values()} == {"yes", "partly", r"\emph{author}"}
    assert all(why.endswith(".") for _, why in found.values())


def test_answers_are_from_the_records(default):
    found = answers(default, default_study())
    assert found["NeurIPS", "7"][0] == "yes" and "over 3 seeds by Student's t" in found["NeurIPS", "7"][1]
    assert "seeds 0, 1, 2; commit \\texttt{0123456789}" in found["NeurIPS", "4"][1]
    assert "3 of 177 runs came to nothing and 1 collapsed" in found["ACL", "C3"][1]
    assert "All runs were made on cpu with 2 threads" in found["NeurIPS", "8"][1]
    assert "177 runs took " in found["ACL", "C1"][1] and "Energy is not known (no counter)." in found["NeurIPS", "8"][1]
    assert "search was not equal" in found["ACL", "C2"][1]


def test_what_a_study_lacks_is_not_claimed(load):
    alone = default_study(seeds=[5], reference=None)
    found = answers(load(alone), alone)
    assert found["NeurIPS", "7"] == ("no", "There is one seed, so there are no intervals.")
    assert found["NeurIPS", "1"][0] == r"\emph{author}"
    course = course_study()
    assert answers(load(course), course)["NeurIPS", "1"][0] == "yes"


def test_it_points_at_tables_that_the_study_has(default, load):
    for study, data in [(default_study(), default), (course_study(), load(course_study()))]:
        pointed = set(re.findall(r"ref\{tab:(.+?)\}", checklists.table(data, study)))
        assert pointed and pointed <= set(tables.kinds(study))
