#!/usr/bin/env bash
# A whole installation on one machine with Docker and kind: two nights, an incident, teardown.
#
#   make cluster-test              about 40 minutes on 8 cores with 16 GiB; a log per step
#   KEEP=1 make cluster-test       leaves the cluster; KEEP=1 again goes on with it
#
# Kubeflow Pipelines is the single-user install, so everything is in its namespace.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=deploy/cluster_test
# shellcheck source=deploy/cluster_test/versions.env
set -a && source "$here/versions.env" && set +a

cluster=sasrec-test
namespace=kubeflow
python=${PYTHON:-.venv/bin/python}
logs=${LOGS:-runs/cluster-test}
work=$(mktemp -d)
forwards=()
export KUBECONFIG=$work/kubeconfig
export KF_PIPELINES_ENDPOINT=http://localhost:8888 KF_PIPELINES_SERVICE_ACCOUNT=sasrec-pipeline
registry=sasrec-test-registry
repository=localhost:5001/sasrec-pipeline # as this machine and, by a mirror, kind's node call it

# Not under `if`, where a function goes on after a command that failed: a failure ends the script, and
# `ended` says in which step.
step() { # step NAME COMMAND...: run it, its output in a file of its own
    name=$1 number=$((${number:-0} + 1))
    local began=$SECONDS
    log=$(printf '%s/%02d-%s.log' "$logs" "$number" "$name")
    "${@:2}" >"$log" 2>&1
    echo "✓ $name ($((SECONDS - began)) s)"
}

ended() {
    local status=$? process
    if [ "$status" != 0 ]; then
        echo "✗ $name: the end of $log"
        tail -20 "$log"
    fi
    for process in "${forwards[@]}"; do kill "$process" || true; done
    if [ -z "${KEEP:-}" ]; then
        kind delete cluster --name "$cluster"
        docker rm --force "$registry"
    fi
    rm -rf "$work"
} >&3 2>&3

tools() {
    docker info && kind version && kubectl version --client && jq --version && "$python" --version
}

create_cluster() { # and a registry that its node pulls from
    docker inspect "$registry" || docker run --detach --name "$registry" \
        --publish 127.0.0.1:5001:5000 "$REGISTRY_IMAGE"
    kind get clusters | grep -qx "$cluster" || kind create cluster --name "$cluster" \
        --image "$KUBERNETES_IMAGE" --config "$here/kind.yaml" --wait 5m
    kind export kubeconfig --name "$cluster" --kubeconfig "$KUBECONFIG"
    docker network connect kind "$registry" || true # it may be there from before
    local mirror=/etc/containerd/certs.d/localhost:5001
    docker exec "$cluster-control-plane" mkdir -p "$mirror"
    echo "[host.\"http://$registry:5000\"]" |
        docker exec --interactive "$cluster-control-plane" tee "$mirror/hosts.toml"
}

push_image() {
    SASREC_IMAGE=$repository deploy/build_image.sh --build-arg VARIANT=cpu
    local image
    image=$repository:$(git describe --always --abbrev=12 --dirty)
    docker push "$image"
    SASREC_IMAGE=$(docker inspect --format '{{index .RepoDigests 0}}' "$image")
    export SASREC_IMAGE
}

install_pipelines() {
    local source=github.com/kubeflow/pipelines/manifests/kustomize
    kubectl apply -k "$source/cluster-scoped-resources?ref=$KFP_VERSION"
    kubectl wait --for condition=established --timeout=2m crd/applications.app.k8s.io
    kubectl apply -k "$source/env/platform-agnostic?ref=$KFP_VERSION"
    kubectl -n "$namespace" wait --for=condition=Available --timeout=20m deployment --all
    # Stages are tried again also where their container failed; Argo's controller watches the map.
    kubectl -n "$namespace" get configmap workflow-controller-configmap -o yaml |
        awk -f deploy/kubernetes/retry_policy.awk | kubectl replace -f -
}

install_neighbours() { # Redis, an object store, Prometheus and its operator
    kubectl apply --server-side -f \
        "https://github.com/prometheus-operator/prometheus-operator/releases/download/$PROMETHEUS_OPERATOR_VERSION/bundle.yaml"
    kubectl wait --for condition=established --timeout=2m crd/prometheuses.monitoring.coreos.com
    local image script=()
    for image in REDIS_IMAGE OBJECT_STORE_IMAGE PUSHGATEWAY_IMAGE; do
        script+=(-e "s#\${$image}#${!image}#")
    done
    sed "${script[@]}" "$here/neighbours.yaml" | kubectl apply -f -
    kubectl -n data wait --for=condition=Available --timeout=10m deployment --all
    kubectl -n monitoring wait --for=condition=Available --timeout=10m deployment --all
}

