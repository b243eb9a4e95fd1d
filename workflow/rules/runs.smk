"""tokens -> runs: adapt a backbone with some methods; a record for each seed.

Training is given the training and validation parts, the evaluation of trained runs alone the
test part. A job does a pack of runs, the missing ones only: update() keeps what is there.

in:  results/{study}/tokens/{dataset}/{backbone}, backbones/{backbone}, splits/{dataset}/{split}
out: results/{study}/runs/{dataset}/{split}/{backbone}/{method}/seed-{seed}/
     record.json (train), test.json (evaluate); beside them, and vouched for by their checksums,
     history.csv and predictions.parquet: with half as many files, Snakemake plans in half the time
"""

# No param: a method named later would run the evaluations again, and find no weights to keep.
KEEP = keeping(study.keep_weights)
READ = study.read_by_others()

# What takes longest starts first, or a core would be at it alone in the end; what is trained is scored at once.
SIZES = {name: needs.parameters(study, name) for name in study.backbones}
RANKED = sorted(study.packs(), key=lambda pack: needs.work(study, pack, SIZES[pack.backbone]))

for rank, pack in enumerate(RANKED):
    devices = study.backbones[pack.backbone].devices
    folders = f"--state results/{study.name}/state/runs --output results/{study.name}/runs"
    # A param: where runs that start from these are added later, those whose weights are gone are trained again.
    folders += keeping(pack.methods_among(READ))

    rule:
        name:
            f"train_{pack.name}"
        input:
            tokens=f"results/{study.name}/tokens/{pack.dataset}/{pack.backbone}",
            backbone=f"results/{study.name}/backbones/{pack.backbone}",
            train=f"results/{study.name}/splits/{pack.dataset}/{pack.split}/train.npy",
            validation=f"results/{study.name}/splits/{pack.dataset}/{pack.split}/validation.npy",
            origins=pack.origins(f"results/{study.name}/runs", "record.json"),
        output:
            update(pack.files(f"results/{study.name}/runs", "record.json")),
        params:
            # Not within the command, which Snakemake puts together again as a job starts, behind the last pack.
            launcher=launcher(devices),
            runs=pack.json,
            folders=folders,
            seconds=study.checkpoint_seconds,
        log:
            f"results/{study.name}/logs/runs/train_{pack.name}.log",
        priority: rank
        conda:
            ENVIRONMENT
        threads: devices
        resources:
            mem_mb=memory_of(pack.backbone, devices),
            runtime=runtime_of(pack),
        shell:
            "{params.launcher} -m peftstudy train"
            " --runs {params.runs:q} --tokens {input.tokens:q}"
            " --backbone {input.backbone:q} --train {input.train:q} --validation {input.validation:q}"
            " --checkpoint-seconds {params.seconds} {params.folders}"
            " 2>&1 | (trap '' TERM INT; tee {log:q})"

    give_resources("train", f"train_{pack.name}", devices)

    rule:
        name:
            f"evaluate_{pack.name}"
        input:
            pack.files(f"results/{study.name}/runs", "record.json"),
            tokens=f"results/{study.name}/tokens/{pack.dataset}/{pack.backbone}",
            backbone=f"results/{study.name}/backbones/{pack.backbone}",
            test=f"results/{study.name}/splits/{pack.dataset}/{pack.split}/test.npy",
        output:
            update(pack.files(f"results/{study.name}/runs", "test.json")),
        params:
            runs=pack.json,
            folders=folders,
        log:
            f"results/{study.name}/logs/runs/evaluate_{pack.name}.log",
        priority: len(RANKED)
        conda:
            ENVIRONMENT
        resources:
            mem_mb=memory_of(pack.backbone),
            runtime=scoring_runtime_of(pack),
        shell:
            f"python -m peftstudy evaluate{KEEP}"
            " --runs {params.runs:q} --tokens {input.tokens:q} --backbone {input.backbone:q} --test {input.test:q}"
            " {params.folders} 2>&1 | tee {log:q}"

    give_resources("evaluate", f"evaluate_{pack.name}")
