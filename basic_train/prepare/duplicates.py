"""Near-duplicates by their difference hashes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

#: 256-bit hashes that differ in fewer bits than they have 16-bit words share a word, so that hashes which share
#: none need no comparison. (imagehash and others hash, but leave the search for pairs to compare all.)
WORD_DIGITS = 4
MAX_DISTANCE = 15


def near_duplicates(hashes: Mapping[str, str], order: Sequence[str], distance: int) -> dict[str, str]:
    """Which photo each superfluous photo is a copy of.

    hashes: 64 hexadecimal digits by name; order: all names, those to keep rather than others first. A photo
    is superfluous if it differs from one that is kept in at most `distance` bits, 0 .. MAX_DISTANCE.
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance={distance}: between 0 and {MAX_DISTANCE}")
    kept: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    numbers = {name: int(value, 16) for name, value in hashes.items()}
    copies: dict[str, str] = {}
    for name in order:
        words = list(enumerate(_words(hashes[name])))
        candidates = (other for word in words for other in kept[word])
        twin = next((o for o in candidates if (numbers[o] ^ numbers[name]).bit_count() <= distance), None)
        if twin is not None:
            copies[name] = twin
            continue
        for word in words:
            kept[word].append(name)
    return copies


def _words(value: str) -> list[str]:
    return [value[i : i + WORD_DIGITS] for i in range(0, len(value), WORD_DIGITS)]
