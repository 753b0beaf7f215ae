# The locked packages, for Docker, Podman or Apptainer. The pipeline itself stays outside: mount it.
#
#   docker build -t vlg .
#   docker run --rm --gpus all -v "$PWD:/study" -w /study vlg snakemake --cores all
FROM python:3.13-slim

# git: provenance records the commit. gcc and libc6-dev: torch.compile, and one package that is
# built from source.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev make \
    && rm -rf /var/lib/apt/lists/*

COPY requirements.lock /opt/requirements.lock
RUN pip install --no-cache-dir --require-hashes --requirement /opt/requirements.lock

# Results belong to whoever runs the container, who may have no home in it.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
CMD ["bash"]
