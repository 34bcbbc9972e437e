"""Captioned pictures: each with a text that describes it, and with the text of another picture, which does not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from limner.core.condition import TENSORS
from limner.core.hashing import words
from limner.core.wordllama import AnyTokenizer
from limner.data.batches import generator_at
from limner.data.captions import Captions, captions_note, read_captions
from limner.data.dataset import Dataset, Subset, prepare_validation
from limner.data.sampler import Sampler

SIMILAR = 0.5  # share of the other texts that have a word in common with the picture's own: those are the hardest to distinguish
DRAWS = 8  # of another text, before the next one that differs is taken


class Captioned:
    """Pictures with one or several captions each, of which one is drawn every time; with the protocol
    `runs.experiment.TrainingSet`.

    A batch holds image, uint8 [count,C,H,W]; tokens, int64 [count,L], of one of the picture's captions; and
    other_tokens, of a caption of another picture that differs from all of this one's: in a fraction SIMILAR of the rows
    one that shares a word with it. With frozen vectors of words these are vector and other_vector, float32 [count,D]. All
    are a pure function of (seed, position).
    """

    def __init__(
        self,
        pictures: Dataset | Subset,
        captions: Captions,
        tokenizer: AnyTokenizer,
        whole: Dataset,
        notes: Sequence[str] = (),
        given: str | Path | None = None,
    ) -> None:
        """captions: of each picture, at least one. whole: the data set that the pictures are of. given: where the captions
        come from, as of `data.captions.read_captions`."""
        assert len(captions) == len(pictures) and all(captions), "every picture has a caption"
        self.pictures, self.captions, self.tokenizer, self.whole, self.given = pictures, captions, tokenizer, whole, given
        self.spec = replace(pictures.spec, condition=tokenizer.condition)
        self.names, self.duplicates = pictures.names, pictures.duplicates
        self.labels: Tensor | None = None
        self.classes: tuple[str, ...] = ()
        self.name, self.origin, self.attribution = pictures.name, pictures.origin, whole.attribution
        self.fit, self.background, self.bad = whole.fit, whole.background, whole.bad
        self.notes = [*whole.notes, *notes]
        digest = hashlib.sha256(whole.fingerprint.encode())
        for name, texts in zip(self.names, captions, strict=True):
            digest.update("\0".join([name, *texts, ""]).encode("utf-8", "replace"))
        self.fingerprint = digest.hexdigest()
        self._order = Sampler(len(pictures))
        self._index()

    def _index(self) -> None:
        """Number the different captions, as networks see them, and list those with each word."""
        numbers: dict[tuple[str, ...], int] = {}
        self.texts: list[str] = []  # the different captions
        self._of: list[np.ndarray] = []  # numbers of the captions of each picture
        for texts in self.captions:
            mine = []
            for text in texts:
                key = tuple(words(text)[: self.tokenizer.words])
                if key not in numbers:
                    numbers[key] = len(self.texts)
                    self.texts.append(text)
                mine.append(numbers[key])
            self._of.append(np.array(mine))
        with_word: dict[str, list[int]] = {}
        for number, key in enumerate(numbers):
            for word in dict.fromkeys(key):
                with_word.setdefault(word, []).append(number)
        self._with_word = {word: np.array(found) for word, found in with_word.items()}
        # of a few pictures that are held out, all may have one caption
        self.has_other = all(len(set(mine.tolist())) < len(self.texts) for mine in self._of)

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return pictures first ... first + count - 1 of the endless order of `seed`, with their captions; without the other
        where a picture has all captions of the set (`has_other`)."""
        rows = self._order.positions(first, count, seed)
        own, other = [], []
        for row, position in zip(rows.tolist(), range(first, first + count), strict=True):
            rng = generator_at(seed, position, "caption")
            mine = self._of[row]
            number = int(mine[rng.integers(len(mine))])
            own.append(self.texts[number])
            if self.has_other:
                other.append(self.texts[self._other(number, mine, rng)])
        name = TENSORS[self.spec.condition.kind]
        batch = {"image": self.pictures.rows(rows)["image"], name: self.tokenizer.encode(own)}
        return batch | ({f"other_{name}": self.tokenizer.encode(other)} if self.has_other else {})

    def _other(self, number: int, mine: np.ndarray, rng: np.random.Generator) -> int:
        """Return a caption that is none of `mine`; maybe one with a word of the caption `number`."""
        found = words(self.texts[number])[: self.tokenizer.words]
        pool = self._with_word[found[rng.integers(len(found))]] if rng.random() < SIMILAR else None
        for draw in range(DRAWS):
            drawn = int(
                rng.integers(len(self.texts)) if pool is None or draw >= DRAWS // 2 else pool[rng.integers(len(pool))]
            )
            if drawn not in mine:
                return drawn
        return next(
            n % len(self.texts) for n in range(drawn, drawn + len(self.texts)) if n % len(self.texts) not in mine
        )

    def some_texts(self, most: int) -> Tensor:
        """Return the first captions of at most `most` pictures, spread evenly over the set, as networks take them: [n,...]."""
        rows = np.linspace(0, len(self) - 1, min(most, len(self))).astype(int)
        return self.tokenizer.encode([self.captions[row][0] for row in rows])

    @property
    def images(self) -> Tensor:
        """The pictures as one array, uint8 [N,C,H,W]."""
        return self.pictures.images

    def subset(self, rows: np.ndarray) -> Captioned:
        """Return the pictures of rows int64 [n] with their captions, whose other captions are of the same pictures."""
        return Captioned(self.pictures.subset(rows), [self.captions[i] for i in rows], self.tokenizer, self.whole)

    def own_validation(self) -> Captioned | None:
        """Return the validation split that the data contains, with its captions from the same place; None if it contains
        none.

        Raises ValueError when its pictures have no captions.
        """
        source = self.whole.validation
        if source is None or isinstance(self.pictures, Subset) or (pictures := prepare_validation(self.whole)) is None:
            return None
        try:
            captions, _ = read_captions(source, pictures.names, self.given)
        except ValueError as error:
            raise ValueError(f"In the held-out split: {error}") from error
        kept = np.array([i for i, texts in enumerate(captions) if texts])
        return Captioned(pictures.subset(kept), [captions[i] for i in kept], self.tokenizer, pictures, given=self.given)


