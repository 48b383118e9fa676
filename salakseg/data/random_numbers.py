"""Random draws that are pure functions of what they are for: (seed, purpose, number).

Nothing here has a state, so nothing has to be saved or kept in step: draws do not depend on
workers, batch size or where a run was resumed.
"""

import zlib

import numpy as np
from numpy.typing import NDArray


def draw_bits(seed: int, purpose: str, number: int, count: int) -> NDArray[np.uint64]:
    """`count` random 64-bit integers, by the counter-based generator Philox-4x64-10.

    Args:
        seed: of the run.
        purpose: what they are for, as "labeled order"; other purposes give independent draws.
        number: which of the purpose's draws: an epoch, or a position in a stream.
    """
    key = np.array([seed % 2**64, zlib.crc32(purpose.encode())], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, number], np.uint64)).random_raw(
        count
    )


def draw_uniform(
    seed: int, purpose: str, numbers: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """float32 (len(numbers), count), uniform in [0, 1): one row of draws a number."""
    bits = np.stack([draw_bits(seed, purpose, int(number), count) for number in numbers])
    return ((bits >> np.uint64(40)) * 2.0**-24).astype(np.float32)
