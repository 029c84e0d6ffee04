"""The folder of a one-shot run: block by block, each file complete when it has its name.

OUT/
├── model-00001-of-000NN.safetensors …  a file for each block, the last for the rest
├── model.safetensors.index.json        which makes them a model; written when all are there
├── config.json, tokenizer …            copies
├── blocks/00.errors.json …             what the layers of a block lose at each level
├── error-table.json                    the same of all blocks
├── budget.json                         the level of each layer, with a budget
├── budget.certificate.json             the proof that no choice loses less
├── blocks/00.json …                    what was done to a block, written after its files
├── blocks/00.masks.safetensors         one bit a weight
├── blocks/00.scores.safetensors        of methods that rank scores
├── blocks/00.certificate.json          the proof of the block's masks
├── blocks/all.json …                   the same of a decision over all blocks, before the first
├── blocks/all.costs.safetensors        of a trust region, beside its scores
├── masks.safetensors                   those of all blocks
├── README.md                           the model card
├── run.json                            settings and results; written last
└── .pins.lock                          while a process writes here
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pins import masks as mask_files
from pins.errors import FileError
from pins.models import sparse_bitmask
from pins.models.decoder import Decoder
from pins.models.digests import other_files
from pins.models.sparse_format import pack
from pins.models.weight_files import write_index
from pins.oneshot.decision import ModelDecision
from pins.selection.budget import Budget, Choice, ErrorTable, best_choice
from pins.selection.budget.document import CHOICE, document
from pins.utils.folder_lock import LOCK
from pins.utils.io import atomic, require_utf8, save_tensors, write_json
from pins.utils.text_files import read_object, shown

RUN, CARD, MASKS, BLOCKS = "run.json", "README.md", "masks.safetensors", "blocks"
TABLE, CHOICE_CERTIFICATE = "error-table.json", "budget.certificate.json"
START = "start.json"  # the settings that the blocks belong to
SCORES = {"format": "pins-scores", "version": "1"}

CertifyChoice = Callable[[Choice, Path], Any]


class Folder:
    """Reads and writes the files of a run."""

    def __init__(self, out: Path, decoder: Decoder, *, packed: bool = False) -> None:
        self.out, self.decoder, self.packed = out, decoder, packed
        self._files = len(decoder) + 1

    def begin(self, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Take a new or empty folder, or with `resume` that of a run with the same settings.

        Raises:
            FileError: it holds other files, or a run with other settings.
        """
        require_utf8(self.out)
        start = self.out / BLOCKS / START
        found = [each.name for each in self.out.iterdir()] if self.out.is_dir() else []
        found = [name for name in found if name != LOCK]
        if found == [BLOCKS] and not any((self.out / BLOCKS).glob("[!.]*")):
            found = []  # of a process that was killed before it wrote the settings
        if start.is_file():
            if not resume:
                raise FileError(
                    f"{self.out} holds a run that can go on with --resume: give another folder"
                )
            require_same(self.out, read_object(start), settings)
            return
        if found:
            raise FileError(f"{self.out} holds files ({min(found)} …): give another folder")
        (self.out / BLOCKS).mkdir(parents=True, exist_ok=True)
        write_json(dict(settings), start)

    def report(self, number: int | None) -> dict[str, Any] | None:
        """What was done to a block, or decided for all of them (None); None if it is not done."""
        file = self.block_file(number, "json")
        return read_object(file) if file.is_file() else None

    def block_file(self, number: int | None, what: str) -> Path:
        """A file of a block, or of the decision over all of them (None)."""
        return self.out / BLOCKS / f"{'all' if number is None else f'{number:02d}'}.{what}"

    def shard(self, number: int) -> Path:
        """The file with the tensors of a block, or of the rest."""
        return self.out / f"model-{number + 1:05d}-of-{self._files:05d}.safetensors"

    def save(
        self,
        number: int,
        block: nn.Module,
        masks: Mapping[str, Tensor],
        scores: Mapping[str, Tensor] | None,
        report: Mapping[str, Any],
    ) -> None:
        """Write a pruned block: its tensors as the files had them, the pruned ones replaced."""
        tensors, decoder = {}, self.decoder
        for own, tensor in block.state_dict().items():
            name = f"{decoder.names[number]}.{own}"
            stored = decoder.as_stored(name, tensor, changed=name in masks)
            tensors[decoder.stored_name(name)] = stored
        if self.packed:
            named = {decoder.stored_name(name): mask for name, mask in masks.items()}
            tensors = pack(tensors, named)
        save_tensors(tensors, self.shard(number), {"format": "pt"})
        mask_files.save(masks, self.block_file(number, "masks.safetensors"))
        if scores is not None:
            save_tensors(scores, self.block_file(number, "scores.safetensors"), SCORES)
        write_json(dict(report), self.block_file(number, "json"))

    def save_decision(self, decision: ModelDecision) -> None:
        """Write the decision over all blocks."""
        mask_files.save(decision.masks, self.block_file(None, "masks.safetensors"))
        save_tensors(decision.scores, self.block_file(None, "scores.safetensors"), SCORES)
        if decision.costs is not None:
            save_tensors(decision.costs, self.block_file(None, "costs.safetensors"), SCORES)
        write_json(dict(decision.report), self.block_file(None, "json"))

    def errors(self, number: int) -> list[dict[str, Any]] | None:
        """What the layers of a block lose at each level; None if it is not measured."""
        file = self.block_file(number, "errors.json")
        return read_object(file)["layers"] if file.is_file() else None

    def save_errors(self, number: int, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write what the layers of a block lose at each level."""
        write_json({"layers": [*entries]}, self.block_file(number, "errors.json"))

    def choice(self, asked: Budget, certify: CertifyChoice | None) -> dict[str, Any]:
        """budget.json, written after its certificate, if that is not done.

        Raises:
            SettingError: the budget is below the least possible.
        """
        file, table = self.out / CHOICE, self.out / TABLE
        if not file.is_file():
            best = best_choice(ErrorTable.read(table), asked)
            if certify is not None:
                certificate = self.out / CHOICE_CERTIFICATE
                certificate.unlink(missing_ok=True)  # of a run that was stopped here
                certify(best, certificate)
            write_json(document(best, asked, table), file)
        return read_object(file)

    def restore(self, number: int, block: nn.Module) -> None:
        """Give a block the weights that it was pruned to."""
        name = self.decoder.names[number]
        stored = sparse_bitmask.load(self.shard(number))
        for own, tensor in block.state_dict().items():
            tensor.copy_(stored[self.decoder.stored_name(f"{name}.{own}")])

    def finish(self) -> None:
        """Write the rest of the model, and what makes the files a model."""
        save_tensors(self.decoder.rest(), self.shard(len(self.decoder)), {"format": "pt"})
        masks: dict[str, Tensor] = {}
        for number in range(len(self.decoder)):
            masks |= mask_files.load(self.block_file(number, "masks.safetensors"))
        mask_files.save(masks, self.out / MASKS)
        for file in other_files(self.decoder.folder):
            with atomic(self.out / file.name) as temporary:
                shutil.copyfile(file, temporary)
        if self.packed:
            config = self.out / sparse_bitmask.CONFIG
            write_json(sparse_bitmask.described(read_object(config), masks), config)
        write_index([self.shard(number) for number in range(self._files)])


def require_same(out: Path, known: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Require that a run in a folder has the settings of the one asked for.

    Raises:
        FileError: names what differs.
    """
    for name, value in settings.items():
        if known.get(name) != value:
            raise FileError(
                f"{out} holds a run whose {name} is {shown(known.get(name))}, not {shown(value)}: "
                "give the same settings, or another folder"
            )
