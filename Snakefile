"""What the study produces. The stages are in workflow/rules/, in order."""

if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"


if REBUILDS:

    include: "workflow/rules/rebuild.smk"

else:

    include: "workflow/rules/study.smk"
    include: "workflow/rules/sources.smk"
    include: "workflow/rules/splits.smk"
    include: "workflow/rules/baselines.smk"
    include: "workflow/rules/backbones.smk"
    include: "workflow/rules/tokens.smk"
    include: "workflow/rules/runs.smk"
    include: "workflow/rules/archive.smk"


include: "workflow/rules/metrics.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/page.smk"


# What takes seconds, or a network, runs where Snakemake itself runs.
localrules:
    all,
    archive,
    collect_metrics,
    compare,
    draw,
    fetch_backbone,
    fetch_source,
    resolve_study,
    tabulate,
    typeset,
    write_numbers,
    write_page,


rule all:
    default_target: True
    input:
        RAW,  # by name, so that a run whose record is deleted is run again
        f"{FOLDER}/paper/report.pdf",
        f"{FOLDER}/report.html",
