# The harness on a CPU; on a GPU:
#   docker build --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 -t deepmedix-bench:cuda .
#   docker run --gpus all --shm-size 8g -v "$PWD/runs:/work/runs" -v bench-home:/home/bench deepmedix-bench:cuda run ...
ARG BASE=python:3.11-slim
FROM ${BASE}

# CUDA's bases bring no Python of their own.
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/bench
ENV PATH=/opt/bench/bin:$PATH

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY bench bench
COPY models models
COPY federated federated
COPY reports reports
COPY sweeps sweeps
RUN pip install --no-cache-dir ".[privacy,postgresql,weights]"

# No run needs root, and what it writes belongs to the one who started it.
RUN useradd --create-home bench && mkdir -p /work && chown bench /work
USER bench
WORKDIR /work
ENV BENCH_HOME=/home/bench/data BENCH_CACHE=/home/bench/cache FLWR_TELEMETRY_ENABLED=0
ENTRYPOINT ["bench"]
CMD ["--help"]