def with_captions(
    dataset: Dataset, captions: Captions, origin: str, tokenizer: AnyTokenizer, given: str | Path | None = None
) -> Captioned:
    """Return the pictures of a data set that have a caption. origin: of the captions, as a phrase. given: as of `Captioned`.

    Raises ValueError when fewer than two have one, when all have the same, and when a picture has all that there are.
    """
    kept = [i for i, texts in enumerate(captions) if texts]
    if len(kept) < 2:
        raise ValueError(
            f"Only {len(kept)} of {len(captions):,} pictures have a caption from {origin}: give captions to the others too."
        )
    missing = [i for i, texts in enumerate(captions) if not texts]
    bad = [*dataset.bad, *((dataset.names[i], f"no caption in {origin}") for i in missing)]
    notes = [captions_note([captions[i] for i in kept], origin)]
    if missing:
        notes.append(
            f"{len(missing):,} of {len(captions):,} pictures have no caption and are left out, such as {dataset.names[missing[0]]}."
        )
    long = sum(len(words(text)) > tokenizer.words for texts in captions for text in texts)
    if long:
        notes.append(
            f"{long:,} captions have more than {tokenizer.words} words, of which the first {tokenizer.words} are used."
        )
    pictures = dataset if not missing else dataset.copied(np.array(kept))
    if len({text for i in kept for text in captions[i]}) < 2:
        raise ValueError(
            f"All pictures have the same caption from {origin}: a text-to-image generator learns from different ones."
        )
    found = Captioned(pictures, [captions[i] for i in kept], tokenizer, replace(pictures, bad=bad), notes, given)
    if not found.has_other:
        raise ValueError(
            "A picture has all captions that there are, so that none is of another: give each picture its own captions."
        )
    return found
