"""The forms in which trained weights are handed on: each written by its library, and read back by the card's lines.

Lines are Python that stands in the card and makes `model`, in evaluation mode, from the folder it is run in.
"""

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from peftstudy import backbones, methods, tasks
from peftstudy.errors import StudyError
from peftstudy.files import read_json, write_json
from peftstudy.hub import MODEL_FILES
from peftstudy.methods.adapterfusion import AdapterFusion
from peftstudy.publication.trained import BACKBONE, Trained
from peftstudy.specs import freeze

TRAINED = "trained.safetensors"
RECIPE = "peftstudy.json"
PEFT_TASKS = {
    "AutoModelForSequenceClassification": "SEQ_CLS", "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForCausalLM": "CAUSAL_LM", "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
}  # fmt: skip
"""transformers' Auto class -> PEFT's task type. With that of question answering its model keeps from the backbone which
tokens are the question's (0.21.2, PeftModelForQuestionAnswering.forward); without one it does not."""


class Format(ABC):
    """A form of a library's own."""

    library: ClassVar[str]
    needs_backbone: ClassVar[bool] = True
    """Whether the backbone's weights must be had apart."""

    @abstractmethod
    def fits(self, trained: Trained) -> bool:
        """Return whether trained weights can have this form."""

    @abstractmethod
    def write(self, trained: Trained, folder: Path) -> None:
        """Write the weights, with the head, into a folder that is there."""

    @abstractmethod
    def lines(self, trained: Trained) -> list[str]:
        """Return the lines that read them back."""


class Whole(Format):
    """A transformers model: where everything is trained, that is what there is to hand on."""

    library = "transformers"
    needs_backbone = False

    def fits(self, trained):
        return _shapes(dict(trained.fresh.named_parameters())) == _shapes(trained.weights)

    def write(self, trained, folder):
        trained.adapted().model.save_pretrained(folder)

    def lines(self, trained):
        return [f"from transformers import {trained.auto_class}", "", trained.line(".")]


class Peft(Format):
    """What PeftModel.from_pretrained reads."""

    library = "peft"

    def fits(self, trained):
        # Its matrices are linear layers here, and PEFT would meet transposed ones.
        return trained.method.library == self.library and trained.shape.family != "gpt2"

    def write(self, trained, folder):
        import peft

        loaded = trained.loaded()
        names = head_modules(loaded)
        backbones.seed_torch(trained.seed, "method")
        config = trained.method.config(loaded.model, trained.shape)
        config.modules_to_save, config.task_type = names or None, PEFT_TASKS.get(trained.auto_class)
        model = peft.get_peft_model(loaded.model, config)
        config.base_model_name_or_path, config.revision = trained.repository or BACKBONE, trained.revision
        places = model.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, tensor in trained.weights.items():
                places[_in_peft(name, names)].copy_(tensor)
        model.save_pretrained(folder, save_embedding_layers=False)

    def lines(self, trained):
        return [
            "from peft import PeftModel", f"from transformers import {trained.auto_class}", "", trained.base_line(),
            'model = PeftModel.from_pretrained(model, ".")',
        ]  # fmt: skip


class Adapters(Format):
    """What load_adapter reads, and the head beside it: the library's own form of heads leaves BERT's pooler out."""

    library = "adapters"

    def fits(self, trained):
        # The library gives layers without biases some, drawn at random; readers would have other ones.
        return trained.method.library == self.library and trained.shape.biased

    def write(self, trained, folder):
        found = trained.adapted()
        self.write_parts(trained, found.model, folder)
        save_file({name: trained.weights[name] for name in sorted(found.head_names)}, folder / "head.safetensors")

    def write_parts(self, trained: Trained, model: Any, folder: Path) -> None:
        """Write what the library has added to the model."""
        _write_adapter(trained, model, trained.method.name, folder)

    def lines(self, trained):
        return [
            "import adapters", "from safetensors.torch import load_file",
            f"from transformers import {trained.auto_class}", "", trained.base_line(), "adapters.init(model)",
            *self.part_lines(trained), 'model.load_state_dict(load_file("head.safetensors"), strict=False)',
            "model.eval()",
        ]  # fmt: skip

    def part_lines(self, trained: Trained) -> list[str]:
        """Return the lines that read that back."""
        return [
            "# It warns that no adapter is active, and then activates this one.",
            'model.load_adapter(".", set_active=True, with_head=False, use_safetensors=True)',
        ]


class Fusion(Adapters):
    """What load_adapter and load_adapter_fusion read: the modules of other runs, and the attention over them."""

    def fits(self, trained):
        return isinstance(trained.method, AdapterFusion) and super().fits(trained)

    def write_parts(self, trained, model, folder):
        from adapters.loading import AdapterFusionLoader

        [fusion] = model.adapters_config.fusions
        names = list(trained.method.modules)
        for name in names:
            (folder / name).mkdir()
            _write_adapter(trained, model, name, folder / name)
        weights, config = AdapterFusionLoader(model).save_to_state_dict(fusion)
        config |= {"model_name": trained.repository, "adapter_names": names}
        write_json(folder / "adapter_fusion_config.json", config)
        save_file(weights, folder / "model_adapter_fusion.safetensors")

    def part_lines(self, trained):
        return [
            f"for name in {list(trained.method.modules)}:",
            '    model.load_adapter(f"./{name}", with_head=False, use_safetensors=True)',
            'model.load_adapter_fusion(".", set_active=True, use_safetensors=True)',
        ]


