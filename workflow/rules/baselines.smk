"""splits -> baselines: what the majority class and a bag of words score, without a backbone.

in:  results/{study}/splits/{dataset}/examples.parquet, {split}/
out: results/{study}/metrics/baselines/{dataset}/{split}.json
"""


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
