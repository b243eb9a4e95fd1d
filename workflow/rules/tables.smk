"""metrics, statistics -> tables: in LaTeX, ready for the report.

in:  results/{study}/metrics/*.csv, statistics/*.csv; paper/reported/, the figures that are replicated
out: results/{study}/tables/
"""


rule tabulate:
    input:
        expand("results/{{study}}/metrics/{table}.csv", table=TABLES),
        expand("results/{{study}}/statistics/{table}.csv", table=STATISTICS),
        reported=REPORTED,
        study="results/{study}/study.json",
    output:
        directory("results/{study}/tables"),
    params:
        results=results_folder,
    log:
        "results/{study}/logs/tables/tabulate.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy tabulate --study {input.study:q} --results {params.results:q} --output {output:q}"
        " 2>&1 | tee {log:q}"
