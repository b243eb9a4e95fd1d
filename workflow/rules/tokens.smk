"""splits, backbones -> tokens: each dataset once for each tokenizer.

in:  results/{study}/splits/{dataset}/examples.parquet, results/{study}/backbones/{backbone}
out: results/{study}/tokens/{dataset}/{backbone}/
"""


rule tokenize:
    input:
        examples="results/{study}/splits/{dataset}/examples.parquet",
        backbone="results/{study}/backbones/{backbone}",
    output:
        directory("results/{study}/tokens/{dataset}/{backbone}"),
    params:
        max_length=lambda wildcards: study.max_length(wildcards.dataset, wildcards.backbone),
    log:
        "results/{study}/logs/tokens/{dataset}_{backbone}.log",
    priority: FIRST
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy tokenize --examples {input.examples:q} --backbone {input.backbone:q}"
        " --max-length {params.max_length} --output {output:q} 2>&1 | tee {log:q}"
