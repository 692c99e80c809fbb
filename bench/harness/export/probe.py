"""How long one image's answer takes, measured in a process of its own that loads ONNX Runtime and little else.

    python -m bench.harness.export.probe FILE.onnx --threads 1 --repeats 50

Prints one JSON document. What an image costs before the network is measured on a JPEG of 512 x 512 pixels in memory:
decoding and resizing by Pillow, and normalization by NumPy, as in docs/edge.md.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import time
from collections.abc import Callable
from typing import Any

SIDE = 512


def peak_mb() -> float:
    """The largest resident size of this process so far, MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def percentiles(step: Callable[[], object], repeats: int) -> dict[str, float]:
    """Milliseconds of a step, p50, p90 and p99, after a tenth as many unmeasured ones."""
    import numpy as np

    for _ in range(max(2, repeats // 10)):
        step()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        taken.append((time.perf_counter() - started) * 1e3)
    return {f"p{at}": round(float(np.percentile(taken, at)), 3) for at in (50, 90, 99)}


def jpeg() -> bytes:
    """A noisy picture."""
    import numpy as np
    from PIL import Image

    draws = np.random.default_rng(0).integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
    target = io.BytesIO()
    Image.fromarray(draws).resize((SIDE, SIDE)).save(target, "JPEG", quality=90)
    return target.getvalue()


def prepared(data: bytes, about: dict[str, Any]) -> Any:
    """A JPEG as the network's input [1, 3, H, W]."""
    import numpy as np
    from PIL import Image

    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((about["size"], about["size"]), 2)
    pixels = (np.asarray(picture, np.float32) / 255 - np.float32(about["mean"])) / np.float32(about["std"])
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def measured(path: str, threads: int, repeats: int) -> dict[str, Any]:
    """Latencies (milliseconds) and memory (MB) of a file.

    Args:
        path: the ONNX file.
        threads: of ONNX Runtime.
        repeats: measured answers of each kind.
    """
    import onnxruntime

    before = peak_mb()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    data = jpeg()
    image = prepared(data, about)
    alone = percentiles(lambda: session.run(None, {"images": image}), repeats)
    above = peak_mb() - before
    whole = percentiles(lambda: session.run(None, {"images": prepared(data, about)}), repeats)
    return {"threads": threads, "repeats": repeats, "network_ms": alone, "with_preprocessing_ms": whole,
            "peak_memory_mb": round(peak_mb(), 1), "network_memory_mb": round(above, 1)}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=50)
    asked = parser.parse_args()
    print(json.dumps(measured(asked.file, asked.threads, asked.repeats)))


if __name__ == "__main__":
    main()
