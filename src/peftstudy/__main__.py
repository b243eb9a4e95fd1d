"""The command line: one subcommand a stage. The workflow's rules call these, so every job can be pasted."""

import argparse
import errno
import logging
import os
import platform
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from peftstudy import commands, devices, stages
from peftstudy.errors import StudyError

Arguments = dict[str, dict]

PATH = {"type": Path, "required": True}
PATHS = {"type": Path, "nargs": "*", "default": []}
TEXT = {"required": True}
TESTED: Arguments = {"--tested": PATHS | {"help": "the file of the dataset that this one is tested on"}}
STUDY: Arguments = {
    "--study": PATH | {"help": "the study's resolved configuration (study.json)"},
    "--results": PATH | {"help": "the study's folder under results/"},
}
RUNS: Arguments = {
    "--runs": TEXT | {"help": "specifications of the runs, in JSON"},
    "--tokens": PATH,
    "--backbone": PATH,
    "--state": PATH | {"help": "where weights and checkpoints are kept, outside the workflow's reach"},
    "--output": PATH,
    "--keep-weights": {
        "nargs": "+",
        "action": "extend",
        "default": [],
        "metavar": "METHOD",
        "help": "whose runs keep theirs",
    },
}

OVERVIEW: Arguments = {
    "config": {"type": Path, "nargs": "?", "default": Path("config.yaml")},
    "--folder": {"help": "where the files are of a study that asks for a folder"},
}

