"""A text that answers a text: summaries, translations, descriptions, or the name of a class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from peftstudy.ends import end_mark
from peftstudy.errors import StudyError
from peftstudy.tasks import Task, one_answer, register
from peftstudy.text_scores import COMPARABLE, NO_WORDNET

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

    from peftstudy.tokens import Tokens


class Writing(Task):
    """Write a target text, by cross-entropy over its tokens, each given those before it.

    A source ends with the tokenizer's end mark, and so does a target. A decoder's text is both, one behind the
    other, and the loss is that of the target alone (as Hu et al., 2022, section F.1, train GPT-2).
    """

    auto_class = "AutoModelForCausalLM"
    keys = frozenset({"beams", "target_length"})
    reads_first = False
    writes = True

    def options(self, dataset):
        return {"beams": dataset.beams, "target_length": dataset.target_length}

    def encode(self, examples, tokenizer, max_length, beams: int = 1, target_length: int = 64):
        """Return the sources as texts, and the targets apart.

        Arrays: `target_ids`, the targets one after the other, shape (target tokens,); `targets`, where each begins,
        shape (examples + 1,). about: what is written at most (`target_length`), how (`beams`), the id of the end mark
        (`end_id`), and the longest source and target together (`longest_whole`). references: the targets of each
        example, of which the first is learned from.
        """
        import numpy as np
        import pyarrow as pa

        from peftstudy import tokens

        end, mark = end_mark(tokenizer)
        targets = self.references(examples)
        cut: tuple[list[bool], list[bool]] = [], []
        found = tokens.encodings(tokens.rows(examples, tokenizer), tokenizer, max_length - len(mark))
        made = tokens.gather(_closed(found, mark, cut[0]), tokenizer, max_length, self.labels(examples))
        firsts = [own[0] for own in targets]
        found = tokens.encodings(firsts, tokenizer, target_length - len(mark), special=not mark)
        written = [encoding.ids for encoding in _closed(found, mark, cut[1])]
        begins = np.concatenate([[0], np.cumsum([len(ids) for ids in written])])
        whole = int((made.lengths + np.diff(begins)).max())
        about = {"beams": beams, "target_length": target_length, "end_id": int(end), "longest_whole": whole}
        about |= {"truncated_share": float(np.mean(np.any(cut, axis=0)))}
        return replace(
            made,
            about=made.about | about,
            arrays={"target_ids": np.concatenate(written).astype(made.input_ids.dtype), "targets": begins},
            references=pa.table({"targets": pa.array(targets, pa.list_(pa.string()))}),
        )

    def references(self, examples: pd.DataFrame) -> list[list[str]]:
        """Return the texts that would be right for each example."""
        return [list(own) for own in examples["label"]]

    def labels(self, examples: pd.DataFrame) -> np.ndarray:
        """Return what stands for labels in the tokens, shape (examples,)."""
        import numpy as np

        return np.zeros(len(examples), np.int32)

    def targets(self, tokens: Tokens, index: np.ndarray) -> np.ndarray:
        from peftstudy.tokens import joined

        return tokens.arrays["target_ids"][joined(tokens.arrays["targets"], index)].astype("int64")

    def items(self, tokens: Tokens, index: np.ndarray) -> int:
        """Return the number of tokens of the examples' targets."""
        import numpy as np

        return int(np.diff(tokens.arrays["targets"])[index].sum())

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy summed over target tokens, in nats; logits (target tokens, vocabulary)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), targets.long(), reduction="sum")

    def logits(self, engine, tokens, index):
        """Return those of the vocabulary at each token of the targets, shape (target tokens, vocabulary)."""
        return engine.target_logits(tokens, index)

    def answer(self, engine, logits, tokens, index):
        return self.told(engine.write(tokens, index), tokens, index)

    @abstractmethod
    def told(self, texts: Sequence[str], tokens: Tokens, index: np.ndarray) -> pa.Table:
        """Return the answers to the examples numbered `index`, a row each, from the texts that were written."""


