"""An audit from files to files: tensor by tensor, each kept when it is done.

OUT/
├── audit.json                          the result, written last
├── certificates/000.magnitude.json …   the proofs, with their files
├── certificates/global.magnitude.json  that of all matrices together, if they are an optimum
├── layers/000.json …                   what is done, from which an interrupted audit goes on
└── layers/start.json                   the files that it belongs to
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pins
from pins.errors import FileError, ModelError
from pins.models.stored_model import CONFIG, StoredModel
from pins.utils.folder_lock import LOCK
from pins.utils.io import read_state, sha256, write_json, write_state
from pins.utils.text_files import read_object
from verification.audit.claims import RUN, Facts, Stated, claims_of
from verification.audit.criteria import MAGNITUDE
from verification.audit.layer import LayerAudit, audit_layer
from verification.audit.matching import Matching, Pair, match
from verification.audit.sentences import about_names, sentences
from verification.audit.whole_model import GLOBAL, judge_model

FORMAT, LAYER, VERSION = "pins-audit", "pins-audit-layer", 1
AUDIT, LAYERS, CERTIFICATES, START = "audit.json", "layers", "certificates", "start.json"
LEAST_COVERAGE = 0.9


class Audit:
    """An audit of a sparse model beside its dense one.

    audit = Audit("model", "pruned", Path("report"))
    for tensor in audit.tensors():
        print(tensor["tensor"], tensor["kept"])
    document = audit.finish()
    """

    def __init__(self, dense: str, sparse: str, out: Path) -> None:
        """Open and match the models, and take the folder.

        Raises:
            FileError: a model cannot be read, or the folder holds something else.
            ModelError: there is no such model, or too few of the weights have a partner.
        """
        self.out = out
        self.dense, self.sparse = StoredModel.open(dense), StoredModel.open(sparse)
        self.claims: list[Stated] = claims_of(self.sparse)
        self.matching: Matching = match(self.dense, self.sparse)
        self._require_coverage()
        self._facts: list[Facts] = []
        self._found: list[dict[str, Any]] = []
        self._inputs = {"dense": _files(self.dense), "sparse": _files(self.sparse)}
        self._start()

    def __len__(self) -> int:
        """The number of tensors."""
        return len(self.matching.pairs)

    def tensors(self) -> Iterator[dict[str, Any]]:
        """Audit the tensors, in order; what an earlier audit of the same files did is read.

        Yields:
            The entry of audit.json.

        Raises:
            FileError: a tensor is damaged, or holds NaN.
            CheckpointError: what an earlier audit wrote is torn.
        """
        for number, pair in enumerate(self.matching.pairs):
            file = self.out / LAYERS / f"{number:03}.json"
            done = self._done(file) if file.is_file() else self._new(number, pair, file)
            self._found.append(done.document)
            self._facts.append(done.facts)
            yield done.document

    def finish(self) -> dict[str, Any]:
        """Judge all matrices together, rule on the claims, and write audit.json."""
        matrices = [each for each in self._found if "pattern" in each]
        document = {
            "format": FORMAT,
            "version": VERSION,
            "pins": pins.__version__,
            **self._inputs,
            "coverage": self.matching.coverage,
            "unmatched": {
                "dense": [*self.matching.only_dense],
                "sparse": [*self.matching.only_sparse],
                "shapes": [pair.name for pair in self.matching.misfits],
            },
            "sentences": sentences(self.matching, self._found),
            "layers": matrices,
            "vectors": [each for each in self._found if "pattern" not in each],
            "criteria": self._of_model(matrices),
            "claims": [claim.rule(self._facts) for claim in self.claims],
        }
        write_json(document, self.out / AUDIT)
        return document

    def _require_coverage(self) -> None:
        if self.matching.coverage >= LEAST_COVERAGE:
            return
        lone = [*self.matching.only_sparse, *self.matching.only_dense]
        names = [*(pair.name for pair in self.matching.misfits), *lone]
        why = "; ".join(about_names(self.matching)[:1])
        raise ModelError(
            f"only {self.matching.coverage:.1%} of the weights have a partner in the other model, "
            f"{100 * LEAST_COVERAGE:g} % are needed ({why or f'none has {names[0]}, …'}): give the "
            "dense model that the sparse one was made of"
        )

    def _start(self) -> None:
        """Take the folder, or go on in it."""
        begun = self.out / LAYERS / START
        own = {"format": FORMAT, "version": VERSION, "pins": pins.__version__, **self._inputs}
        if begun.is_file():
            if read_object(begun) != own:
                raise FileError(f"{self.out} holds an audit of other files: give another folder")
            return
        if self.out.is_dir() and any(each.name != LOCK for each in self.out.iterdir()):
            raise FileError(f"{self.out} is not an empty folder: give another one")
        write_json(own, begun)

    def _new(self, number: int, pair: Pair, file: Path) -> LayerAudit:
        place = self.out / CERTIFICATES / f"{number:03}"
        _remove(place)
        done = audit_layer(pair, self.claims, self.sparse.config, place)
        stored = {"document": done.document, "facts": asdict(done.facts)}
        write_state({"format": LAYER, "version": VERSION, **stored}, file)
        return done

    def _done(self, file: Path) -> LayerAudit:
        stored = read_state(file, LAYER, VERSION)
        facts = stored["facts"]
        most = {int(m): number for m, number in facts.pop("most").items()}
        return LayerAudit(stored["document"], Facts(**facts, most=most))

    def _of_model(self, matrices: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Whether the masks are an optimum of all matrices, if no pattern says that they are not.

        With a pattern, the same number in each of its rows or groups is kept.
        """
        pruned = {each["tensor"]: each for each in matrices if each["pruned"]}
        free = all(each["pattern"]["kind"] == "unstructured" for each in pruned.values())
        alone = all(each["criteria"] for each in pruned.values())
        if len(pruned) < 2 or not (free and alone):
            return []
        place = self.out / CERTIFICATES / GLOBAL
        _remove(place)
        pairs = [pair for pair in self.matching.pairs if pair.name in pruned]
        judged = judge_model(pairs, place.with_name(f"{GLOBAL}.{MAGNITUDE}.json"))
        return [judged.as_json(self.out)]


def _remove(place: Path) -> None:
    """Remove the certificates of an audit that was stopped here."""
    for file in place.parent.glob(f"{place.name}.*"):
        file.unlink()


def _files(model: StoredModel) -> dict[str, Any]:
    """The files that an audit depends on, with their digests."""
    claims = [model.place / name for name in (CONFIG, RUN)]
    read = [*model.files, *(file for file in claims if file.is_file())]
    return {"place": str(model.place), "files": {file.name: sha256(file) for file in read}}
