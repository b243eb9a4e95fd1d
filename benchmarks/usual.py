"""The usual way, which the engine is measured against: Hugging Face's Trainer with peft or adapters.

As in transformers' run_glue.py: datasets.map tokenises, batches are padded to their longest text.
As a command it does one run in one process, and writes its scores:

    python benchmarks/usual.py --backbone FOLDER --method lora --train a.jsonl --validation b.jsonl \\
        --test c.jsonl --output run.json

It is scored on validation after each epoch and on test once, as the workflow's runs are.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("full", "embeddings", "encoder", "prompt", "bitfit", "lora", "houlsby")


def adapt(model: Any, method: str) -> Any:
    """Return the model as a user of peft and adapters would adapt it; the head trains in every case."""
    if method in ("prompt", "lora"):
        import peft

        kinds = {
            "prompt": lambda: peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=20),
            "lora": lambda: peft.LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]),
        }
        return peft.get_peft_model(model, kinds[method]())
    if method == "houlsby":
        import adapters

        adapters.init(model)
        model.add_adapter("houlsby", config=adapters.DoubleSeqBnConfig(reduction_factor=16))
        model.train_adapter("houlsby")
        return model
    trains: dict[str, Callable[[str], bool]] = {
        "full": lambda name: True,
        "embeddings": lambda name: ".embeddings." in name,
        "encoder": lambda name: ".encoder." in name,
        "bitfit": lambda name: name.endswith(".bias"),
    }
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains[method](name) or "classifier" in name or "pooler" in name)
    return model


def load(backbone: Path, method: str, classes: int, seed: int) -> Any:
    """Return the adapted model with a fresh head."""
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(seed)
    return adapt(AutoModelForSequenceClassification.from_pretrained(backbone, num_labels=classes), method)


def trainer(
    model: Any, tokenizer: Any, train: Any, test: Any, output: Path, seed: int, scored: bool = False, **options: Any
) -> Any:
    """Return a Trainer over datasets with `input_ids` and `label`.

    scored: evaluate on `test` after each epoch. options: go to TrainingArguments.
    """
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(output), seed=seed, per_device_train_batch_size=32, per_device_eval_batch_size=64,
        warmup_ratio=0.1, weight_decay=0.01, max_grad_norm=1.0, lr_scheduler_type="linear", logging_strategy="no",
        save_strategy="no", eval_strategy="epoch" if scored else "no", report_to=[], disable_tqdm=True,
        dataloader_pin_memory=False, **options,
    )  # fmt: skip
    ready = Trainer(model, arguments, DataCollatorWithPadding(tokenizer), train, test, compute_metrics=accuracy)
    ready.remove_callback(PrinterCallback)
    return ready


def accuracy(predictions: Any) -> dict[str, float]:
    return {"accuracy": float((predictions.predictions.argmax(1) == predictions.label_ids).mean())}


def tokenised(texts: Sequence[str], labels: Sequence[int], tokenizer: Any, length: int) -> Any:
    """Return a datasets.Dataset of token ids, cut at `length` tokens."""
    import datasets

    datasets.disable_progress_bars()
    raw = datasets.Dataset.from_dict({"text": list(texts), "label": list(labels)})
    return raw.map(
        lambda rows: tokenizer(rows["text"], truncation=True, max_length=length), batched=True, remove_columns="text"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("backbone", "train", "validation", "test", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3)
    given = parser.parse_args()
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(given.backbone)
    # The prompt takes 20 of the positions, and peft puts its tokens before the text's.
    length = given.length - 20 * (given.method == "prompt" and given.length > 490)
    parts = []
    for path in (given.train, given.validation, given.test):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        parts.append(tokenised([r["text"] for r in rows], [r["label"] for r in rows], tokenizer, length))
    train, validation, test = parts
    model = load(given.backbone, given.method, len(set(train["label"])), given.seed)
    ready = trainer(
        model, tokenizer, train, validation, given.output.with_suffix(""), given.seed, scored=True,
        num_train_epochs=given.epochs, learning_rate=given.rate,
    )  # fmt: skip
    ready.train()
    logits = ready.predict(test).predictions
    scores = {"accuracy": float((np.argmax(logits, 1) == np.array(test["label"])).mean())}
    given.output.write_text(json.dumps(scores | {"history": ready.state.log_history}))


if __name__ == "__main__":
    main()
