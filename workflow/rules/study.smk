"""config -> study.json: the resolved configuration, which the later stages read.

in:  the configuration
out: results/{study}/study.json
"""


rule resolve_study:
    output:
        "results/{study}/study.json",
    params:
        config=json.dumps(resolved(config)),
    log:
        "results/{study}/logs/metrics/study.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy resolve --config {params.config:q} --output {output:q} 2>&1 | tee {log:q}"
