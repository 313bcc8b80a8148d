# Training, evaluation, prediction and the page: no Prefect, no vLLM.
#
#   docker build -f docker/train.Dockerfile -t dgm4-asap-train .
#   docker run --gpus all --ipc host -v /data:/data dgm4-asap-train \
#       accelerate launch training/train.py --config configs/training/dgm4.yaml --data /data/texts --to /data/run
#
# PYTHON_IMAGE takes a digest as well: docker/server.Dockerfile says how.
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
# gpu or cpu: whose versions count.
ARG ENGINE=gpu
# Hard links into the cache would not outlive its mount; without bytecode every start compiles torch anew.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /build
COPY requirements requirements
RUN --mount=type=cache,target=/root/.cache \
    python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install -r requirements/bootstrap.txt \
    && /opt/venv/bin/python -m uv pip install --python /opt/venv/bin/python \
        -r requirements/images/train.in \
        --constraint "requirements/${ENGINE}.txt" --override requirements/overrides.txt

FROM ${PYTHON_IMAGE}
# torch.compile builds kernels with it. Debian's archive drops old versions, so none is named.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 asap \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin asap \
    && install -d -o 10001 -g 10001 /data
COPY --from=packages /opt/venv /opt/venv
COPY configs /app/configs
COPY demo/models /app/demo/models
COPY schemas /app/schemas
COPY training /app/training
COPY docker/entrypoint.sh docker/healthy.py /opt/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_WAIT_POLICY=passive \
    DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    HF_HUB_OFFLINE=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /app
VOLUME /data
# Unhealthy when its processes stand still (stopped) or are gone.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=4 CMD ["python", "/opt/healthy.py"]
ENTRYPOINT ["/bin/sh", "/opt/entrypoint.sh"]
CMD ["python", "training/train.py", "--help"]
