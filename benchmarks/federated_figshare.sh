#!/bin/sh
# Federated regimes against the centralized twin on figshare-brain (real images, real ImageNet weights): five clients,
# ten rounds, the head tuned on cached features at 128 px. About ten minutes on two quiet cores, most of it SVRG and the
# one pass of the backbone.
#
#     benchmarks/federated_figshare.sh DATA WEIGHTS OUT [further options of bench run]
#     benchmarks/federated_figshare.sh ../shared/data/figshare-brain \
#         ../shared/weights/mobilenet_v2-imagenet-tfslim.safetensors runs/federated-figshare
set -eu
data=$1 weights=$2 out=$3
shift 3
bench data list --json | python -c '
import json, sys
sys.exit(not any(d["name"] == "figshare-brain" and d.get("at hand") in (True, "yes") for d in json.load(sys.stdin)))
' || bench data add figshare-brain "$data"
bench run --models deepmedix,mobilenet_v2 --datasets figshare-brain \
    --regimes centralized,twin,local,fedavg,fedavg-svrg,fedprox,scaffold,fedbn \
    --protocol demo --weights "$weights" --seeds 1 --out "$out" --progress plain \
    --set image_size=128 --set epochs=10 --set early_stopping_patience=10 "$@"
bench fed gaps "$out"
bench fed gaps "$out" --json > "$out/gaps.json"
