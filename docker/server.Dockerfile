# Prefect's server, and its worker for Kubernetes: no model, no code of ours.
#
#   docker build -f docker/server.Dockerfile -t dgm4-asap-server .
#
# PYTHON_IMAGE takes a digest as well, which no registry can change afterwards:
#   docker buildx imagetools inspect python:3.11.13-slim-bookworm      # prints "Digest: sha256:..."
#   docker build --build-arg PYTHON_IMAGE=python:3.11.13-slim-bookworm@sha256:... -f docker/server.Dockerfile .
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
# Hard links into the cache would not outlive its mount; without bytecode every start compiles Prefect anew.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /build
COPY requirements requirements
RUN --mount=type=cache,target=/root/.cache \
    python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install -r requirements/bootstrap.txt \
    && /opt/venv/bin/python -m uv pip install --python /opt/venv/bin/python \
        -r requirements/images/server.in --constraint requirements/cpu.txt

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 asap \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin asap
COPY --from=packages /opt/venv /opt/venv
COPY docker/entrypoint.sh docker/healthy.py /opt/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY=false \
    PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false \
    PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION=false \
    PREFECT_UI_STATIC_DIRECTORY=/tmp/prefect-ui \
    PREFECT_SERVER_API_HOST=0.0.0.0 \
    HEALTH_URL=http://127.0.0.1:4200/api/health
USER 10001:10001
WORKDIR /home/asap
EXPOSE 4200
# A first start makes the database's tables.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=6 CMD ["python", "/opt/healthy.py"]
ENTRYPOINT ["/bin/sh", "/opt/entrypoint.sh"]
CMD ["prefect", "server", "start"]
