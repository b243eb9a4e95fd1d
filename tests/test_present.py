"""What is not on this machine is told before the first job, each in its sentence."""

import gzip
import json
import re
import shutil

import own_method
import pytest
import yaml
import zstandard
from conftest import ROOT

from peftstudy import bodies, configuration, files, formats, origins, present, specs
from peftstudy.checking import check
from peftstudy.errors import StudyError

ROWS = [{"a": "one", "b": "two", "label": "x"}, {"a": "three", "b": "four", "label": "y", "source": "z"}]


def config(folder, **changes):
    return {
        "study": "mine", "title": "Pairs", "question": "Which?",
        "sources": {"pairs": {"kind": "files", "path": str(folder), "files": {"all": "pairs.jsonl"}}},
        "datasets": {"pairs": {"source": "pairs", "task": "classification", "text": ["a", "b"], "label": "label"}},
        "splits": ["90-10"], "backbones": {"small": {"folder": str(bodies.folder("bert"))}},
        "methods": {"full": {}, "bitfit": {}}, "seeds": [0],
    } | changes  # fmt: skip


@pytest.fixture
def here(tmp_path):
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "semicolons.csv").write_text("a;b;label\none;two;x\n")
    (tmp_path / "array.jsonl").write_text(json.dumps(ROWS))
    (tmp_path / "all/x").mkdir(parents=True)
    (tmp_path / "all/x/1.txt").write_text("one")
    return tmp_path


def refuse(block, results=None):
    present.refuse_absent(check(block, "mine.yaml"), "mine.yaml", results)


def test_what_is_here_is_taken(here):
    refuse(config(here))
    # A column that the first row leaves out.
    refuse(
        config(here, datasets={"pairs": {"source": "pairs", "task": "classification", "text": "a", "label": "source"}})
    )


@pytest.mark.parametrize("path", sorted(ROOT.glob("studies/*.yaml")), ids=lambda path: path.stem)
def test_the_studies_here_name_columns_that_are_there(path):
    """Of those that take no files: what they read is documentation, or comes from the hub."""
    if "folder" not in (block := yaml.safe_load(path.read_text())):
        refuse(block)


