"""The checked study, and what all rules share."""

import json
import sys
from pathlib import Path

from peftstudy.checking import check
from peftstudy.errors import StudyError
from peftstudy.metrics import COLUMNS
from peftstudy.study import to_json

try:
    study = check(config, (workflow.configfiles or ["config.yaml"])[-1])
except StudyError as error:
    sys.exit(str(error))

# `python` is the one that runs the workflow, also where its environment is not activated.
shell.prefix(f"set -euo pipefail; export PATH='{Path(sys.executable).parent}':\"$PATH\"; ")


TABLES = list(COLUMNS)


wildcard_constraints:
    study="[^/]+",
    source="[^/]+",
    dataset="[^/]+",
    split="[^/]+",
    backbone="[^/]+",
