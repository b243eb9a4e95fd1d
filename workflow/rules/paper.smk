"""figures, tables, numbers, hand-written text -> paper.

in:  results/{study}/figures/, tables/, metrics/*.csv, statistics/*.csv; paper/, the text
out: results/{study}/paper/numbers.tex, headline.txt (write_numbers), report.pdf (typeset)
"""


rule write_numbers:
    input:
        expand("results/{{study}}/metrics/{table}.csv", table=TABLES),
        expand("results/{{study}}/statistics/{table}.csv", table=STATISTICS),
        study="results/{study}/study.json",
    output:
        numbers="results/{study}/paper/numbers.tex",
        headline="results/{study}/paper/headline.txt",
    params:
        results=results_folder,
    log:
        "results/{study}/logs/paper/numbers.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy number --study {input.study:q} --results {params.results:q}"
        " --output {output.numbers:q} --headline {output.headline:q} 2>&1 | tee {log:q}"


rule typeset:
    input:
        "results/{study}/figures",
        "results/{study}/tables",
        "results/{study}/paper/numbers.tex",
        text=PAPER,
        study="results/{study}/study.json",
    output:
        report("results/{study}/paper/report.pdf", caption="../report/paper.rst", category="Report"),
    params:
        results=results_folder,
    log:
        "results/{study}/logs/paper/typeset.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy typeset --study {input.study:q} --results {params.results:q} --output {output:q}"
        " 2>&1 | tee {log:q}"
