#!/usr/bin/env bash
# All that needs a GPU, in one go: equality with the CPU, prediction, training steps, and what the
# ratio of speeds in the paper rests on.
#
#   SCNET_DATA=FOLDER benchmarks/gpu.sh results 'photos/*.jpg'
#
# Takes about half an hour on an H100, most of it compiling. DEVICE=cpu with a small SIZE, MODELS and
# ROUNDS tries the script itself on any machine.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?folder for the results}
photos=${2:?images, as a pattern}
device=${DEVICE:-cuda}
size=${SIZE:-800x1344}
models=${MODELS:-mask_rcnn cascade_mask_rcnn_semantic htc scnet}
rounds=${ROUNDS:-15}
batches=${BATCHES:-1 8}
train_batches=${TRAIN_BATCHES:-2 8 16}
train_models=${TRAIN_MODELS:-mask_rcnn scnet}
train_size=${TRAIN_SIZE:-800x1344}
precision=${PRECISION:-bf16}
python=${PYTHON:-python}
mkdir -p "$out"

"$python" -m pytest -q -rs tests/model/test_cuda.py

for batch in $batches; do
  for compile in "" --compile; do
    name="$out/predict_${precision}_batch$batch${compile#-}"
    # shellcheck disable=SC2086
    "$python" -m scnet bench $models --peer torchvision --images $photos --size "$size" \
      --batch "$batch" --precision "$precision" --device "$device" --rounds "$rounds" $compile \
      --json "$name.json" --plot "$name.png"
  done
done

# shellcheck disable=SC2086
"$python" benchmarks/train_step.py --device "$device" --precision "$precision" \
  --batch $train_batches --sizes "$train_size" --rounds "$rounds" --compile \
  --models "torchvision mask_rcnn" $train_models --json "$out/train_step_$precision.json"

"$python" benchmarks/as_released.py --device "$device" --size "$size" --rounds "$rounds" \
  | tee "$out/as_released.txt"