def _write_adapter(trained: Trained, model: Any, name: str, folder: Path) -> None:
    from adapters.loading import AdapterLoader

    weights, config = AdapterLoader(model).save_to_state_dict(name)
    write_json(folder / "adapter_config.json", config | {"model_name": trained.repository})
    # What layers share is stored once: its own writer refuses to store it in this form.
    once = {tensor.data_ptr(): key for key, tensor in reversed(weights.items())}
    save_file({key: weights[key].contiguous() for key in once.values()}, folder / "adapter.safetensors")


class Tensors(Format):
    """Those of the backbone's own parameters that were trained."""

    library = "transformers"

    def fits(self, trained):
        fresh, adapted = trained.fresh, trained.adapted().model
        return type(fresh) is type(adapted) and _shapes(fresh.state_dict()) == _shapes(adapted.state_dict())

    def write(self, trained, folder):
        save_file(dict(trained.weights), folder / TRAINED)

    def lines(self, trained):
        return [
            "from safetensors.torch import load_file", f"from transformers import {trained.auto_class}", "",
            trained.base_line(), f'model.load_state_dict(load_file("{TRAINED}"), strict=False)',
        ]  # fmt: skip


class Own(Format):
    """Tensors of a method that no library reads, and what this package needs to make its model again."""

    library = "peftstudy"

    def fits(self, trained):
        return True

    def write(self, trained, folder):
        save_file(dict(trained.weights), folder / TRAINED)
        recipe = {
            **_method(trained.method, folder), "family": trained.shape.family, "task": trained.task.name,
            "labels": trained.labels, "seed": trained.seed, "repository": trained.repository,
            "revision": trained.revision,
        }  # fmt: skip
        for origin in trained.method.origins:
            recipe.setdefault("origins", []).append({"dataset": origin.dataset, **_method(origin.method, folder)})
            save_file(dict(origin.trained), folder / f"{origin.dataset}.safetensors")
        write_json(folder / RECIPE, recipe)

    def lines(self, trained):
        own = methods.file_of(type(trained.method))
        runs = [f"# The method is a file in this folder, {own.name}, which this runs."] if own else []
        return ["from peftstudy.publication import formats", "", *runs, 'model = formats.load(".")']


FORMATS: tuple[Format, ...] = (Peft(), Fusion(), Adapters(), Whole(), Tensors(), Own())
"""The first that fits is taken; those come first that need no model to tell."""


def _method(method: methods.Method, folder: Path) -> dict[str, Any]:
    """Return what makes a method again; one in a file of your own goes into the folder."""
    options = {name: getattr(method, name) for name in type(method).options()}
    parts = [part if isinstance(part, str) else part[0] for part in options.get("parts", ())]
    if any(part.endswith(".py") for part in parts):
        raise StudyError(f"{method.name}: has a part in a file of your own, which cannot be published.")
    if own := methods.file_of(type(method)):
        shutil.copyfile(own, folder / own.name)
    return {"method": own.name if own else method.name, "options": options}


def _made(recipe: Mapping[str, Any], folder: Path) -> methods.Method:
    name = recipe["method"]
    options = {key: freeze(value) for key, value in recipe["options"].items()}
    return methods.create(str(folder / name) if name.endswith(".py") else name, options)


def of(trained: Trained) -> Format:
    return next(found for found in FORMATS if found.fits(trained))


def load(folder: Path | str) -> Any:
    """Return the model that Own has written."""
    from safetensors.torch import load_file

    folder, recipe = Path(folder), read_json(Path(folder) / RECIPE)
    task = tasks.create(recipe["task"])
    method = _made(recipe, folder).given(
        methods.Origin(asked["dataset"], _made(asked, folder), load_file(folder / f"{asked['dataset']}.safetensors"))
        for asked in recipe.get("origins", ())
    )
    weights = load_file(folder / TRAINED)
    with _backbone(folder, recipe) as backbone:
        shape = backbones.shape_for(backbone, task)
        trained = Trained(method, task, backbone, shape, recipe["seed"], tuple(recipe["labels"]), weights)
        return trained.adapted().model


@contextmanager
def _backbone(folder: Path, recipe: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the folder of a backbone: the one within, or what the hub has, with its family where that does not say."""
    if not recipe["repository"]:
        yield folder / BACKBONE
        return
    from huggingface_hub import snapshot_download

    fetched = Path(snapshot_download(recipe["repository"], revision=recipe["revision"], allow_patterns=MODEL_FILES))
    if "model_type" in read_json(fetched / "config.json"):
        yield fetched
        return
    with tempfile.TemporaryDirectory() as place:
        backbones.copy_folder(fetched, Path(place) / BACKBONE, recipe["family"])
        yield Path(place) / BACKBONE


def run(lines: Iterable[str], folder: Path) -> Any:
    """Return the model that a card's lines make, when they are run in its folder."""
    made: dict[str, Any] = {}
    with chdir(folder), backbones.quiet():
        exec("\n".join(lines), made)
    return made["model"]


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return tensors' shapes by name: GPT-2's matrices may have been turned."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def head_modules(loaded: backbones.Loaded) -> list[str]:
    """Return the largest modules that hold parameters of the head and no others."""
    modules = dict(loaded.model.named_modules())
    found: dict[str, None] = {}
    for name in sorted(loaded.head):
        path = name.rpartition(".")[0]
        while (above := path.rpartition(".")[0]) and _is_of(modules[above], above, loaded.head):
            path = above
        found[path] = None
    return list(found)


def _is_of(module: Any, path: str, head: frozenset[str]) -> bool:
    return all(f"{path}.{name}" in head for name, _ in module.named_parameters())


def _in_peft(name: str, saved: Iterable[str]) -> str:
    """Return what PEFT calls a parameter, those of modules that it stores whole among them."""
    for path in saved:
        if name.startswith(f"{path}."):
            return f"base_model.model.{path}.modules_to_save.default.{name.removeprefix(f'{path}.')}"
    return f"base_model.model.{name}"
