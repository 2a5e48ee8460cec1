#!/usr/bin/env bash
# Build the image of this commit with the first engine that works here: docker, podman or buildah.
#
#   deploy/build_image.sh [OPTION ...]        options go to the engine, for example
#       --build-arg VARIANT=cpu --build-arg TORCH_INDEX=URL     the small image without CUDA
#       --build-arg BASE=IMAGE                                  another base, by digest
#       --secret id=pip,src=FILE                                a private package mirror's pip.conf
#
# SASREC_IMAGE is the repository, sasrec-pipeline by default; the tag is the commit.
set -euo pipefail
cd "$(dirname "$0")/.."

commit=$(git describe --always --abbrev=12 --dirty)
image="${SASREC_IMAGE:-sasrec-pipeline}:$commit"
options=(--file deploy/Dockerfile --build-arg "COMMIT=$commit" --tag "$image" "$@")
# Docker reads deploy/Dockerfile.dockerignore by itself, the others must be told.
ignore=(--ignorefile deploy/Dockerfile.dockerignore)

if docker info >/dev/null 2>&1; then
    engine=docker
    DOCKER_BUILDKIT=1 docker build "${options[@]}" .
elif podman info >/dev/null 2>&1; then
    engine=podman
    podman build --format docker "${ignore[@]}" "${options[@]}" .
elif buildah info >/dev/null 2>&1; then
    engine=buildah
    buildah build --format docker "${ignore[@]}" "${options[@]}" .
else
    echo "error: no container engine answers; start docker, or install podman or buildah" >&2
    exit 2
fi
echo "built $image; push it with: $engine push $image"