def test_the_readme_s_study_can_be_run(tmp_path):
    text = re.search(r"```yaml\n(study: mine\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    (tmp_path / "pairs.csv").write_text("first,second,same\nA.,B.,no\n")
    (tmp_path / "mine.py").write_text(own_method.text("readme"))
    for place, own in (
        ("~/data/pairs", tmp_path), ("path/to/mine.py", tmp_path / "mine.py"), ("~/models/small", bodies.folder("bert"))
    ):  # fmt: skip
        assert place in text
        text = text.replace(place, str(own))
    refuse(yaml.safe_load(text))


def test_a_checkpoint_of_old_may_be_named_by_its_family(here):
    """Whose config.json does not say what it is."""
    shutil.copytree(bodies.folder("bert"), here / "old")
    about = json.loads((here / "old/config.json").read_text())
    del about["model_type"]
    (here / "old/config.json").write_text(json.dumps(about))
    refuse(config(here, backbones={"small": {"folder": str(here / "old"), "family": "bert"}}))
    with pytest.raises(StudyError, match=r"backbones.small.folder: .*config.json: .*model_type"):
        refuse(config(here, backbones={"small": {"folder": str(here / "old")}}))


def of_files(here, **changes):
    block = {"kind": "files", "path": str(here), "files": {"all": "pairs.jsonl"}} | changes
    return {"sources": {"pairs": {key: value for key, value in block.items() if value is not None}}}


def read_from(column):
    return {"datasets": {"pairs": {"source": "pairs", "task": "classification", "text": column, "label": "label"}}}


def pretrained(corpus, **changes):
    shape = {"hidden_size": 32, "num_attention_heads": 2}
    block = {"family": "bert", "shape": shape, "tokenizer": {"vocabulary": 100}, "corpus": corpus, "steps": 1}
    return {"backbones": {"small": {"pretrain": block | changes}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (lambda here: of_files(here / "nowhere"), "mine.yaml: sources.pairs.path: there is no folder .*nowhere"),
        (lambda here: of_files(here / "pairs.jsonl"), "pairs.jsonl is a file; want its folder there"),
        (lambda here: of_files(here, files={"all": "pair.jsonl"}), "unknown file 'pair.jsonl'.*mean 'pairs.jsonl'"),
        (lambda here: of_files(here, files={"all": "semicolons.csv"}), "separated by ';'; semicolons.csv wants ','"),
        (lambda here: of_files(here, files={"all": "array.jsonl"}), r"array\.jsonl:1: not a JSON object"),
        (lambda here: of_files(here, columns=["a", "b"]), r"\(source pairs\): .*pairs.jsonl: unknown column 'label'"),
        (
            lambda here: {"datasets": {"pairs": config(here)["datasets"]["pairs"] | {"text": ["a", "c"]}}},
            r"datasets.pairs \(source pairs\): .*pairs.jsonl: unknown column 'c' \(known: a, b, label, source\)",
        ),
        (
            lambda here: of_files(here, files=None, classes={"all": ["x", "z"]}) | read_from("text"),
            "sources.pairs.classes.all: .*all: unknown folder of .txt files 'z' \\(known: x\\)",
        ),
        (
            lambda here: of_files(here, files=None, classes={"all": ["x"]}) | read_from("texts"),
            r"datasets.pairs \(source pairs\): .*all: unknown column 'texts' \(known: id, label, part, text\)",
        ),
        (
            lambda here: {"sources": {"pairs": {"kind": "docstrings"}}, **read_from("docstrng")},
            r"datasets.pairs \(source pairs\): docstrings: unknown column 'docstrng' \(.*Did you mean 'docstring'",
        ),
        (
            lambda here: {"sources": {"pairs": {"kind": "docstrings", "view": "counts"}}, **read_from("body")},
            r"unknown column 'body' \(known: docstring, id, parameters, part\)",
        ),
        (
            lambda here: pretrained({"pairs": "c"}),
            r"backbones.small.pretrain.corpus \(source pairs\): .*pairs.jsonl: unknown column 'c'",
        ),
        (
            lambda here: pretrained({"pairs": "a"}, exclude=["pairs:c"]),
            r"backbones.small.pretrain.exclude \(source pairs\): .*pairs.jsonl: unknown column 'c'",
        ),
        (
            lambda here: pretrained({"pairs": "a"}, tokenizer={"folder": str(here / "words")}),
            "backbones.small.pretrain.tokenizer.folder: there is no folder .*words",
        ),
        (
            lambda here: {"backbones": {"small": {"folder": str(here / "model")}}},
            "mine.yaml: backbones.small.folder: there is no folder .*model",
        ),
        (lambda here: {"backbones": {"small": {"folder": str(here)}}}, "backbones.small.folder: .*: no tokenizer"),
        (
            lambda here: {"backbones": {"small": {"folder": str(bodies.folder("modernbert"))}}},
            "mine.yaml: methods.bitfit: impossible on small: it has no biases",
        ),
        (
            lambda here: {"backbones": {"a": {"folder": str(bodies.folder("bert"))}, "small": {"random": "a"}},
                          "methods": {"prompt": {"tokens": 500}}},
            "methods.prompt: impossible on a: 500 prompt tokens, and room for 63",
        ),
    ],
)  # fmt: skip
def test_what_is_not_here_is_told(here, changes, said):
    with pytest.raises(StudyError, match=said):
        refuse(config(here, **changes(here)))


def test_what_was_read_may_be_gone(here):
    results = here / "results"
    files.write_json(results / "sources/pairs/manifest.json", {})
    shutil.copytree(bodies.folder("bert"), results / "backbones/small")
    files.write_json(results / "backbones/small/manifest.json", {})  # as earlier versions wrote them
    block = config(here / "gone", backbones={"small": {"folder": str(here / "gone")}})
    refuse(block, results)
    study = check(block, "mine.yaml")
    assert present.kept(study, results) == (["pairs"], ["small"]), "no rule may make them again"
    assert present.kept(check(config(here), "mine.yaml"), results) == ([], []), "what is here is watched"
    assert present.kept(study, here) == ([], []), "nothing was made"


def test_a_folder_that_is_misspelt_later_is_told_though_its_copy_is_there(here):
    """The copy is of another request, and stays for that."""
    results, block = here / "results", config(here)
    study = check(block, "mine.yaml")
    for name, spec in (("sources/pairs", study.sources["pairs"]), ("backbones/small", study.backbones["small"])):
        files.write_json(results / name / "manifest.json", {"asked": specs.digest(spec)})
    for asked in (config(here / "gone"), config(here, backbones={"small": {"folder": str(here / "gone")}})):
        with pytest.raises(StudyError, match=r"there is no folder .*gone"):
            refuse(asked, results)
        assert present.kept(check(asked, "mine.yaml"), results) == ([], [])
    (here / "pairs.jsonl").unlink()
    assert present.kept(study, results)[0] == ["pairs"]


def test_a_backbone_that_was_something_else_before_is_fetched(here):
    results = here / "results"
    shutil.copytree(bodies.folder("bert"), results / "backbones/small")
    files.write_json(results / "backbones/small/manifest.json", {"origin": "pre-trained here"})
    refuse(config(here, backbones={"small": {"hub": "org/small", "revision": "1" * 40}}), results)


def test_what_was_fetched_tells_which_methods_it_can_have(here):
    results, fetched = here / "results", {"hub": "org/small", "revision": "1" * 40}
    shutil.copytree(bodies.folder("llama"), results / "backbones/small")
    block = config(here, backbones={"small": fetched})
    files.write_json(results / "backbones/small/manifest.json", {"origin": "org/small", "revision": "2" * 40})
    refuse(block, results)  # another revision, which will be fetched anew
    files.write_json(results / "backbones/small/manifest.json", {"origin": "org/small", "revision": "1" * 40})
    with pytest.raises(StudyError, match=r"methods\.bitfit: impossible on small: "):
        refuse(block, results)


def test_columns_are_read_from_the_beginning_alone(tmp_path):
    lines, table = "\n".join(map(json.dumps, ROWS)), "a\tb\n1\t2\n"
    packs = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    for suffix, pack in packs.items():
        for name, text, expected in (("x.jsonl", lines, ["a", "b", "label"]), ("x.tsv", table, ["a", "b"])):
            path = tmp_path / f"{name}{suffix}"
            path.write_bytes(pack(text.encode()))
            assert formats.columns(path) == expected
    long = gzip.compress(("\n".join([lines, *["no JSON"] * 10**6])).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(long[:-100])
    assert formats.columns(tmp_path / "cut.jsonl.gz") == ["a", "b", "label"]


def test_a_method_s_file_is_a_part_of_what_is_asked(here):
    own = here / "mine.py"
    own.write_text(own_method.text("present-one"))
    methods = {"mine": {"method": str(own)}, "both": {"method": "combined", "parts": [str(own), "bitfit"]}, "full": {}}

    def specs():
        return {run.method: run for run in configuration.from_config(config(here, methods=methods)).runs()}

    before = specs()
    assert len(before["mine"].code) == 64 == len(before["both"].code) and before["full"].code == ""
    assert (
        "code" not in before["full"].as_dict() and before["mine"].from_dict(before["mine"].as_dict()) == before["mine"]
    )
    assert origins.method_of(before["mine"], None).name == "present-one"
    own.write_text(own_method.text("present-one", "# Another line."))
    assert specs()["mine"] != before["mine"] and specs()["both"] != before["both"] and specs()["full"] == before["full"]
    with pytest.raises(
        StudyError, match=r"mine.py: not as it was when pairs/90-10/small/mine/seed-0 was planned; start"
    ):
        origins.method_of(before["mine"], None)


def test_a_method_of_ones_own_cites_what_the_report_can_print(here):
    own = here / "mine.py"
    own.write_text(own_method.text("present-two", "citation = 'me2026'"))
    with pytest.raises(
        StudyError, match=re.escape("methods.mine: citation 'me2026' is no key of paper/references.bib")
    ):
        check(config(here, methods={"mine": {"method": str(own)}}), "mine.yaml")
