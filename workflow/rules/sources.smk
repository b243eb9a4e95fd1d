"""what the config names -> sources: one table each, with a manifest of checksums.

in:  the files of a local source; the lock, which fixes the docstrings
out: results/{study}/sources/{source}/table.parquet, manifest.json
"""


rule read_source:
    input:
        lambda wildcards: study.sources[wildcards.source].inputs(),
    output:
        table="results/{study}/sources/{source}/table.parquet",
        manifest="results/{study}/sources/{source}/manifest.json",
    params:
        spec=lambda wildcards: to_json(study.sources[wildcards.source]),
    log:
        "results/{study}/logs/sources/{source}.log",
    wildcard_constraints:
        source=names(study.sources, "docstrings", "files", without=KEPT_SOURCES),
    priority: FIRST
    conda:
        ENVIRONMENT
    shell:
        "python -m peftstudy source --spec {params.spec:q} --output {output.table:q}"
        " --manifest {output.manifest:q} 2>&1 | tee {log:q}"


# Downloads are made where a network is: on a cluster, on the login node.
use rule read_source as fetch_source with:
    wildcard_constraints:
        source=names(study.sources, "hub"),


ruleorder: fetch_source > read_source
