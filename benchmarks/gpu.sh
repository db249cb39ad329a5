#!/usr/bin/env bash
# All that is worth measuring on one GPU, in one call under ten minutes, without TensorFlow:
#     PYTHON=python3 OUT=results benchmarks/gpu.sh
# Needs jax with CUDA, flax, optax, ml_collections, jaxtyping, etils, orbax and PyTorch with CUDA. Parts run in order
# of importance, each with a limit of its own; one that fails or is cut off leaves what was before it.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results/gpu}
export PYTHONPATH=. XLA_PYTHON_CLIENT_PREALLOCATE=false
mkdir -p "$OUT"

part() {  # limit in seconds, name, command
    local limit=$1 name=$2 began=$SECONDS
    shift 2
    echo "== $name"
    timeout "$limit" "$@" 2>&1 | tee "$OUT/$name.log" || echo "$name: failed or cut off after $((SECONDS - began)) s"
}

{ nvidia-smi --query-gpu=name,memory.total,clocks.max.sm,power.limit --format=csv; nvidia-smi; } > "$OUT/gpu.txt" 2>&1
part 30 limits "$PYTHON" benchmarks/chip_limits.py --output "$OUT"
forms="implementation=plain,blocks=scan;implementation=plain,blocks=unroll;implementation=kernels"
for batch in 16x48 64x48; do
    for dtype in bfloat16 float32; do
        part 90 "network-$dtype-$batch" "$PYTHON" benchmarks/network.py --dtypes $dtype --forward "" --step $batch \
            --compare "$forms" --compile --precision default --rounds 10 --name "network-$dtype-$batch" --output "$OUT"
    done
done
part 50 whole_image "$PYTHON" benchmarks/whole_image.py --sizes 339x510 --output "$OUT"
for dtype in bfloat16 float32; do
    part 40 "attention-$dtype" "$PYTHON" benchmarks/attention.py --forms unfold,box,hybrid --batch 16 --dtype $dtype \
        --precision default --rounds 10 --name "attention-$dtype" --output "$OUT"
done
# Averages, not an exact speed: a real run with the memory loader, on the built-in photos.
part 50 training "$PYTHON" train.py --config configs/x4.py --workdir "$OUT/training" --config.data.source=photos \
    --config.data.loader=memory --config.dtype=bfloat16 --config.total_steps=500 --config.log_every=100 \
    --config.eval_every=500 --config.checkpoint_every=500
if [ -f "$OUT/training/metrics.jsonl" ]; then
    cp "$OUT"/training/*.jsonl "$OUT/"
    rm -r "$OUT/training"
fi
