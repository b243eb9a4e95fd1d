"""runs -> metrics: exactly the runs that the study asks for, as tables.

in:  everything that was measured; results/{study}/study.json, the resolved configuration
out: results/{study}/metrics/*.csv
"""


rule collect_metrics:
    input:
        RAW,
        study="results/{study}/study.json",
    output:
        expand("results/{{study}}/metrics/{table}.csv", table=TABLES),
    params:
        results=results_folder,
    log:
        "results/{study}/logs/metrics/collect.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy collect --study {input.study:q} --results {params.results:q}"
        " --output {params.results:q}/metrics 2>&1 | tee {log:q}"
