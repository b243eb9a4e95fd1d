"""archive -> runs, splits, tokens, ...: the raw results of a finished study, as its runs left them.

Stands in for all stages before metrics: no data, no weights, no training.

in:  results/archive/{study}/, whose manifest was checked when the workflow was read
out: results/rebuilt/{study}/runs and its neighbours, study.json
"""


rule unpack:
    input:
        f"{ARCHIVE}/manifest.json",
    output:
        [directory(path) for path in RAW],
        study=f"{FOLDER}/study.json",
    params:
        archive=ARCHIVE,
        results=subpath(output.study, parent=True),
    log:
        f"{FOLDER}/logs/unpack.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy unpack --archive {params.archive:q} --output {params.results:q} 2>&1 | tee {log:q}"
