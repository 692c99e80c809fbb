"""What each compression loses, and what it weighs."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core.errors import UserError
from federated.transport.compression import decode, encode

SIZE = 5000


def vectors() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    known = random.normal(size=SIZE).astype(np.float32)
    return known, known + random.normal(0, 0.01, SIZE).astype(np.float32)


def stream(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_nothing_is_lost_without_compression() -> None:
    known, target = vectors()
    arrays, _ = encode("none", target, known, random=stream())
    assert np.array_equal(decode(arrays, known), target)


@pytest.mark.parametrize(("kind", "share", "error"), [("float16", 0.5, 2e-5), ("int8", 0.252, 4e-4)])
def test_size_and_error(kind: str, share: float, error: float) -> None:
    known, target = vectors()
    arrays, lost = encode(kind, target, known, random=stream())
    assert sum(a.nbytes for a in arrays.values()) <= share * target.nbytes
    assert np.abs(decode(arrays, known) - target).max() < error
    np.testing.assert_allclose(decode(arrays, known) + lost, target, atol=1e-7)


def test_stochastic_rounding_has_no_direction() -> None:
    known, target = vectors()
    mean = np.mean([decode(encode("int8", target, known, random=stream(s))[0], known) for s in range(300)], axis=0)
    step = np.abs(target - known).max() / 127
    assert abs(float((mean - target).mean())) < 0.002 * step
    assert np.abs(mean - target).max() < 0.2 * step


def test_a_block_without_change_stays() -> None:
    known = np.ones(SIZE, np.float32)
    arrays, lost = encode("int8", known.copy(), known, random=stream())
    assert np.array_equal(decode(arrays, known), known)
    assert not lost.any()


def test_top_k_sends_what_moved_most_and_remembers_the_rest() -> None:
    known = np.zeros(5, np.float32)
    target = np.array([0.1, -3.0, 0.2, 2.0, 0.0], np.float32)
    arrays, lost = encode("topk", target, known, ratio=0.4, random=stream())
    assert arrays["positions"].tolist() == [1, 3]
    assert decode(arrays, known).tolist() == [0, -3, 0, 2, 0]
    np.testing.assert_array_equal(lost, np.array([0.1, 0, 0.2, 0, 0], np.float32))


def test_error_feedback_delivers_everything_in_the_end() -> None:
    wanted = np.arange(1, 11, dtype=np.float32)
    received, residual = np.zeros(10, np.float32), wanted  # the first round's change; the later ones change nothing
    for _ in range(10):
        arrays, residual = encode("topk", received + residual, received, ratio=0.1, random=stream())
        received = decode(arrays, received)
    np.testing.assert_array_equal(received, wanted)


def test_all_of_top_k_has_the_exact_bits() -> None:
    known, target = vectors()
    arrays, lost = encode("topk", target, known, ratio=1.0, random=stream())
    assert np.array_equal(decode(arrays, known), target)
    assert not lost.any()


def test_unknown_encodings_are_refused() -> None:
    known, target = vectors()
    with pytest.raises(UserError, match="no compression is called 'zip'"):
        encode("zip", target, known, random=stream())
    with pytest.raises(ValueError, match="no known encoding"):
        decode({"odd": target}, known)
