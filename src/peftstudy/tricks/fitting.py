"""Which tricks fit a model, its task and its devices."""

from collections.abc import Collection

from torch import nn

from peftstudy import devices, writing
from peftstudy.tricks import allocation, decoders, embedding_gradients, encoders, frozen_body, fused, products


def fitting(
    model: nn.Module,
    asked: Collection[str],
    extra_tokens: int = 0,
    plain_attention: bool = True,
    reads_first: bool = True,
) -> frozenset[str]:
    """Return those of the tricks asked for that can be used; what needs another is left out with it.

    model: adapted, on its device. extra_tokens, plain_attention, reads_first: see peftstudy.engine.Engine.
    """
    on_processor, is_alone = next(model.parameters()).device.type == "cpu", devices.count() == 1
    # A decoder's body is called by itself, which a prompt before it and several devices would not notice.
    decodes = is_alone and not extra_tokens and bool(decoders.attentions(model))
    # Attention is computed here as these families have it; what a method makes of it only the method knows.
    packs = "packed" in asked and plain_attention and (decodes or bool(encoders.attentions(model)))
    fits = {
        "packed": packs,
        # A packed batch has no padding to save; but a vocabulary's logits at many tokens are faster in small parts.
        "cut": not packs or (decodes and not reads_first),
        # A padded batch goes through the library's modules as they are, which know nothing of what is read.
        "read": packs,
        # It pays for one question a text. Llama turns keys by their positions, GPT-2 has them from a common matrix.
        "folded": packs and not decodes and reads_first and "read" in asked and encoders.can_fold(model),
        # An encoder's states of one token a text. A prompt may train, and shares of weights must be gathered first.
        "cached": packs and not decodes and reads_first and not extra_tokens and is_alone
        and frozen_body.repeats_itself(model),
        # The generator is the processor's: its masks would have to travel to another device.
        "dropout": on_processor,
        # Only models that write have a vocabulary to give logits to.
        "targets": writing.vocabulary_layer(model) is not None,
        # Each of several devices has its share of the weight, and of its gradient.
        "embeddings": is_alone and bool(embedding_gradients.worth_keeping(model)),
        # Its masks are drawn there as well. What is not asked for is not compiled.
        "fused": packs and on_processor and {"fused", "dropout"} <= set(asked) and fused.fits(model),
        # Elsewhere other libraries compute them, and know their processors.
        "products": on_processor and products.possible(),
        # It is advice to the allocator of the processor's memory, where that takes any.
        "memory": on_processor and allocation.possible(),
    }  # fmt: skip
    return frozenset(trick for trick in asked if fits[trick])
