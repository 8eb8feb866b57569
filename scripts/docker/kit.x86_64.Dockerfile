# Runs the kit of the folder that is mounted at /work, on a card or a GPU of an x86-64 machine: see docs/kit.md.
# BASE is an image of the vendor with CANN's toolkit or TensorRT, python3 and numpy; its name was not checked here.
ARG BASE=quay.io/ascend/cann:8.1.rc1-310p-ubuntu22.04-py3.10
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN [ "$(uname -m)" = x86_64 ] && python3 -c 'import sys, numpy; sys.exit(sys.version_info < (3, 7))'
WORKDIR /work
COPY scripts/docker/run_kit.sh /usr/local/bin/run_kit.sh
ENTRYPOINT ["bash", "/usr/local/bin/run_kit.sh"]
