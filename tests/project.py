"""A tiny study of made texts in a copy of the project's written files: what tests of the whole workflow run."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml
from conftest import ROOT, made_texts

CONFIG = {
    "study": "tiny",
    "title": "A tiny study",
    "question": "Does everything hang together?",
    "sources": {
        "made": {"kind": "files", "path": "data", "files": {"all": "made.csv"}},
        "more": {"kind": "files", "path": "data", "files": {"all": "more.csv"}},
    },
    "datasets": {
        "made": {"source": "made", "task": "classification", "text": "text", "label": "label", "max_length": 24}
    },
    "splits": ["90-10", "30-70"],
    "validation": 0.2,
    "backbones": {
        "small": {
            "pretrain": {
                "family": "bert",
                "shape": {
                    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
                    "max_position_embeddings": 64,
                },
                "tokenizer": {"vocabulary": 140},
                "corpus": {"more": "text"},
                "steps": 20,
                "batch_size": 8,
                "block_length": 16,
            }
        },
        "small-random": {"random": "small", "methods": ["full"], "splits": ["90-10"]},
    },
    "methods": {"lora": {"rank": 2}, "full": {"learning_rate": [1e-4, 5e-3]}},
    "reference": "full",
    "claims": [{"sentence": "LoRA trains less.", "means": "method_parameters(lora) < method_parameters(full)"}],
    "seeds": [0, 1],
    "training": {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3},
    "workflow": {"methods_per_job": 2, "checkpoint_seconds": 0.2},
}  # fmt: skip
# A quarter of it, for what is seen there as well.
PART = CONFIG | {"splits": ["90-10"], "backbones": {"small": CONFIG["backbones"]["small"]}}
# Two runs of one job, each some seconds long.
LONG = PART | {"methods": {"full": {}}, "claims": [], "training": CONFIG["training"] | {"epochs": 40}}
METRICS = "results/tiny/metrics/runs.csv"


class Project:
    """A copy of the project's written files in a folder of its own, with a study to run."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("workflow", "paper", "studies", "envs", "local", "slurm"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("Snakefile", "config.yaml", "requirements.lock"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "src").symlink_to(ROOT / "src")
        (folder / "data").mkdir()
        made_texts(180).to_csv(folder / "data" / "made.csv", index=False)
        made_texts(300, seed=1).to_csv(folder / "data" / "more.csv", index=False)

    @classmethod
    def copy(cls, other: "Project", folder: Path) -> "Project":
        """Return a copy of a project with all that it has made."""
        shutil.copytree(other.folder, folder, symlinks=True)
        project = cls.__new__(cls)
        project.folder = folder
        return project

    def command(self, *arguments: str, config: dict = CONFIG, where: Sequence[str] = ("--cores", "2")) -> list[str]:
        """Return the command that runs the study; where: on this machine, or by which profile."""
        (self.folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        return [sys.executable, "-m", "snakemake", *where, "--configfile", "study.yaml", "--nocolor", *arguments]

    def run(self, *arguments: str, config: dict = CONFIG, where: Sequence[str] = ("--cores", "2")) -> str:
        """Run Snakemake; return all that it printed."""
        done = subprocess.run(
            self.command(*arguments, config=config, where=where),
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def records(self) -> dict[str, int]:
        """Return when each run's record was written, in nanoseconds."""
        root = self.folder / "results/tiny/state/runs"
        return {str(p.parent.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("record.json")}

    def scores(self) -> pd.DataFrame:
        """Return what must not depend on how a study came about: not seconds, not memory."""
        table = pd.read_csv(self.folder / METRICS).set_index(["split", "backbone", "method", "seed"])
        return table.filter(regex="score|loss|accuracy|parameters|steps|examples$|chosen_epoch|status|learning_rate")


def changed(of: dict = CONFIG, /, **blocks: dict) -> dict:
    return {**of, **blocks}
