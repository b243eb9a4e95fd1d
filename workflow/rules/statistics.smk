"""metrics, runs -> statistics: means, intervals, differences to the reference, tests on the predictions.

in:  results/{study}/metrics/*.csv; the predictions of the runs that these name;
     paper/reported/, the claims of a publication that is replicated
out: results/{study}/statistics/{scores,differences,predictions,overall,ranks,efficiency,spread,claims}.csv
"""


rule compare:
    input:
        expand("results/{{study}}/metrics/{table}.csv", table=TABLES),
        reported=REPORTED,
        study="results/{study}/study.json",
    output:
        report(
            expand("results/{{study}}/statistics/{table}.csv", table=STATISTICS),
            caption="../report/statistics.rst",
            category="Tables",
        ),
    params:
        results=results_folder,
    log:
        "results/{study}/logs/statistics/compare.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy compare --study {input.study:q} --results {params.results:q} 2>&1 | tee {log:q}"
