"""sources -> backbones: a Hugging Face folder with a manifest, from each of the four origins."""

import shutil
from pathlib import Path
from typing import Any

from peftstudy import files, locks
from peftstudy.errors import StudyError
from peftstudy.sources import expand
from peftstudy.specs import Backbone, digest, to_json


def make(
    backbone: Backbone,
    output: Path,
    tables: list[Path],
    exclude: list[tuple[str, str, str]],
    base: list[Path],
    checkpoint: Path | None,
) -> dict[str, Any]:
    """Make a backbone's folder, whole or not at all; return its manifest.

    tables: the corpus of a pre-trained one; exclude: what stays out of it, as in Study.exclusions.
    base: the folder whose shape and tokenizer a random one takes.
    """
    if not checkpoint:
        return _make(backbone, output, tables, exclude, base, None)
    # Beside the checkpoint stands what was pre-trained here last: Snakemake removes `output` before it starts a job,
    # also where nothing that is read has changed but its time. A writer that had to wait finds it, too.
    asked = {"spec": to_json(backbone), "inputs": [files.sha256(table) for table in tables]}
    asked["excluded"] = [[files.sha256(path), *rest] for path, *rest in exclude]
    if backbone.pretrain and (own := dict(backbone.pretrain.tokenizer).get("folder")):
        tokenizer = expand(f"backbones.{backbone.name}.pretrain.tokenizer.folder", own)
        asked["tokenizer"] = [files.file_entry(path) for path in sorted(tokenizer.iterdir()) if path.is_file()]
    made, kept = checkpoint.with_suffix(".json"), checkpoint.with_suffix("")
    with locks.held(checkpoint.with_suffix(".lock"), f"backbone {backbone.name}"):
        files.forget_parts(checkpoint.parent, checkpoint.name)
        if not (backbone.pretrain and made.exists() and _is_whole(kept, asked, files.read_sealed(made))):
            manifest = _make(backbone, kept if backbone.pretrain else output, tables, exclude, base, checkpoint)
            files.write_sealed(made, asked | {"manifest": manifest})
            checkpoint.unlink(missing_ok=True)
        if backbone.pretrain:
            with files.whole_folder(output) as folder:
                shutil.copytree(kept, folder, dirs_exist_ok=True)
    return files.read_json(output / "manifest.json")


def _is_whole(kept: Path, asked: dict[str, Any], made: dict[str, Any]) -> bool:
    """Return whether the folder holds what was made for this request, undamaged."""
    try:
        manifest = files.read_json(kept / "manifest.json")
        files.check_entries(kept, manifest["files"])
    except StudyError:
        return False
    return made == asked | {"manifest": manifest}


def _make(
    backbone: Backbone,
    output: Path,
    tables: list[Path],
    exclude: list[tuple[str, str, str]],
    base: list[Path],
    checkpoint: Path | None,
) -> dict[str, Any]:
    from peftstudy import backbones, ends

    with files.whole_folder(output) as folder:
        if backbone.pretrain:
            extra = _pretrain(backbone, folder, tables, exclude, checkpoint)
        elif backbone.random:
            backbones.randomise(base[0], folder, seed=0)
            extra = {"origin": f"the shape of {backbone.random}, random weights"}
        elif backbone.hub:
            from peftstudy import hub

            hub.fetch(backbone.hub, backbone.revision, "model", (), folder)
            if backbone.family:
                backbones.name_family(folder / "config.json", backbone.family)
            extra = {"origin": backbone.hub, "revision": backbone.revision}
        else:
            backbones.copy_folder(expand(f"backbones.{backbone.name}.folder", backbone.folder), folder, backbone.family)
            extra = {"origin": "a local folder"}
        if backbone.end is not None:
            ends.name_end(folder, backbone.end, f"backbones.{backbone.name}.end")
            extra["end"] = backbone.end
        shape = backbones.read_shape(folder)
        backbones.check_tokenizer(folder, shape)
        about = {"kind": backbone.kind, "family": shape.family, "asked": digest(backbone)}
        return backbones.write_manifest(folder, about | extra)


def _pretrain(
    backbone: Backbone, folder: Path, tables: list[Path], exclude: list[tuple[str, str, str]], checkpoint: Path | None
) -> dict[str, Any]:
    from peftstudy import corpora, devices, pretraining

    settings = backbone.pretrain
    columns = [column for _, column in settings.corpus]
    texts, left_out = corpora.read_corpus(tables, columns, [(Path(path), *rest) for path, *rest in exclude])
    trained = pretraining.pretrain(settings, texts, checkpoint, devices.process_device())
    trained.model.save_pretrained(folder)
    trained.tokenizer.save_pretrained(folder)
    about = trained.about | {"texts": len(texts), "texts_left_out": left_out}
    return {"origin": "pre-trained here", "pretraining": about}