create_secrets() {
    local url=redis.data:6379 name
    for name in sasrec-redis sasrec-object-store; do
        kubectl -n "$namespace" delete secret "$name" --ignore-not-found
    done
    kubectl -n "$namespace" create secret generic sasrec-redis \
        --from-literal=url="redis://$url/0" --from-literal=connection="$url"
    kubectl -n "$namespace" create secret generic sasrec-object-store \
        --from-literal=SASREC_MODELS_URL=s3://models/shop \
        --from-literal=AWS_ENDPOINT_URL_S3=http://object-store.data:9000 \
        --from-literal=AWS_ACCESS_KEY_ID=cluster-test --from-literal=AWS_SECRET_ACCESS_KEY=cluster-test
    if kubectl -n "$namespace" get secret sasrec-api-keys; then
        # KEEP=1 again: serving read these keys as it started, and would refuse new ones.
        mkdir -p "$work/keys"
        for name in api_keys.json metrics rollout; do
            kubectl -n "$namespace" get secret sasrec-api-keys -o json |
                jq -j --arg name "$name" '.data[$name] | @base64d' >"$work/keys/$name"
        done
        return
    fi
    "$python" -m serving.create_keys "$work/keys"
    kubectl -n "$namespace" create secret generic sasrec-api-keys \
        --from-file="$work/keys/api_keys.json" --from-file="$work/keys/metrics" \
        --from-file="$work/keys/rollout"
}

apply_site() {
    kubectl kustomize "$here/site" | sed "s#image: sasrec-pipeline#image: $SASREC_IMAGE#" |
        kubectl apply -f -
    kubectl -n "$namespace" delete job sasrec-prepare-volume --ignore-not-found # none can be changed
    sed "s#image: sasrec-pipeline#image: $SASREC_IMAGE#" deploy/kubernetes/prepare-volume.yaml |
        kubectl -n "$namespace" apply -f -
    kubectl -n "$namespace" wait --for=condition=complete --timeout=5m job/sasrec-prepare-volume
}

forward() { # forward SERVICE LOCAL:REMOTE
    kubectl -n "$namespace" port-forward "service/$1" "$2" >/dev/null 2>&1 &
    forwards+=($!)
    local port=${2%%:*}
    for _ in $(seq 60); do
        (: >"/dev/tcp/localhost/$port") 2>/dev/null && return
        sleep 1
    done
    return 1
}

doctor() { # doctor PLATFORM: would a run start?
    "$python" pipeline.py doctor --platform "$1"
}

night() { # night NAME PLATFORM: one run, to its verdict; a name of before would be that run
    "$python" pipeline.py submit --name "$1-$started" --dataset simulated --platform "$2" --gates "$here/gates.yaml" \
        --set train.epochs=5 --set model.dim=32 --wait --timeout 3600
}

ask() { # ask FILTER: one recommendation, and whether it is as jq's FILTER says
    curl -sS --max-time 10 -H "Authorization: Bearer $(jq -r '.recommend[0]' "$work/keys/api_keys.json")" \
        -H 'Content-Type: application/json' -d '{"user_id": "cluster-test", "k": 5}' \
        localhost:8080/v1/recommend | jq -e "$1"
}

serves() {
    kubectl -n "$namespace" wait --for=condition=Available deployment/sasrec-serving --timeout=15m
    forward sasrec-serving 8080:80
    ask '.items | length == 5'
}

is_scraped() {
    local query='/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1/query?query=up{job="sasrec"}'
    for _ in $(seq 60); do
        kubectl get --raw "$query" | jq -e '.data.result | any(.value[1] == "1")' && return
        sleep 5
    done
    return 1
}

lose_redis() { # serving goes on without histories, and has them again
    kubectl -n data scale deployment/redis --replicas=0
    kubectl -n data wait --for=delete pod -l app=redis --timeout=2m
    ask '(.items | length == 5) and .degraded == "history"'
    kubectl -n data scale deployment/redis --replicas=1
    kubectl -n data rollout status deployment/redis --timeout=5m
    for _ in $(seq 30); do
        ask '.degraded == null' && return
        sleep 2
    done
    return 1
}

mkdir -p "$logs"
printf -v started '%(%Y%m%d-%H%M%S)T'
exec 3>&2
trap ended EXIT
step tools tools
step cluster create_cluster
step image push_image
step pipelines install_pipelines
step neighbours install_neighbours
step secrets create_secrets
step site apply_site
step reach-pipelines forward ml-pipeline 8888:8888
step doctor-before-the-first-night doctor "$here/first_night.yaml"
step first-night night first "$here/first_night.yaml"
step serves serves
step is-scraped is_scraped
step doctor-before-the-second-night doctor "$here/every_night.yaml"
step second-night night second "$here/every_night.yaml"
step still-serves ask '.items | length == 5'
step incident lose_redis
step doctor-after-the-incident doctor "$here/every_night.yaml"
echo "everything passed; logs are in $logs"
