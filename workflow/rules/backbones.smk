"""sources, splits -> backbones: each an ordinary Hugging Face folder.

in:  for a pre-trained one the tables of its corpus and the examples that stay out of it;
     for a random one the backbone whose shape it takes; the files of a local folder; from the hub nothing
out: results/{study}/backbones/{backbone}/
"""


rule make_backbone:
    input:
        tables=lambda wildcards: study.corpus_tables(wildcards.backbone),
        excluded=lambda wildcards: [path for path, _, _ in study.exclusions(wildcards.backbone)],
        base=lambda wildcards: study.base_folder(wildcards.backbone),
        folder=lambda wildcards: study.backbones[wildcards.backbone].inputs(),
    output:
        directory("results/{study}/backbones/{backbone}"),
    params:
        spec=lambda wildcards: to_json(study.backbones[wildcards.backbone].without_grid()),
        exclude=lambda wildcards: [
            word for found in study.exclusions(wildcards.backbone) for word in ("--exclude", *found)
        ],
        checkpoint="results/{study}/state/backbones/{backbone}.pt",
    log:
        "results/{study}/logs/backbones/{backbone}.log",
    wildcard_constraints:
        backbone=names(study.backbones, "pretrain", "random", without=KEPT_BACKBONES),
    priority: FIRST
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: memory_of(wildcards.backbone)(wildcards, attempt),
        runtime=lambda wildcards, attempt: min(240 * attempt, LONGEST),
    shell:
        "python -m peftstudy backbone --spec {params.spec:q} --tables {input.tables:q}"
        " {params.exclude:q} --base {input.base:q}"
        " --checkpoint {params.checkpoint:q} --output {output:q} 2>&1 | (trap '' TERM INT; tee {log:q})"


# Downloads are made where a network is: on a cluster, on the login node. A copy of a folder wants no GPU either.
use rule make_backbone as fetch_backbone with:
    wildcard_constraints:
        backbone=names(study.backbones, "hub", "folder", without=KEPT_BACKBONES),


ruleorder: fetch_backbone > make_backbone
