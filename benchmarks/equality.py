"""The engine against the plain loop with dropout on: losses and accuracies of both over several seeds.

    python benchmarks/equality.py --texts imdb/train.jsonl.gz --backbone FOLDER

Their dropout masks differ, so single runs do; over seeds they must come out alike. For each method
the table gives the mean over seeds of the last epoch's training loss and of the accuracy on
held-out texts, and the mean difference paired by seed with its 95 % interval (t).
"""

import argparse
import dataclasses
import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import setting
import torch
import usual
from scipy import stats
from transformers import AutoTokenizer

from peftstudy import backbones, methods, scoring, tasks, training
from peftstudy.checkpoints import Checkpoints
from peftstudy.specs import Training
from peftstudy.tokens import Tokens

RATES = {"full": 3e-4, "embeddings": 1e-3, "encoder": 3e-4, "prompt": 1e-2, "bitfit": 3e-3, "lora": 3e-3,
         "houlsby": 3e-3}  # fmt: skip


def outcome(folder: Path, tokens: Tokens, held_out: int, name: str, settings: Training, seed: int) -> list[float]:
    """Return the last epoch's mean training loss, and the accuracy on the last `held_out` examples."""
    method, task = methods.create(name), tasks.create("classification")
    loaded = backbones.load(folder, task, len(tokens.about["labels"]), seed, method.attention)
    adapted = methods.adapt(method, loaded, backbones.read_shape(folder), seed)
    backbones.seed_torch(seed, "training")
    run = training.Run(adapted.model, method, task, settings, seed)
    every = np.arange(len(tokens.labels))
    progress = run.fit(tokens, every[:-held_out], every[:0], Checkpoints())
    scored = scoring.evaluate(run.engine, task, tokens, every[-held_out:], settings.precision)
    return [progress.history[-1].training_loss, scored.scores["accuracy"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="JSON Lines with text and label, .gz or not")
    parser.add_argument("--backbone", type=Path, required=True, help="a backbone's folder")
    parser.add_argument("--methods", nargs="+", choices=usual.METHODS, default=usual.METHODS)
    parser.add_argument("--examples", type=int, default=4000, help="the last quarter is held out")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(given.backbone)
    tokens = setting.encoded(setting.read_texts(given.texts, given.examples), tokenizer, given.length)
    print(f"{setting.machine()}. {given.backbone.name}, {given.examples} texts of up to {given.length} tokens, "
          f"{given.epochs} epochs, {given.seeds} seeds, {given.precision}.\n")  # fmt: skip
    print("| method | loss, loop | loss, engine | difference | accuracy, loop | accuracy, engine | difference |")
    print("| --- " * 7 + "|")
    for name in given.methods:
        settings = Training(epochs=given.epochs, learning_rate=RATES[name], precision=given.precision, select="last")
        found = np.array([
            [outcome(given.backbone, tokens, given.examples // 4, name, dataclasses.replace(settings, engine=engine), s)
             for s in range(given.seeds)]
            for engine in ("plain", "fast")
        ])  # fmt: skip
        cells = []
        for column in range(2):
            plain, fast = found[:, :, column]
            half = stats.sem(fast - plain) * stats.t.ppf(0.975, given.seeds - 1)
            middle = float(np.mean(fast - plain))
            cells += [f"{plain.mean():.4f}", f"{fast.mean():.4f}", f"{middle:+.4f} ± {half:.4f}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
