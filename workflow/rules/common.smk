"""The checked study, and what all rules share."""

import json
import math
import os
import re
import shlex
import sys
from pathlib import Path

from peftstudy import archive, cutting, estimates, leftovers, needs, present
from peftstudy.checking import check
from peftstudy.configuration import resolved
from peftstudy.errors import StudyError
from peftstudy.metrics import COLUMNS
from peftstudy.specs import to_json
from peftstudy.strict_yaml import load

# --config rebuild=STUDY makes a report from an archive alone, beside what was run here.
REBUILDS = "rebuild" in config
CONFIG = os.path.relpath((workflow.configfiles or ["config.yaml"])[-1])

try:
    if REBUILDS:
        ARCHIVE = archive.find(str(config["rebuild"]))
        CONFIG, config = f"{ARCHIVE}/study.json", archive.configuration(ARCHIVE)
    else:
        load(CONFIG)  # what Snakemake's own reading lets pass, such as a key given twice
    study = check(config, CONFIG)
    # Who starts the workflow decides how jobs are cut; the jobs, and a second one beside it, take it as it is.
    is_first = workflow.is_main_process and not REBUILDS and not leftovers.is_locked(study.name)
    # A dry run changes nothing, nor does a --summary; that it is one, Snakemake itself knows later than here.
    is_dry = is_first and leftovers.only_reads(sys.argv[1:])
    place = Path("results") / study.name
    study = cutting.decided(study, place, is_dry) if is_first else cutting.kept(study, place)
except StudyError as error:
    sys.exit(str(error))

FOLDER = f"results/rebuilt/{study.name}" if REBUILDS else f"results/{study.name}"
RAW = expand(f"{FOLDER}/{{top}}", top=archive.UNPACKED) if REBUILDS else study.result_files()

# There from the first job until all are done: what an interrupted start leaves is looked through by the next.
UNFINISHED = Path(FOLDER, "state/unfinished")
if is_first and UNFINISHED.exists():
    stale = list(leftovers.stale(study, Path(FOLDER)))
    if not is_dry:
        leftovers.remove(stale)
    elif stale:
        count = len({path.parent for path in stale})
        print(f"{FOLDER}: {count} runs are of an earlier request; the next start does them again.", file=sys.stderr)


# Results that were copied here come without Snakemake's memory of what the configuration was when they were made.
if is_first and not is_dry and leftovers.is_outdated(Path(FOLDER, "study.json"), resolved(config)):
    leftovers.remove([Path(FOLDER, "study.json")])


# What is not on this machine is told before the first job; a dry run lists the jobs all the same.
onstart:
    try:
        if not REBUILDS:
            present.refuse_absent(study, CONFIG, Path(FOLDER))
    except StudyError as error:
        sys.exit(str(error))
    UNFINISHED.parent.mkdir(parents=True, exist_ok=True)
    UNFINISHED.touch()


onsuccess:
    if is_first:
        UNFINISHED.unlink(missing_ok=True)


ENVIRONMENT = "../../envs/peftstudy.yaml"

# `python` is the one that runs the workflow, also where its environment is not activated; with
# --software-deployment-method conda it is that environment's. The package is this folder's.
# A shell that is asked to stop waits for its command, which puts a checkpoint down first (src/peftstudy/stopping.py).
exports = f"PYTHONPATH={shlex.quote(f'{workflow.basedir}/src')}"
if not workflow.deployment_settings.deployment_method:
    exports += f' PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'
shell.prefix(f"set -euo pipefail; trap : TERM INT; export {exports}; ")

TABLES = list(COLUMNS)
STATISTICS = ["scores", "differences", "predictions", "overall", "ranks", "efficiency", "spread", "claims"]
PAPER = sorted(str(path) for name in ["*.tex", "*.bib", "sections/*.tex"] for path in Path("paper").glob(name))
PAGE = sorted(str(path) for path in Path("paper/page").glob("*"))
REPORTED = sorted(str(path) for path in Path("paper/reported").glob(f"{study.replicates}/*.[cy]*"))


wildcard_constraints:
    study="(rebuilt/)?[^/]+",
    source="[^/]+",
    dataset="[^/]+",
    split="[^/]+",
    backbone="[^/]+",


def results_folder(wildcards):
    return f"results/{wildcards.study}"


def tested_on(wildcards, file):
    """The file of the dataset whose test part a dataset is tested on; none where that is its own."""
    other = study.datasets[wildcards.dataset].test_from
    return [f"results/{wildcards.study}/splits/{other}/{file}"] if other else []


def memory_of(backbone, processes=1):
    """Megabytes for a job that trains a backbone, or evaluates it."""
    return lambda wildcards, attempt: processes * needs.memory_mb(needs.parameters(study, backbone), attempt)


# What many runs wait for takes no turn behind runs that are ready, nor behind those of another backbone.
FIRST = 1_000_000

# Minutes that a profile allows a job at most: what takes longer goes on from its checkpoint when it is tried again.
LONGEST = (workflow.resource_settings.default_resources or {}).get("max_runtime")
LONGEST = (LONGEST and LONGEST.value) or math.inf


def runtime_of(pack):
    """Minutes for a job that trains a pack."""
    return lambda wildcards, attempt: min(needs.minutes(estimates.sampled(study).pack_seconds(pack), attempt), LONGEST)


def scoring_runtime_of(pack):
    """Minutes for a job that scores a pack: half an hour, or as long as its training where that is more."""
    return lambda wildcards, attempt: min(max(30 * attempt, runtime_of(pack)(wildcards, attempt)), LONGEST)


# What was made of folders that are gone stays as it is: no rule makes it.
KEPT_SOURCES, KEPT_BACKBONES = ([], []) if REBUILDS else present.kept(study, Path(FOLDER))


def names(blocks, *kinds, without=()):
    """A pattern of those names whose block is of these kinds; of none, one that nothing matches."""
    chosen = [re.escape(name) for name, block in blocks.items() if block.kind in kinds and name not in without]
    return "|".join(chosen) or "(?!)"


def keeping(methods):
    """What the command line says of the methods whose runs keep their weights."""
    return f" --keep-weights {' '.join(map(shlex.quote, methods))}" if methods else ""


def launcher(devices):
    """What starts a training: Python, or torchrun with a process for each device, which all end when one fails.

    Five restarts see a pack through as many failed runs, or from micro-batches of 32 down to 1.
    """
    start = f"python -m torch.distributed.run --standalone --max-restarts 5 --nproc-per-node {devices}"
    return start if devices > 1 else "python"


def give_resources(kind, name, devices=1):
    """Give the rule of a pack, whose name is the study's, what a profile sets for its kind (train, evaluate)."""
    asked, resources = workflow.resource_settings, workflow.get_rule(name).resources
    resources.update(asked.overwrite_resources.get(kind, {}))
    if kind in asked.overwrite_threads:
        resources["_cores"] = asked.overwrite_threads[kind]
    if devices > 1 and "gpu" in resources:
        resources["gpu"] = devices * resources["gpu"].value
    if devices > 1 and "gres" in resources:
        resources["gres"] = needs.gres(resources["gres"].raw, devices)