COMMANDS: dict[str, tuple[Callable, str, Arguments]] = {
    "check": (
        commands.check,
        "check a configuration, and what it takes from this machine, and count its runs",
        OVERVIEW | {"config": {"type": Path}},
    ),
    "plan": (
        commands.plan,
        "say what a study will take, before it starts, or how many seeds would tell two methods apart",
        OVERVIEW
        | {
            "--separate": {"nargs": 2, "metavar": "METHOD", "help": "two methods of the study that has some runs"},
            "--results": {"type": Path, "help": "where these runs are, if not in results/ under the study's name"},
        },
    ),
    "status": (commands.status, "say what is done, under way, failed and left", OVERVIEW),
    "methods": (
        commands.methods,
        "list the methods, with what they train and where they are impossible, or say all of one",
        {
            "method": {"nargs": "?", "help": "its name, or its file"},
            "--backbone": {"type": Path, "help": "a backbone's folder, to count trained parameters"},
        },
    ),
    "check-method": (
        commands.check_method,
        "hold a method, one of your own too, against the contract on tiny bodies of all families",
        {"method": {"help": "its name, or its file"}, "--options": {"default": "{}", "help": "in JSON"}},
    ),
    "aclimdb": (
        commands.aclimdb,
        "turn the public IMDb archive into JSON Lines files",
        {"archive": {"type": Path}, "--output": PATH},
    ),
    "resolve": (
        stages.resolve,
        "write the checked configuration for the later stages",
        {"--config": TEXT, "--output": PATH},
    ),
    "source": (
        stages.source,
        "read or fetch one source into a table",
        {"--spec": TEXT, "--output": PATH, "--manifest": PATH},
    ),
    "examples": (
        stages.examples,
        "take a dataset's examples from a source's table",
        {"--spec": TEXT, "--table": PATH, "--data-seed": {"type": int, "required": True}, "--output": PATH} | TESTED,
    ),
    "split": (
        stages.split,
        "cut a dataset into train, validation and test",
        {
            "--name": TEXT,
            "--examples": PATH,
            "--validation": {"type": float, "required": True},
            "--data-seed": {"type": int, "required": True},
            "--output": PATH,
        }
        | TESTED,
    ),
    "backbone": (
        stages.backbone,
        "fetch, copy, pre-train or randomise a backbone",
        {
            "--spec": TEXT,
            "--tables": PATHS,
            "--exclude": {
                "nargs": 3,
                "action": "append",
                "default": [],
                "metavar": ("TABLE", "COLUMN", "OWN"),
                "help": "texts that stay out of the corpus, and the corpus' own column to compare with them",
            },
            "--base": PATHS | {"help": "the folder whose shape a random backbone takes"},
            "--checkpoint": {"type": Path},
            "--output": PATH,
        },
    ),
    "tokenize": (
        stages.tokenize,
        "encode a dataset with a backbone's tokenizer",
        {"--examples": PATH, "--backbone": PATH, "--max-length": {"type": int, "required": True}, "--output": PATH},
    ),
    "train": (
        stages.train,
        "train the runs of one job, the missing ones only",
        RUNS | {"--train": PATH, "--validation": PATH, "--checkpoint-seconds": {"type": float, "required": True}},
    ),
    "evaluate": (
        stages.evaluate,
        "score trained runs on the test part",
        RUNS | {"--test": PATH},
    ),
    "baseline": (
        stages.baseline,
        "score the majority class and a bag of words",
        {"--examples": PATH, "--split": PATH, "--output": PATH},
    ),
    "collect": (stages.collect, "gather the runs' records into tables", STUDY | {"--output": PATH}),
    "compare": (stages.compare, "means, intervals and differences", STUDY),
    "draw": (stages.draw, "draw the figures", STUDY | {"--output": PATH}),
    "tabulate": (stages.tabulate, "write the tables", STUDY | {"--output": PATH}),
    "number": (
        stages.number,
        "write the numbers that the report's text names, and its headline",
        STUDY | {"--output": PATH, "--headline": PATH},
    ),
    "page": (stages.page, "write the report as a page", STUDY | {"--output": PATH}),
    "archive": (stages.archive, "write a finished study's raw results", STUDY | {"--output": PATH}),
    "merge": (
        commands.merge,
        "make one archive of several machines' archives of one study, each with seeds, backbones or methods of its own",
        {"archives": {"type": Path, "nargs": "+", "metavar": "archive"}, "--output": PATH},
    ),
    "export": (
        commands.export,
        "write a study's results as tables, or in the form of Hugging Face PEFT's method comparison",
        {
            "--results": {"type": Path, "default": Path("results/default"), "help": "the study's folder"},
            "--form": {"choices": ["csv", "parquet", "peft"], "default": "csv"},
            "--output": PATH | {"help": "a folder, made anew"},
        },
    ),
    "import": (
        commands.read_results,
        "read results of Hugging Face PEFT's method comparison into a table",
        {
            "folder": {"type": Path, "help": "a folder of its JSON files"},
            "--output": PATH | {"help": "a table, .csv or .parquet"},
        },
    ),
    "publish": (
        commands.publish,
        "write one trained model as a folder that others can load, with a card; its weights are made again if need be",
        {
            "run": {"help": "its path: dataset/split/backbone/method/seed-0"},
            "--to": PATH | {"help": "a new folder"},
            "--results": {"type": Path, "default": Path("results/default"), "help": "the study's folder"},
        },
    ),
    "unpack": (
        stages.unpack,
        "check an archive, and lay out its raw results as the runs left them",
        {"--archive": PATH, "--output": PATH},
    ),
    "why": (
        commands.why,
        "name the runs behind a figure, a table, a cell or a number of the report",
        {
            "name": {"help": "scores, score-by-method, Answer, claim-3, ... and places: scores/90-10/bert-tiny/lora"},
            "--results": {"type": Path, "default": Path("results/default"), "help": "the study's folder"},
        },
    ),
    "typeset": (stages.typeset, "typeset the report", STUDY | {"--output": PATH}),
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="peftstudy", description=__doc__)
    subparsers = top.add_subparsers(dest="command", required=True, metavar="command")
    for name, (function, text, arguments) in COMMANDS.items():
        sub = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        for flag, options in arguments.items():
            sub.add_argument(flag, **options)
        sub.set_defaults(function=function)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return 0, or 1 after a sentence that says what to mend."""
    options = vars(parser().parse_args(arguments))
    command, function = options.pop("command"), options.pop("function")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("peftstudy").setLevel(logging.INFO if devices.number() == 0 else logging.WARNING)
    begin = time.monotonic()
    if "SLURM_JOB_ID" in os.environ and devices.number() == 0:
        print(f"SLURM job {os.environ['SLURM_JOB_ID']} on {platform.node()}", file=sys.stderr)
    try:
        said = function(**options)
        sys.stdout.flush()
    except StudyError as error:
        print(f"peftstudy {command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        if _is_read(sys.stdout):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print goes nowhere
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"peftstudy {command}: {where}{os.strerror(error.errno)}; make room and start again: "
            "what is finished stays, and a run goes on from its last checkpoint.",
            file=sys.stderr,
        )
        return 1
    if said:
        print(f"{command}: {said} ({time.monotonic() - begin:.1f} s)", file=sys.stderr)
    return 0


def _is_read(stream: TextIO) -> bool:
    """Whether somebody may read what is printed; `head` stops when it has seen enough."""
    watched = select.poll()
    watched.register(stream, 0)  # errors are told unasked
    return not watched.poll(0)


if __name__ == "__main__":
    sys.exit(main())
