"""runs -> metrics: exactly the runs that the study asks for, as tables.

in:  everything that was measured; results/{study}/study.json, the resolved configuration
out: results/{study}/metrics/*.csv
"""


rule resolve_study:
    output:
        "results/{study}/study.json",
    params:
        config=json.dumps(config, sort_keys=True),
    log:
        "results/{study}/logs/metrics/study.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy resolve --config {params.config:q} --output {output:q} 2>&1 | tee {log:q}"


rule score_baselines:
    input:
        examples="results/{study}/splits/{dataset}/examples.parquet",
        parts=expand("results/{{study}}/splits/{{dataset}}/{{split}}/{part}.npy", part=["train", "validation", "test"]),
    output:
        "results/{study}/metrics/baselines/{dataset}/{split}.json",
    params:
        split=lambda wildcards: f"results/{wildcards.study}/splits/{wildcards.dataset}/{wildcards.split}",
    log:
        "results/{study}/logs/metrics/{dataset}_{split}.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy baseline --examples {input.examples:q} --split {params.split:q}"
        " --output {output:q} 2>&1 | tee {log:q}"


rule collect_metrics:
    input:
        study.result_files(),
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
