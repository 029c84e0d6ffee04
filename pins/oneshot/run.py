"""A run of `pins oneshot`: calibrate, prune and save the blocks of a decoder, one by one."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pins import masks as mask_files
from pins.errors import ModelError, SettingError
from pins.models import smollm2
from pins.models.decoder import Decoder, State
from pins.models.digests import model_digest
from pins.models.parameters import views_of
from pins.oneshot.decision import decide_model, require_memory
from pins.oneshot.folder import Folder
from pins.oneshot.gram import Grams, linear_layers
from pins.oneshot.layer import Layer, Pruned
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.oneshot.methods.method import bounds, require_allowed
from pins.oneshot.methods.registry import method_named
from pins.oneshot.refit import refit
from pins.oneshot.row_bounds import RowBounds
from pins.oneshot.settings import Settings
from pins.oneshot.swaps import swapped
from pins.oneshot.text import drawn, plain_text, sliding
from pins.pruning.final_decision import FinalDecision
from pins.selection.tree import Node, View
from pins.tasks import load_task
from pins.tasks.language_modeling import perplexity
from pins.utils.devices import choose_device
from pins.utils.text_files import shown


class OneShot:
    """A run from the first block to the last one; started again, it goes on after the last block.

    A block reads what the pruned blocks before it give for the calibration windows; the layers of
    one block are pruned from what they read before any of them is. Beside one block, in memory are
    what is outside of the blocks, and the hidden states of all windows.

    run = OneShot(Settings(model="model", method="wanda"), Path("out"))
    for report in run.blocks():
        print(report)
    print(run.perplexity(run.losses()["sparse"]))
    """

    def __init__(self, settings: Settings, out: Path) -> None:
        """Open the model and the text.

        Raises:
            PinsError: a setting, the model or the text does not fit.
        """
        self.settings, self.method = settings, method_named(settings.method)
        device = choose_device(settings.device, "float32").device
        self.decoder = Decoder.open(settings.model, device)
        self._require_positions()
        self.method.require(settings.allocation(), settings.final_sparsity(), self._views(None))
        task = load_task(settings.task, settings.data)
        self.digests = task.digests
        tokenizer, length = self.decoder.tokenizer, settings.length
        self.calibration = drawn(
            plain_text(task, task.train), tokenizer, length, settings.calibration, settings.seed
        )
        self.test = sliding(
            plain_text(task, task.test),
            tokenizer,
            length,
            settings.stride or length,
            settings.test_windows,
        )
        self.inputs = {
            "model_sha256": model_digest(self.decoder.folder),
            "text_sha256": [self.calibration.text_sha256, self.test.text_sha256],
        }
        self.folder = Folder(out, self.decoder)
        self._decided: Mapping[str, Tensor] = {}
        if isinstance(self.method, GradientMethod) and self.folder.report(None) is None:
            require_memory(self.method, self.decoder.model, self._views(None), length, device)
        self.reports: list[dict[str, Any]] = []
        self._states: dict[str, list[State]] = {}

    @property
    def about(self) -> str:
        """What the model is, as cards say it."""
        return smollm2.ABOUT if self.settings.model == smollm2.NAME else self.settings.model

    @property
    def decides(self) -> bool:
        """Whether the method decides for all blocks, before the first."""
        return isinstance(self.method, GradientMethod)

    def decide(self, advance: Callable[[], Any] = lambda: None) -> None:
        """Decide for all blocks, if it is not done.

        Args:
            advance: called after each calibration window.
        """
        assert isinstance(self.method, GradientMethod), "others decide layer by layer"
        if self.folder.report(None) is None:
            decision = decide_model(
                self.method,
                self.settings.model,
                self.calibration.tokens,
                self._tree(None),
                rate=self.settings.learning_rate or 0.0,
                device=self.decoder.device,
                advance=advance,
            )
            self.folder.save_decision(decision)
        masks = mask_files.load(self.folder.block_file(None, "masks.safetensors"))
        self._decided = mask_files.PackedMasks(masks)

    def decision(self, number: int | None) -> FinalDecision | None:
        """The files of the masks of a block, or of all that were decided before (None), to certify.

        None if they are no optimum of scores, or swaps have changed them.
        """
        scores = self.folder.block_file(number, "scores.safetensors")
        if not scores.is_file() or self.settings.swaps:
            return None
        multiplier = (self.folder.report(number) or {}).get("multiplier") or None  # not 0
        costs = self.folder.block_file(number, "costs.safetensors")
        return FinalDecision(
            scores=scores,
            cost=costs if multiplier else None,
            multiplier=multiplier,
            masks=self.folder.block_file(number, "masks.safetensors"),
            certificate=self.folder.block_file(number, "certificate.json"),
            tree=self._tree(number),
            criterion=self.settings.method,
        )

    def _tree(self, number: int | None) -> Node:
        """The masks that the layers of a block, or of all (None), may have."""
        views, settings = self._views(number), self.settings
        return bounds(settings.allocation(), settings.final_sparsity(), views).tree(views)

    def _views(self, number: int | None) -> dict[str, View]:
        """Outputs and inputs of the layers of a block, or of all (None), by name of the weight."""
        names, model = self.decoder.names, self.decoder.model
        weights: dict[str, Any] = {
            f"{name}.{own}.weight": layer.weight
            for name in (names if number is None else names[number : number + 1])
            for own, layer in linear_layers(model.get_submodule(name)).items()
        }
        return views_of(model, weights)

    def _require_positions(self) -> None:
        config: Any = self.decoder.model.config
        most = getattr(config.get_text_config(), "max_position_embeddings", None)
        if most is not None and self.settings.length > most:
            raise SettingError(
                f"length is {self.settings.length}, and the model has positions for {most} tokens: "
                "give at most as many"
            )

    def blocks(self, *, dense: bool = True) -> Iterator[dict[str, Any]]:
        """Prune the blocks that are not done; the report of each block, done or not.

        Args:
            dense: pass both texts through the dense blocks too.
        """
        calibration, test = (
            [self.decoder.first(tokens.to(self.decoder.device)) for tokens in windows.tokens]
            for windows in (self.calibration, self.test)
        )
        states = {"calibration": calibration, "sparse": test}
        through_dense = {"dense calibration": calibration, "dense": test} if dense else {}
        states |= through_dense
        for number in range(len(self.decoder)):
            begin = time.monotonic()
            with self.decoder.loaded(number) as block:
                for name in through_dense:
                    states[name] = self._through(block, number, states[name])
                report = self.folder.report(number)
                if report is None:
                    report, masks, scores = self._prune(block, number, states["calibration"])
                    report["seconds"] = round(time.monotonic() - begin, 3)
                    self.folder.save(number, block, masks, scores, report)
                else:
                    self.folder.restore(number, block)
                for name in ("calibration", "sparse"):
                    states[name] = self._through(block, number, states[name])
            self.reports.append(report)
            yield report
        self._states = states

    def _through(self, block: nn.Module, number: int, states: list[State]) -> list[State]:
        return [self.decoder.through(block, number, state) for state in states]

    def _prune(
        self, block: nn.Module, number: int, states: list[State]
    ) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor] | None]:
        """Prune the layers of a block in place; what was done, the masks, and the scores."""
        layers = linear_layers(block)
        grams = Grams(layers)
        for state in states:
            with grams.watching():
                self.decoder.through(block, number, state)
        found: dict[str, Any] = {}
        masks: dict[str, Tensor] = {}
        scores: dict[str, Tensor] = {}
        for name, module in layers.items():
            full = f"{self.decoder.names[number]}.{name}.weight"
            turned = not isinstance(module, nn.Linear)  # GPT-2's Conv1D stores (inputs, outputs)
            stored: nn.Parameter = module.weight  # type: ignore[assignment]
            weight = (stored.detach().T if turned else stored.detach()).clone().contiguous()
            mask = self._decided.get(full)
            decided = mask.T.contiguous() if turned and mask is not None else mask
            layer = Layer(full, weight, grams.of(name), grams.vectors(name), decided)
            pruned = self._pruned(layer)
            kept = pruned.weight.to(self.decoder.dtype(full)).float()  # as the files will have it
            stored.copy_(kept.T if turned else kept)
            masks[full] = pruned.mask.T.contiguous() if turned else pruned.mask
            if pruned.scores is not None:
                scores[full] = pruned.scores.T.contiguous() if turned else pruned.scores
            error = layer.error(kept)
            found[full] = {
                "kept": int(pruned.mask.count_nonzero()),
                "total": pruned.mask.numel(),
                "vectors": layer.vectors,
                "error": error,
                "relative_error": layer.relative(error),
            }
        about = {"block": self.decoder.names[number], "rounding": grams.rounding, "layers": found}
        return about, masks, scores or None

    def _pruned(self, layer: Layer) -> Pruned:
        """A layer by the method, then by what improves its mask and its weights."""
        settings, sparsity = self.settings, self.settings.final_sparsity()
        allocation = settings.allocation()
        if not bool(layer.weight.isfinite().all()):
            raise ModelError(f"{shown(layer.name)} holds NaN or infinity: the model is damaged")
        pruned = self.method.prune(layer, allocation, sparsity)
        if settings.swaps:
            bounds = RowBounds.of(allocation, sparsity, layer.weight.shape[1])
            mask, number = swapped(layer, pruned.mask, bounds)
            report = {**pruned.report, "swaps": number}
            pruned = Pruned(refit(layer, mask), mask, report=report)
        elif settings.refit:
            pruned = replace(pruned, weight=refit(layer, pruned.mask))
        require_allowed(layer, pruned.mask, allocation, sparsity)
        return pruned

    def calibration_losses(self) -> dict[str, float]:
        """The mean of −log p over the predicted calibration tokens, dense and sparse."""
        found = {}
        for name, key in (("dense", "dense calibration"), ("sparse", "calibration")):
            losses = [self.decoder.losses(state).double().mean() for state in self._states[key]]
            found[name] = float(torch.stack(losses).mean())
        return found

    def losses(self) -> dict[str, list[float]]:
        """Of each test window the mean −log p of its scored tokens, dense and sparse."""
        return {
            name: [
                float(self.decoder.losses(state)[known - 1 :].double().mean())
                for state, known in zip(states, self.test.known, strict=True)
            ]
            for name, states in self._states.items()
            if name in ("dense", "sparse")
        }

    def perplexity(self, losses: Sequence[float]) -> float:
        """exp of the mean −log p over all scored tokens, from the means of the windows."""
        numbers = [
            window.shape[1] - known
            for window, known in zip(self.test.tokens, self.test.known, strict=True)
        ]
        total = sum(n * loss for n, loss in zip(numbers, losses, strict=True))
        return perplexity(total / self.test.scored)
