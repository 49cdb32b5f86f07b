"""A refiner as drawing knows it: one finer code at a time, with a cache."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalOperand=false, reportOptionalMemberAccess=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import ops

from igpt_tf.sampling.columns import cache_of, lay_out_block
from igpt_tf.sampling.keras_network import TransformerNetwork
from igpt_tf.sampling.network import Cache, Weights

if TYPE_CHECKING:
    from igpt_tf.latent.refiner import Refiner


class RefinerNetwork(TransformerNetwork):
    """A `Refiner` on one of its devices, as a `Network`; an image's start are its coarser codes (S,).

    Behind the past keys and values of each block are those of the coarser codes; behind the past of all blocks is what
    finer positions read of the coarser codes that cover them, (B, S, D).

    Args:
        model: the model.
        number: of the device, from 0.

    Raises:
        UserError: if the model is split between its devices.
    """

    def __init__(self, model: Refiner, number: int = 0) -> None:
        super().__init__(model, number, model.decoder, (model.config.height, model.config.width))

    def step(
        self, weights: Weights, previous: Any, position: Any, past: list[Cache], recent: list[Cache]
    ) -> tuple[Any, list[Cache]]:
        """The logits of a position given the token before it."""
        # Before the first position there is none, and what is looked up for it is not used.
        token = ops.take(weights["wte"], ops.minimum(previous, self.n_vocab - 1), axis=0)
        x = ops.where(position > 0, token, weights["sos"]) + ops.take(weights["wpe"], position, axis=0)
        (cells,) = past[-1]
        x = x + ops.take(cells, ops.take(self.model.cell_of, position), axis=1)
        return self._step_blocks(weights, x, position, past, recent)

    def _lay_out(self) -> Weights:
        model = self.model
        dtype = model.compute_dtype
        return {
            "wte": model.fine.table(),
            "wpe": model.fine.positions(),
            "sos": ops.cast(model.sos, dtype),
            "blocks": [lay_out_block(block, dtype) for block in self.blocks],
            "wtet": ops.cast(ops.convert_to_tensor(model.wtet) * model.ln_f.scale, dtype),
        }

    def _prefill(self, prefix: Any, start: Any) -> tuple[list[Cache], list[Cache]]:
        """The coarser codes and known rows (B, P) in one pass."""
        n_images, n_prefix = prefix.shape
        cells, context = self.model.encode(start)
        caches = None
        if n_prefix:
            x, caches = self.model.embed(prefix, cells), []
            for block in self.blocks:
                x, cache = block.prefill(x, context)
                caches.append(cache)
        past, recent = self._split(caches, n_images)
        crossing = [cache_of(*block.cross_attn.keys_values(context)) for block in self.blocks]
        return [*(own + other for own, other in zip(past, crossing, strict=True)), (cells,)], [*recent, ()]
