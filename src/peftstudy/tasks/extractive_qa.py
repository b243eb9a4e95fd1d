"""The span of a context that answers a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from peftstudy.tasks import Reading, one_answer, register

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

    from peftstudy.tokens import Tokens

SHARE = 3
"""A question takes at most this part of a text's length, and so much is common to neighbouring windows."""
BEST, LONGEST = 20, 30
"""So many starts and ends of a window are paired, and an answer has so many tokens at most (BERT's run_squad.py)."""


@register("extractive-qa")
class ExtractiveQA(Reading):
    """Find the start and the end of the answer to a question in a context (Rajpurkar et al., 2016).

    Scored by exact match and by F1 of words, as SQuAD's own script does, against the best of the answers.
    A context that is too long is read in windows that overlap; one without the answer points at its first
    token (Devlin et al., 2019).
    """

    metric = "f1"
    metrics = ("f1", "exact_match")
    baselines = ("similar-sentence",)
    auto_class = "AutoModelForQuestionAnswering"
    texts = (2,)
    plain_label = False
    reads_first = False

    def outputs(self, classes: int) -> int:
        return 2

    def label(self, where, dataset, rows, dropped):
        """Return the rows with their answers as lists of text and start, in characters of the context."""
        import numpy as np

        from peftstudy.labels import refuse

        answers = rows["label"].map(_listed)
        refuse(where, rows[answers.isna()], f"has no answers with text and answer_start (column {dataset.label!r})")
        refuse(where, rows[answers.map(len) == 0], "has no answer, and a question without one is not for this task")
        amiss = [
            any(not a["text"] or (context or "")[a["start"] :][: len(a["text"])] != a["text"] for a in found)
            for found, context in zip(answers, rows["text_pair"], strict=True)
        ]
        refuse(where, rows[amiss], "has an answer that does not stand in the context where its answer_start says")
        return rows.assign(label=answers, stratum=np.int32(0)), []

    def answers(self, examples: pd.DataFrame) -> list[list[str]]:
        return [[answer["text"] for answer in found] for found in examples["label"]]

    def encode(self, examples, tokenizer, max_length):
        """Return a text for each window, the question before a piece of the context.

        labels: the tokens at which the answer starts and ends, counted within its window, shape (windows, 2);
        0 and 0 where it is not in it. Arrays: `characters`, the part of the context that each token stands for,
        -1 and -1 outside of it, shape (tokens, 2); `texts`, see Tokens. references: context and answers.
        """
        import numpy as np
        import pyarrow as pa

        from peftstudy import tokens

        contexts = examples["text_pair"].tolist()
        room = max_length // SHARE
        asked = examples["text"].str.strip().tolist()
        questions = list(_cut(asked, tokenizer, room))
        windows: list[int] = []
        characters: list[np.ndarray] = []
        labels: list[tuple[int, int]] = []

        def noted() -> Iterator[Any]:
            pairs = list(zip(questions, contexts, strict=True))
            found = tokens.encodings(pairs, tokenizer, max_length, offsets=True, stride=room)
            for answers, encoding in zip(examples["label"], found, strict=False):
                every = [encoding, *encoding.overflowing]
                windows.append(len(every))
                for window in every:
                    characters.append(_in_context(window))
                    labels.append(_place(characters[-1], answers[0]))
                    yield window

        made = tokens.gather(noted(), tokenizer, max_length, np.zeros((0, 2), np.int32))
        begins = np.concatenate([[0], np.cumsum(windows)])
        # Contexts are read window by window; lost is a question's end, and an answer that no window holds whole.
        is_found = np.logical_or.reduceat(np.any(np.array(labels), axis=1), begins[:-1])
        lost = ~is_found | (np.array(questions) != np.array(asked))
        return replace(
            made,
            labels=np.array(labels, np.int32),
            about=made.about | {"examples": len(examples), "truncated_share": float(lost.mean())},
            arrays={
                "texts": begins,
                "characters": np.concatenate(characters),
            },
            references=pa.table({"context": contexts, "answers": self.answers(examples)}),
        )

    def read(self, tokens: Tokens, texts: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.ones(int(tokens.lengths[texts].sum()), dtype=bool)

    def targets(self, tokens: Tokens, index: np.ndarray) -> np.ndarray:
        """Return start, end and number of tokens of each window, shape (windows, 3)."""
        import numpy as np

        texts = tokens.texts(index)
        return np.column_stack([tokens.labels[texts], tokens.lengths[texts]])

    def items(self, tokens: Tokens, index: np.ndarray) -> int:
        return len(tokens.texts(index))

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean of the starts' and the ends' cross-entropy, summed over windows, in nats.

        logits: shape (tokens, 2), the windows one after the other. targets: shape (windows, 3).
        """
        from torch.nn.functional import cross_entropy
        from torch.nn.utils.rnn import pad_sequence

        windows = logits.float().split(targets[:, 2].tolist())
        padded = pad_sequence(list(windows), batch_first=True, padding_value=-float("inf"))
        return cross_entropy(padded, targets[:, :2].long(), reduction="sum") / 2

    def predict(self, logits: np.ndarray, tokens: Tokens, index: np.ndarray) -> pa.Table:
        """Return the best span over all windows of each example, as text; empty where there is none."""
        import numpy as np
        import pyarrow as pa

        texts = tokens.texts(index)
        ends = np.cumsum(tokens.lengths[texts])
        pieces = iter(zip(np.split(logits, ends[:-1]), texts, strict=True))
        rows = []
        for example in index:
            begin, end = tokens.arrays["texts"][example : example + 2]
            spans = []
            for _ in range(begin, end):
                scores, text = next(pieces)
                spans.append(best_span(scores, tokens.arrays["characters"][slice(*tokens.offsets[text : text + 2])]))
            score, start, stop = max(spans)
            reference = tokens.references.slice(int(example), 1).to_pylist()[0]
            answer = reference["context"][start:stop]
            rows.append({"label": reference["answers"], "predicted": answer, "start": start, "score": score})
        kinds = {"label": pa.list_(pa.string()), "predicted": pa.string(), "start": pa.int32(), "score": pa.float32()}
        return pa.Table.from_pylist(rows, pa.schema(kinds))

    def score(self, predicted: Sequence[str], targets: Sequence[Sequence[str]], labels: Sequence[str]) -> dict:
        """Return exact match and F1 of words, each the mean over questions of the best over a question's answers.

        Lower case, without punctuation and the articles a, an, the.
        """
        from transformers.data.metrics.squad_metrics import compute_exact, compute_f1

        pairs = list(zip(predicted, targets, strict=True))
        return {
            name: sum(max(measure(target, given) for target in answers) for given, answers in pairs) / len(pairs)
            for name, measure in (("exact_match", compute_exact), ("f1", compute_f1))
        }

    def collapsed(self, predicted: Sequence[str], targets: Sequence[Sequence[str]]) -> bool:
        """Return whether several answers are asked for and one is given, which may be empty."""
        return one_answer(predicted, [tuple(answers) for answers in targets])


def _listed(label: Any) -> list[dict[str, Any]] | None:
    """Return answers as a list, also where texts and starts are a list each (as the hub has SQuAD)."""
    if isinstance(label, dict):
        columns = [label.get("text"), label.get("answer_start")]
        if not all(isinstance(column, list) for column in columns) or len(columns[0]) != len(columns[1]):
            return None
        label = [{"text": text, "answer_start": start} for text, start in zip(*columns, strict=True)]
    if not isinstance(label, list) or not all(
        isinstance(answer, dict) and isinstance(answer.get("answer_start"), int | float) and "text" in answer
        for answer in label
    ):
        return None
    return [{"text": answer["text"], "start": int(answer["answer_start"])} for answer in label]


def _cut(questions: Sequence[str], tokenizer: Any, tokens: int) -> Iterator[str]:
    """Yield questions cut at so many tokens, so that there is room for context."""
    from peftstudy.tokens import encodings

    for question, encoding in zip(questions, encodings(questions, tokenizer, tokens, offsets=True), strict=False):
        yield question[: max(end for _, end in encoding.offsets)] if encoding.overflowing else question


def _in_context(window: Any) -> np.ndarray:
    """Return the characters of the context that each token of a window stands for; -1 and -1 for others."""
    import numpy as np

    inside = np.array([sequence == 1 for sequence in window.sequence_ids])
    return np.where(inside[:, None], np.array(window.offsets), -1).astype(np.int32)


def _place(characters: np.ndarray, answer: dict[str, Any]) -> tuple[int, int]:
    """Return the first and the last token of an answer, or 0 and 0 where the window does not hold all of it."""
    import numpy as np

    start, stop = answer["start"], answer["start"] + len(answer["text"])
    held = np.flatnonzero((characters[:, 1] > start) & (characters[:, 0] < stop))
    inside = characters[characters[:, 0] >= 0]
    if not len(held) or inside[0, 0] > start or inside[-1, 1] < stop:
        return 0, 0
    return int(held[0]), int(held[-1])


def best_span(scores: np.ndarray, characters: np.ndarray) -> tuple[float, int, int]:
    """Return the best sum of a start's and an end's score, and the characters from the one to the other.

    scores: shape (tokens, 2). characters: see `encode`. Without any possible span: -inf, 0, 0.
    """
    import numpy as np

    possible = np.where((characters[:, :1] >= 0) & ~np.isnan(scores), scores, -np.inf)
    starts, ends = (np.argsort(-possible[:, side], kind="stable")[:BEST] for side in (0, 1))
    sums = possible[starts, 0][:, None] + possible[ends, 1]
    lengths = ends - starts[:, None] + 1
    sums = np.where((lengths > 0) & (lengths <= LONGEST), sums, -np.inf)
    first, last = np.unravel_index(sums.argmax(), sums.shape)
    if sums[first, last] == -np.inf:
        return -np.inf, 0, 0
    return float(sums[first, last]), int(characters[starts[first], 0]), int(characters[ends[last], 1])
