"""metrics, statistics -> figures: those that the study has data for, as PDF.

in:  results/{study}/metrics/*.csv, statistics/*.csv
out: results/{study}/figures/
"""


rule draw:
    input:
        expand("results/{{study}}/metrics/{table}.csv", table=TABLES),
        expand("results/{{study}}/statistics/{table}.csv", table=STATISTICS),
        study="results/{study}/study.json",
    output:
        report(
            directory("results/{study}/figures"),
            patterns=["{figure}.pdf"],
            caption="../report/figures.rst",
            category="Figures",
        ),
    params:
        results=results_folder,
    log:
        "results/{study}/logs/figures/draw.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy draw --study {input.study:q} --results {params.results:q} --output {output:q}"
        " 2>&1 | tee {log:q}"
