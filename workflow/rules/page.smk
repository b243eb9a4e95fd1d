"""metrics, statistics, tables, numbers, hand-written text -> page: the report in one file, to be read without a network.

in:  results/{study}/metrics/*.csv, statistics/*.csv, tables/, paper/numbers.tex; the records of the runs that these
     name; paper/, the captions; paper/page/, the template, its style and its script
out: results/{study}/report.html
"""


rule write_page:
    input:
        expand("results/{{study}}/metrics/{table}.csv", table=TABLES),
        expand("results/{{study}}/statistics/{table}.csv", table=STATISTICS),
        "results/{study}/tables",
        "results/{study}/paper/numbers.tex",
        text=PAPER + PAGE,
        reported=REPORTED,
        study="results/{study}/study.json",
    output:
        report("results/{study}/report.html", caption="../report/page.rst", category="Report"),
    params:
        results=results_folder,
    log:
        "results/{study}/logs/page/write.log",
    # Before the PDF: it needs no LaTeX, for want of which that may fail.
    priority: 1
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy page --study {input.study:q} --results {params.results:q} --output {output:q}"
        " 2>&1 | tee {log:q}"
