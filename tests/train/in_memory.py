"""Photos that are no files, for streams of crops."""

import numpy as np


class PhotosInMemory:
    """Decoded photos, uint8 (H, W, 3) each."""

    decoders = 1

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self.pictures = pictures
        self.areas = self.odds = np.array([p.shape[0] * p.shape[1] for p in pictures], np.int64)

    def __len__(self) -> int:
        return len(self.pictures)

    def pixels(self, index: int) -> np.ndarray:
        return self.pictures[index]

    def is_photo(self, index: int) -> bool:
        return True

    def forget(self) -> None:
        raise NotImplementedError
