"""What several test files share: tiny real backbones, real tokens, and where the shared data may lie."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
LIBRARIES = {"apple": "sweet red round juicy", "stone": "grey hard heavy cold", "river": "wet long deep quick"}

# One thread: the results of sums depend on how they are cut, and tests run beside each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


# These files take longest: begun first, none of them is left for one process alone at the end.
LONGEST = ("test_workflow", "test_contract", "test_devices", "test_benchmarks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first, each file's in their order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared real data; a test that wants it skips when it is not there."""
    folder = Path(os.environ.get("PEFTSTUDY_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data: neither PEFTSTUDY_SHARED nor {folder.name}/ beside the project")
    return folder


def made_texts(count: int, seed: int = 0, own_words: int = 2) -> pd.DataFrame:
    """Return texts of three learnable classes: each holds some words of its class among common ones."""
    rng = np.random.default_rng(seed)
    common = "the a of this that old new it was here there very one two some".split()  # noqa: SIM905
    rows = []
    for number in range(count):
        label = number % len(LIBRARIES)
        own = list(LIBRARIES.values())[label].split()
        words = [*rng.choice(common, rng.integers(3, 12)), *rng.choice(own, own_words)]
        rows.append({"id": f"t{number}", "text": " ".join(rng.permutation(words)) + f" n{number}", "label": label})
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def texts() -> pd.DataFrame:
    return made_texts(240)


@pytest.fixture(scope="session", params=["bert", "roberta"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def make_backbone(tmp_path_factory: pytest.TempPathFactory, texts: pd.DataFrame):
    """Return a function that makes a tiny random backbone of a family, once: a folder with tokenizer and manifest."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = _tiny_backbone(family, texts, tmp_path_factory.mktemp(family) / "backbone")
        return made[family]

    return make


@pytest.fixture(scope="session")
def bert(make_backbone) -> Path:
    return make_backbone("bert")


def _tiny_backbone(family: str, texts: pd.DataFrame, folder: Path) -> Path:
    import torch
    import transformers

    from peftstudy import backbones, corpora
    from peftstudy.families import FAMILIES

    if FAMILIES[family].writes:
        return _tiny_writer(family, texts, folder)
    tokenizer = corpora.train_tokenizer(family, texts["text"].tolist() * 2, 280, 62)
    sizes = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 64,
    }  # fmt: skip
    sizes = FAMILIES[family].configuration(sizes)
    config = transformers.AutoConfig.for_model(family, vocab_size=280, pad_token_id=tokenizer.pad_token_id, **sizes)
    torch.manual_seed(0)
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    backbones.write_manifest(folder, {"kind": "random", "family": family, "origin": "made for a test"})
    return folder


def _tiny_writer(family: str, texts: pd.DataFrame, folder: Path) -> Path:
    import torch
    import transformers
    from tokenizers import processors

    from peftstudy import backbones, bodies, corpora

    made = corpora.train_tokenizer("roberta", texts["text"].tolist() * 2, 280, 62).backend_tokenizer
    single, pair = bodies.FRAMES[family]
    marks = [(mark, made.token_to_id(mark)) for mark in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=marks)
    named = {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    named |= {} if family == "gpt2" else {"pad_token": "<pad>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=62, **named)
    sizes = bodies.BACKBONES[family][1] | {"vocab_size": 280, "bos_token_id": 0, "eos_token_id": 2}
    sizes |= {"pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": 2}
    config = transformers.AutoConfig.for_model(family, **sizes)
    torch.manual_seed(0)
    kind = transformers.AutoModelForSeq2SeqLM if family in ("bart", "t5") else transformers.AutoModelForCausalLM
    kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    backbones.write_manifest(folder, {"kind": "random", "family": family, "origin": "made for a test"})
    return folder


@pytest.fixture(scope="session")
def make_tokens(tmp_path_factory: pytest.TempPathFactory, texts: pd.DataFrame, make_backbone):
    """Return a function that encodes the made texts for a family, once: a folder that tokens.load opens."""
    from peftstudy import files, tokens

    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp("tokens")
            with files.whole(folder / "examples.parquet") as temporary:
                texts.to_parquet(temporary)
            files.write_json(folder / "examples.json", {"labels": list(LIBRARIES), "task": "classification"})
            tokens.write(folder / "examples.parquet", make_backbone(family), 24, folder / family)
            made[family] = folder / family
        return made[family]

    return make


@pytest.fixture
def data(make_tokens):
    """The made texts as the tiny BERT reads them."""
    from peftstudy import tokens

    return tokens.load(make_tokens("bert"))


@pytest.fixture(scope="session")
def make_task_tokens(tmp_path_factory: pytest.TempPathFactory, make_backbone):
    """Return a function that encodes made examples of a task for a family, once: a folder that tokens.load opens."""
    import made_tasks

    from peftstudy import examples, tokens

    made: dict[tuple[str, str], Path] = {}
    folder = tmp_path_factory.mktemp("tasks")
    table = made_tasks.write_table(folder, made_tasks.table())

    def make(task: str, family: str) -> Path:
        if (task, family) not in made:
            found, report = examples.read_examples(made_tasks.dataset(task), table, 0)
            examples.write_examples(found, report, folder / task)
            made[task, family] = folder / task / family
            tokens.write(folder / task / "examples.parquet", make_backbone(family), 24, made[task, family])
        return made[task, family]

    return make
