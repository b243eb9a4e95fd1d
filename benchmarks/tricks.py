"""What each of the engine's tricks is worth: training and evaluation without it, against the engine with all.

    python benchmarks/tricks.py --texts imdb/train.jsonl.gz

A trick that does not fit the model or the machine is worth nothing there, and what several save together is more than
what each saves alone. One shape, one method: products of linear layers are the larger the wider a model is.
"""

import argparse
from pathlib import Path

import setting
import steps
import usual

OUTPUT = Path("results/benchmarks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="JSON Lines with text and label, .gz or not")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--backbone", choices=setting.SHAPES, default=setting.MEASURED[0])
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--method", choices=usual.METHODS, default="full")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args()
    from peftstudy.engine import TRICKS

    setting.backbone(given.backbone, given.texts, given.output / "backbones")
    without = {trick: steps.WITHOUT + trick for trick in TRICKS}
    row = steps.measured(given, vars(given) | {"variants": ["engine", *without.values()]})
    print(f"{setting.machine()}; {given.backbone}, {given.method}, {given.length} tokens, {given.precision}.\n")
    print("| left out | what it is | training | evaluation |")
    print("| --- | --- | --- | --- |")
    for trick, variant in without.items():
        ratios = [steps.ratio(row, what, variant) for what in ("train", "evaluate")]
        print(f"| {trick} | {TRICKS[trick]} | {' | '.join(ratios)} |")


if __name__ == "__main__":
    main()