@register("generation")
class Generation(Writing):
    """Write a text and compare it with one or several right ones: by chrF, BLEU, ROUGE, NIST, METEOR and CIDEr-D.

    chrF (Popović, 2015) leads, for it needs no words cut out and tells bad texts from worse ones.
    """

    metric = "chrf"
    metrics = ("chrf", "bleu", "rouge_1", "rouge_2", "rouge_l", "nist", "meteor", "cider")
    baselines = ("copied-beginning", "commonest-target")
    beside = MappingProxyType({
        "cider": "it ends at 10, and not at 1", "nist": "it has no upper end", "meteor": "it wants WordNet's data",
    })  # fmt: skip
    keys = Writing.keys | {"gathered"}
    wanting = MappingProxyType({"meteor": NO_WORDNET})
    comparable = MappingProxyType(COMPARABLE)
    plain_label = False

    def label(self, where, dataset, rows, dropped):
        """Return the rows with their targets as lists; a column holds one each, or a list.

        Of a dataset that is gathered, each row has the targets of all whose texts are its own, its own first.
        """
        import numpy as np

        from peftstudy.labels import refuse

        targets = rows["label"].map(lambda label: [label] if isinstance(label, str) else label)
        bad = targets.map(
            lambda own: (
                not isinstance(own, list) or not own or any(not isinstance(t, str) or not t.strip() for t in own)
            )
        )
        refuse(where, rows[bad], f"has no target text (column {dataset.label!r})")
        found = rows.assign(label=targets, stratum=np.int32(0))
        if dataset.gathered:
            refuse(where, found[found["text"].isna()], f"has an empty text (column {dataset.text[0]!r})")
            found = _gathered(found)
        return found, []

    def answers(self, examples: pd.DataFrame) -> list[list[str]]:
        return self.references(examples)

    def told(self, texts, tokens, index):
        """Return the targets and what was written, as texts."""
        import pyarrow as pa

        labels = tokens.references["targets"].take(pa.array(index)).combine_chunks()
        return pa.table({"label": labels, "predicted": pa.array(texts, pa.string())})

    def score(self, predicted: Sequence[str], targets: Sequence[Sequence[str]], labels: Sequence[str]) -> dict:
        """Return the scores of the whole by name: text_scores says of each what it is."""
        from peftstudy import text_scores

        return text_scores.scores(predicted, targets)

    def signatures(self, targets: Sequence[Sequence[str]]) -> dict[str, str]:
        from peftstudy import text_scores

        return text_scores.signatures(targets)

    def collapsed(self, predicted: Sequence[str], targets: Sequence[Sequence[str]]) -> bool:
        """Return whether several texts are asked for and one is given, which may be empty."""
        return one_answer([text.strip() for text in predicted], [tuple(own) for own in targets])


@register("label-generation")
class LabelGeneration(Writing):
    """Choose a class by writing its name (Raffel et al., 2020, section 2.4); another text is no class, and wrong."""

    metric = "accuracy"
    metrics = ("accuracy", "f1_macro", "f1", "mcc")
    baselines = ("majority", "tfidf-logistic-regression")
    classes = True
    keys = Writing.keys | {"labels", "names", "balanced"}

    def label(self, where, dataset, rows, dropped):
        from peftstudy.labels import class_numbers, refuse_alike

        found, labels = class_numbers(where, dataset, rows, dropped)
        refuse_alike(where, labels)
        return found.assign(target=found["label"].map(dict(enumerate(labels)))), labels

    def encode(self, examples, tokenizer, max_length, beams: int = 1, target_length: int = 64):
        """As for any text; StudyError when the name of a class would be cut, and could not be read back."""
        from peftstudy.labels import as_read

        mark = end_mark(tokenizer)[1]
        for name in dict.fromkeys(examples["target"]):
            ids = tokenizer(name, add_special_tokens=not mark)["input_ids"]
            if as_read(read := tokenizer.decode(ids, skip_special_tokens=True)) != as_read(name):
                raise StudyError(
                    f"names: the class {name!r} comes back as {read!r} from the backbone's tokenizer; give it a name "
                    "of words that this knows."
                )
            size = len(ids) + len(mark)
            if size > target_length:
                raise StudyError(
                    f"target_length: found {target_length}, and the class {name!r} takes {size} tokens with its end "
                    "mark; raise it, or give shorter names."
                )
        return super().encode(examples, tokenizer, max_length, beams, target_length)

    def references(self, examples: pd.DataFrame) -> list[list[str]]:
        return [[name] for name in examples["target"]]

    def labels(self, examples: pd.DataFrame) -> np.ndarray:
        return examples["label"].to_numpy("int32")

    def told(self, texts, tokens, index):
        """Return the class, that whose name was written (-1 where none was), and what was written."""
        import pyarrow as pa

        from peftstudy.labels import as_read

        numbers = {as_read(name): number for number, name in enumerate(tokens.about["labels"])}
        found = [numbers.get(as_read(text), -1) for text in texts]
        return pa.table({
            "label": pa.array(tokens.labels[index], pa.int32()),
            "predicted": pa.array(found, pa.int32()),
            "text": pa.array(texts, pa.string()),
        })  # fmt: skip

    def score(self, predicted: Sequence[int], targets: Sequence[int], labels: Sequence[str]) -> dict[str, float]:
        from peftstudy.tasks.classification import Classification

        return Classification().score(predicted, targets, labels)

    def quality(self, predictions: pd.DataFrame) -> np.ndarray:
        from peftstudy.tasks.classification import right

        return right(predictions)


def _gathered(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the targets of all that have the same text, and a column that says which are alike."""
    from itertools import chain

    from peftstudy.splits import folded

    alike = folded(rows).factorize()[0].astype("int32")
    all_of = rows["label"].groupby(alike).agg(lambda own: list(dict.fromkeys(chain.from_iterable(own))))
    targets = [list(dict.fromkeys([*own, *all_of[number]])) for own, number in zip(rows["label"], alike, strict=True)]
    return rows.assign(label=targets, alike=alike)


def _closed(encodings: Iterable[Any], mark: list[int], cut: list[bool]) -> Iterator[Any]:
    """Yield encodings with the end mark behind them, where the tokenizer sets none; note which ones were cut."""
    for encoding in encodings:
        cut.append(bool(encoding.overflowing))
        ids, types = [*encoding.ids, *mark], [*encoding.type_ids, *[0] * len(mark)]
        yield SimpleNamespace(ids=ids, type_ids=types, overflowing=encoding.overflowing)
