#!/bin/sh
# Federated regimes against the centralized twin on figshare-brain (real images, real ImageNet weights): five clients,
# ten rounds, the head tuned on cached features at 128 px. About ten minutes on two quiet cores, most of it SVRG and the
# one pass of the backbone.
#
#     benchmarks/federated_figshare.sh DATA WEIGHTS OUT [further options of bench run]
#
# A copy without patient ids has the author's five patient-disjoint folds as its groups. Clients hold whole groups, so
# five clients need all five in the training part: the split is by image, each client holds one fold, and no patient is
# at two clients. Test images then come from the clients' own patients, which flatters every regime alike: read the gaps,
# not the accuracies. For the patient-disjoint test: SPLIT=official:1 CLIENTS=3.
set -eu
data=$1 weights=$2 out=$3
shift 3
bench data list --json | python3 -c '
import json, sys
sys.exit(not any(d["name"] == "figshare-brain" and d["at hand"] for d in json.load(sys.stdin)))
' || bench data add figshare-brain "$data"
bench run --models "${MODELS:-deepmedix,linear@mobilenet_v2}" --datasets figshare-brain \
    --regimes "${REGIMES:-centralized,twin,local-only,fedavg,fedavg-svrg,fedprox,scaffold,fedbn}" \
    --split "${SPLIT:-image}" --protocol demo --weights "$weights" --seeds 1 --out "$out" --progress plain \
    --set image_size=128 --set epochs=10 --set early_stopping_patience=10 \
    --set federated.clients="${CLIENTS:-5}" "$@"
test -f "$out/plan.json" || exit 0
bench fed gaps "$out"
bench fed gaps "$out" --json > "$out/gaps.json"
