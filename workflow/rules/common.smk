"""The checked study, and what all rules share."""

import json
import sys
from pathlib import Path

from peftstudy.checking import check, load
from peftstudy.errors import StudyError
from peftstudy.metrics import COLUMNS
from peftstudy.study import to_json

CONFIG = (workflow.configfiles or ["config.yaml"])[-1]

try:
    load(CONFIG)  # what Snakemake's own reading lets pass, such as a key that stands there twice
    study = check(config, CONFIG)
except StudyError as error:
    sys.exit(str(error))

# `python` is the one that runs the workflow, also where its environment is not activated.
shell.prefix(f"set -euo pipefail; export PATH='{Path(sys.executable).parent}':\"$PATH\"; ")


TABLES = list(COLUMNS)
STATISTICS = ["scores", "differences"]


wildcard_constraints:
    study="[^/]+",
    source="[^/]+",
    dataset="[^/]+",
    split="[^/]+",
    backbone="[^/]+",
