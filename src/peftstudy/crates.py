"""An archive described for other programs: a Workflow Run RO-Crate, in the file ro-crate-metadata.json.

Sources: RO-Crate Metadata Specification 1.1 (Sefton et al., 2023); Workflow Run Crate 0.5 (Leo et al., 2024,
"Recording provenance of workflow runs with RO-Crate").
"""

import json
import mimetypes
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from peftstudy.files import file_entry

METADATA, WORKFLOW = "ro-crate-metadata.json", "Snakefile"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
LANGUAGE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
DESCRIBED = {
    "records": "A row a run: its name, and its record and test result as JSON.",
    "histories": "A row an epoch of each run: losses, scores, seconds.",
    "predictions": "A row a test example of each run: label and answer.",
    "about": "What the runs were made from: sizes, labels and checksums of sources, splits, tokens and backbones.",
    "study": "The resolved configuration.",
    WORKFLOW: "The workflow's entry; its rules and its code are those of the commits that the run names.",
    "manifest": "Names, sizes and checksums of the files.",
    "README": "Written by hand.",
}
"""What a file holds, by its name without its ending and the task behind it."""


def metadata(
    folder: Path, config: Mapping[str, Any], records: Iterable[str], day: date | None = None
) -> dict[str, Any]:
    """Return the description of an archive's files in `folder`, which all lie there already, but for the manifest.

    records: the runs' records as JSON, for commits, packages and machines. day: of publication, today if left out.
    """
    made = [json.loads(text) for text in records]
    provenance = [record.get("provenance", {}) for record in made]
    paths = sorted(path for path in folder.iterdir() if path.name != METADATA)
    parts = [*(path.name for path in paths), "manifest.json"]
    packages = _packages(provenance)
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [
            {
                "@id": METADATA,
                "@type": "CreativeWork",
                "about": _to("./"),
                "conformsTo": [_to("https://w3id.org/ro/crate/1.1"), _to([*PROFILES][-1])],
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": config["title"],
                "description": config["question"],
                "datePublished": (day or datetime.now(UTC).date()).isoformat(),
                "conformsTo": [_to(name) for name in PROFILES],
                "hasPart": [_to(name) for name in parts],
                "mainEntity": _to(WORKFLOW),
                "mentions": [_to("#study")],
            },
            *({"@id": name, "@type": "CreativeWork", "name": said, "version": version}
              for name, (said, version) in PROFILES.items()),
            *(_file(path, packages) for path in paths),
            {"@id": "manifest.json", "@type": "File", "name": "manifest.json", "description": DESCRIBED["manifest"],
             "encodingFormat": "application/json"},
            {"@id": LANGUAGE, "@type": "ComputerLanguage", "name": "Snakemake",
             "url": _to("https://snakemake.readthedocs.io")},
            _action(config, made, provenance, parts),
            *packages,
        ],
    }  # fmt: skip


def _to(name: str) -> dict[str, str]:
    return {"@id": name}


def _file(path: Path, packages: list[dict[str, Any]]) -> dict[str, Any]:
    found = {
        "@id": path.name,
        "@type": "File",
        "name": path.name,
        "description": DESCRIBED[path.stem.partition("-")[0]],
        "encodingFormat": _kind(path),
    }
    if path.name != "README.md":  # may be written on
        entry = file_entry(path)
        found |= {"contentSize": str(entry["bytes"]), "sha256": entry["sha256"]}
    if path.name == WORKFLOW:
        found |= {
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "programmingLanguage": _to(LANGUAGE),
            "softwareRequirements": [_to(package["@id"]) for package in packages],
        }
    return found


def _kind(path: Path) -> str:
    if path.suffix == ".parquet":
        return "application/vnd.apache.parquet"
    return mimetypes.guess_type(path.name)[0] or "text/plain"


def _packages(provenance: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return every package and version that some run was made with."""
    found = {(name, version) for about in provenance for name, version in about.get("packages", {}).items() if version}
    return [
        {"@id": f"#{name}-{version}", "@type": "SoftwareApplication", "name": name, "softwareVersion": version}
        for name, version in sorted(found)
    ]


def _action(config: Mapping[str, Any], made: list[Any], provenance: list[Any], parts: list[str]) -> dict[str, Any]:
    """Return the study as one run of the workflow: from the configuration to the raw results."""
    finished = sum(record.get("status") == "finished" for record in made)
    commits = sorted({about["commit"] for about in provenance if about.get("commit")})
    machines = sorted({about.get("machine", {}).get("processor") or "unknown" for about in provenance})
    return {
        "@id": "#study",
        "@type": "CreateAction",
        "name": f"The study {config['study']}",
        "description": f"{len(made)} runs, {finished} of them finished; commit {', '.join(commits) or 'unknown'}; "
        f"on {', '.join(machines)}.",
        "instrument": _to(WORKFLOW),
        "object": [_to("study.json"), _to("about.json")],
        "result": [_to(name) for name in parts if name.endswith(".parquet")],
        "actionStatus": _to("http://schema.org/CompletedActionStatus"),
    }
