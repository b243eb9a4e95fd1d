"""runs -> archive: the raw results of a finished study, small enough to keep in git.

in:  results/{study}/runs, and what they were made from; called by name: snakemake archive
out: results/archive/{study}/
"""


rule archive:
    input:
        study.result_files(),
        study=f"results/{study.name}/study.json",
    output:
        f"results/archive/{study.name}/manifest.json",
    params:
        results=subpath(input.study, parent=True),
        archive=subpath(output[0], parent=True),
    log:
        f"results/{study.name}/logs/archive.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy archive --study {input.study:q} --results {params.results:q} --output {params.archive:q}"
        " 2>&1 | tee {log:q}"
