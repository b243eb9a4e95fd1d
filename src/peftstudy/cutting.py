"""How many runs share a job: by what finished runs took, where a study cuts its jobs by minutes.

Of what has begun the jobs stay as they are, for other ones would start again to find that their runs are there. The
sizes are kept in a file: each job reads the study again, and must find the packs as they were when it was sent off.
"""

from dataclasses import replace
from pathlib import Path

from peftstudy import estimates, files
from peftstudy.study import Study


def kept(study: Study, results: Path) -> Study:
    """Return the study with the sizes of jobs that were decided when it was last started.

    results: the study's folder.
    """
    path = results / "state" / "packs.json"
    if study.job_minutes is None or not path.exists():
        return study
    found = files.read_json(path)
    return replace(study, sizes=found["sizes"]) if found["job_minutes"] == study.job_minutes else study


def decided(study: Study, results: Path, is_dry: bool = False) -> Study:
    """Return the study with the sizes of its jobs, and keep them: new ones where finished runs say how long they take.

    is_dry: keep nothing. No other process may be at the study, for its jobs read the file.
    """
    if study.job_minutes is None:
        return study
    before, found = kept(study, results), estimates.sampled(study)
    sizes = dict(before.sizes)
    for group, runs in study.groups().items():
        has_begun = any((results / root / group).exists() for root in ("runs", "state/runs"))
        if found.is_measured(runs[0].backbone) and not has_begun:
            mean = sum(map(found.run_seconds, runs)) / len(runs)
            sizes[group] = max(1, int(60 * study.job_minutes / mean))
    if sizes != before.sizes and not is_dry:
        files.write_json(results / "state" / "packs.json", {"job_minutes": study.job_minutes, "sizes": sizes})
    return replace(study, sizes=sizes)
