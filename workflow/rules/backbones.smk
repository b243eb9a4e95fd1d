"""sources, splits -> backbones: each an ordinary Hugging Face folder.

in:  for a pre-trained one the tables of its corpus and the examples that stay out of it;
     for a random one the backbone whose shape it takes; for the others nothing
out: results/{study}/backbones/{backbone}/
"""


rule make_backbone:
    input:
        tables=lambda wildcards: study.corpus_tables(wildcards.backbone),
        examples=lambda wildcards: study.excluded_examples(wildcards.backbone),
        base=lambda wildcards: study.base_folder(wildcards.backbone),
    output:
        directory("results/{study}/backbones/{backbone}"),
    params:
        spec=lambda wildcards: to_json(study.backbones[wildcards.backbone].without_grid()),
        excluded=lambda wildcards: study.backbones[wildcards.backbone].excluded_json(study.datasets),
        checkpoint="results/{study}/state/backbones/{backbone}.pt",
    log:
        "results/{study}/logs/backbones/{backbone}.log",
    shell:
        "python -m peftstudy backbone --spec {params.spec:q} --tables {input.tables:q}"
        " --examples {input.examples:q} --excluded {params.excluded:q} --base {input.base:q}"
        " --checkpoint {params.checkpoint:q} --output {output:q} 2>&1 | tee {log:q}"
