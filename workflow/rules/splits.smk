"""sources -> splits: a dataset's examples, and its parts as indices.

in:  results/{study}/sources/{source}/table.parquet
out: results/{study}/splits/{dataset}/examples.parquet, examples.json
     results/{study}/splits/{dataset}/{split}/train.npy, validation.npy, test.npy, split.json
"""


rule take_examples:
    input:
        table=lambda wildcards: f"results/{wildcards.study}/sources/{study.datasets[wildcards.dataset].source}/table.parquet",
        tested=lambda wildcards: tested_on(wildcards, "examples.parquet"),
    output:
        table="results/{study}/splits/{dataset}/examples.parquet",
        about="results/{study}/splits/{dataset}/examples.json",
    params:
        spec=lambda wildcards: to_json(study.datasets[wildcards.dataset].without_length()),
        data_seed=lambda wildcards: study.data_seed_of(wildcards.dataset),
        folder=subpath(output.table, parent=True),
    log:
        "results/{study}/logs/splits/{dataset}.log",
    priority: FIRST
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy examples --spec {params.spec:q} --table {input.table:q} --tested {input.tested:q}"
        " --data-seed {params.data_seed} --output {params.folder:q} 2>&1 | tee {log:q}"


rule cut_split:
    input:
        examples="results/{study}/splits/{dataset}/examples.parquet",
        tested=lambda wildcards: tested_on(wildcards, f"{wildcards.split}/test.npy"),
    output:
        expand("results/{{study}}/splits/{{dataset}}/{{split}}/{part}.npy", part=["train", "validation", "test"]),
        about="results/{study}/splits/{dataset}/{split}/split.json",
    params:
        validation=study.validation,
        data_seed=lambda wildcards: study.data_seed_of(wildcards.dataset),
        folder=subpath(output.about, parent=True),
    log:
        "results/{study}/logs/splits/{dataset}_{split}.log",
    priority: FIRST
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy split --name {wildcards.split:q} --examples {input.examples:q} --tested {input.tested:q}"
        " --validation {params.validation} --data-seed {params.data_seed}"
        " --output {params.folder:q} 2>&1 | tee {log:q}"
