"""The checked study, and what all rules share."""

import json
import os
import sys
from pathlib import Path

from peftstudy.checking import check, load
from peftstudy.errors import StudyError
from peftstudy.metrics import COLUMNS
from peftstudy.specs import to_json

CONFIG = os.path.relpath((workflow.configfiles or ["config.yaml"])[-1])

try:
    load(CONFIG)  # what Snakemake's own reading lets pass, such as a key that stands there twice
    study = check(config, CONFIG)
except StudyError as error:
    sys.exit(str(error))

ENVIRONMENT = "../../envs/peftstudy.yaml"

# `python` is the one that runs the workflow, also where its environment is not activated; with
# --software-deployment-method conda it is that environment's. The package is this folder's.
exports = [f"PYTHONPATH='{workflow.basedir}/src'"]
if not workflow.deployment_settings.deployment_method:
    exports.append(f"PATH='{Path(sys.executable).parent}':\"$PATH\"")
shell.prefix(f"set -euo pipefail; export {' '.join(exports)}; ")

TABLES = list(COLUMNS)
STATISTICS = ["scores", "differences"]
PAPER = sorted(str(path) for name in ["*.tex", "*.bib", "sections/*.tex"] for path in Path("paper").glob(name))
REPORTED = sorted(str(path) for path in Path("paper/reported").glob(f"{study.replicates}/*.csv"))


wildcard_constraints:
    study="[^/]+",
    source="[^/]+",
    dataset="[^/]+",
    split="[^/]+",
    backbone="[^/]+",


def results_folder(wildcards):
    return f"results/{wildcards.study}"
