"""What the benchmarks share: texts, two backbones of random weights with tokenizers trained on them, the machine."""

import gzip
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {
    "tiny": (
        "bert", 150,
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
         "max_position_embeddings": 84},
    ),
    "bert-128x2": (
        "bert", 30522,
        {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512,
         "max_position_embeddings": 532},
    ),
    "roberta-256x4": (
        "roberta", 50265,
        {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1424,
         "max_position_embeddings": 534, "type_vocab_size": 2},
    ),
}  # fmt: skip
"""Family, vocabulary and sizes; 20 positions above 512 leave room for a prompt. `tiny` is for trying a command out."""
MEASURED = ("bert-128x2", "roberta-256x4")


@dataclass(frozen=True)
class Texts:
    texts: list[str]
    labels: list[int]


def read_texts(path: Path, count: int | None = None) -> Texts:
    """Return the first `count` rows of a JSON Lines file (.gz or not) with the keys text and label."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [json.loads(line) for line in raw.splitlines()]
    order = np.random.default_rng(0).permutation(len(rows))[:count]
    return Texts([rows[i]["text"] for i in order], [int(rows[i]["label"]) for i in order])


def backbone(name: str, path: Path, folder: Path) -> Path:
    """Make, once, the backbone called `name` under `folder`: random weights, a tokenizer trained on the texts."""
    output = folder / name
    if not output.exists():
        import torch
        import transformers

        from peftstudy import backbones, corpora, files

        family, vocabulary, sizes = SHAPES[name]
        with files.whole_folder(output) as temporary:
            tokenizer = corpora.train_tokenizer(family, read_texts(path).texts, vocabulary, 512)
            config = transformers.AutoConfig.for_model(
                family, vocab_size=vocabulary, pad_token_id=tokenizer.pad_token_id, **sizes
            )
            torch.manual_seed(0)
            transformers.AutoModel.from_config(config).save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            backbones.write_manifest(temporary, {"kind": "random", "family": family, "origin": "made for a benchmark"})
    return output


def encoded(rows: Texts, tokenizer: Any, length: int) -> Any:
    """Return the texts as peftstudy's Tokens."""
    import dataclasses

    import pandas as pd

    from peftstudy import tokens

    found = tokens.encode(pd.DataFrame({"text": rows.texts, "label": rows.labels}), tokenizer, length)
    return dataclasses.replace(found, about=found.about | {"labels": sorted(set(rows.labels))})


def machine() -> str:
    """Return the processor, the cores that this process may use, and the libraries."""
    import torch
    import transformers

    lines = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    about = {name.strip(): value.strip() for name, value in lines}
    model = about.get("model name", platform.processor())
    if "cpu family" in about:  # a name may be that of several generations
        model += f" (family {about['cpu family']}, model {about['model']})"
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores of {model}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )
