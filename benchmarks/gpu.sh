#!/usr/bin/env bash
# The paper's evaluation on a borrowed GPU, in steps of at most ten minutes that carry at most 64 MiB.
#
#   benchmarks/gpu.sh pack STEP       here: puts what the step needs beside the code into build/gpu
#   benchmarks/gpu.sh run STEP        there: in a copy of the repository with build/gpu; results go to $OUT
#   benchmarks/gpu.sh collect FOLDER  here: takes the results in FOLDER into $RUNS
#   benchmarks/gpu.sh next STEP       here: the seeds that it would make next
#   benchmarks/gpu.sh --dry-run [STEP ...]   all of it here, on the CPU, at tiny size; by default every step
#
# There: Python 3.12 with torch 2.11, NumPy, SciPy, scikit-learn and Pillow, and no network; other wheels travel.
# A step that runs out of time stops after its last whole epoch, cell or fit: collect, pack and run it again, and it goes
# on. A step of a spec makes the paper's three seeds, one at a time or side by side: pack, run and collect it until pack
# says that it is finished. Fewer go on side by side where their checkpoints do not all travel beside the data. Where one
# alone does not (all but fashion-mnist-vae, 13 MB, and capacity at half the width), a training must end in time: choose
# EPOCHS, and for rnd TRAIN_LIMIT.
#
# OODKIT_DATA: the folder with the sets. LIMIT: test images of each set (1000). TRAIN_LIMIT, EPOCHS: less than the spec's.
# DEVICE (cuda). SECONDS_LEFT: when a step stops itself (530). SEEDS: others than 0, 1 and 2. RUNS: where results are
# kept (runs/gpu). TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 allows TF32, which is off; the step conformance measures what it does.
set -euo pipefail
cd "$(dirname "$0")/.."

STEPS="conformance throughput fashion-mnist-vae cifar10-vae glow-fashion-mnist glow-cifar10 background rnd capacity-fashion-mnist capacity-cifar10 classifiers"
CARRIED=build/gpu                 # travels to the GPU
CARRY_LIMIT=$((64 * 1024 * 1024)) # bytes, with the code
CODE=$((4 * 1024 * 1024))         # bytes that are left for it
PART=15m                          # a file that comes back
BACK_LIMIT=$((60 * 1024 * 1024))  # bytes, all of them
WHEELS="pydantic pluggy rich safetensors filelock pytest hypothesis"
WHEELHOUSE=build/gpu-wheels
THERE="--python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64"
SPECS=benchmarks/paper

# What a step is: `spec` with its seeds, `together` side by side, each in a run folder of its own under $RUNS/`folder`; or
# `commands`, one after the other. A dry run adds `less` to the spec.
describe() {
    data="" spec="" folder=$1 together=1 commands=() less=""
    # Four times the width makes inputs of 8,193 and more: one eigendecomposition takes a CPU core minutes.
    local narrow="--set rose-ekfac.layers=trunk.0"
    local grey="fashion-mnist-train.npz fashion-mnist-test.npz" cifar10="cifar10-train.zip cifar10-test.zip"
    local small="mnist-test.npz notmnist-test.npz" stand_ins="rendered-digits.zip tiny-images.zip"
    case $1 in
        conformance)
            data="$grey mnist-test.npz"
            commands=(
                "-m pytest -q -p no:cacheprovider -k cuda $(grep -lE 'cuda|detector_checks' tests/test_*.py | tr '\n' ' ')"
                "benchmarks/precision.py --device $DEVICE --images $LIMIT --train ${TRAIN_LIMIT:-20000} --epochs ${EPOCHS:-3} $PRECISION"
            ) ;;
        throughput)
            commands=(
                "benchmarks/speed.py --device $DEVICE $SPEED"
                "benchmarks/likelihood_regret_speed.py --device $DEVICE --rounds 1 $REGRET"
            ) ;;
        fashion-mnist-vae) spec=table2-vae-fashion-mnist together=3 data="$grey $small omniglot.npz cifar10-lossless-test.npz rendered-digits.zip" ;;
        cifar10-vae) spec=table2-vae-cifar10 data="$cifar10 $small fashion-mnist-test.npz $stand_ins" ;;
        glow-fashion-mnist) spec=table2-glow-fashion-mnist data="$grey $small omniglot.npz cifar10-lossless-test.npz rendered-digits.zip" ;;
        glow-cifar10) spec=table2-glow-cifar10 data="$cifar10 $small fashion-mnist-test.npz $stand_ins" ;;
        background) spec=table10-lratio-perturbations folder=cifar10-vae data="$cifar10 $small fashion-mnist-test.npz $stand_ins" ;;
        rnd) spec=table11-rnd-perturbations data="$cifar10 $small fashion-mnist-test.npz $stand_ins" ;;
        capacity-fashion-mnist) spec=table3-capacity-fashion-mnist data="$grey $small $stand_ins" less="$narrow" ;;
        capacity-cifar10) spec=table3-capacity-cifar10 data="$cifar10 $small $stand_ins" less="$narrow" ;;
        classifiers)
            data="$cifar10 mnist-test.npz fashion-mnist-test.npz $stand_ins"
            commands=("benchmarks/classifier_layers.py --network all --id cifar10 --device $DEVICE --folder $RUNS/classifiers
                --ood mnist,fashion-mnist,rendered-digits,tiny-images,noise,constant --limit $LIMIT
                --epochs ${EPOCHS:-20} --train-limit ${TRAIN_LIMIT:-50000} --fitting-images 5000") ;;
        *) echo "gpu.sh: there is no step '$1'; there are: $STEPS." >&2; exit 2 ;;
    esac
}

size_of() { du -cb "$@" 2>/dev/null | tail -1 | cut -f1; }

# The seeds of a step that are next: of a finished one $RUNS has STEP.finished in its folder.
next_seeds() {
    local seed
    for seed in $SEEDS; do
        if [ ! -e "$RUNS/$folder/$seed/$1.finished" ]; then echo "$seed"; fi
    done | head -n "$together" | paste -sd ' ' -
}

# bundle FILE BYTES PATH...: what the paths in $RUNS have, but for fitted detectors: rows and scores are what they were made
# for. Where that is too large, without checkpoints, then without models: what needs them makes them again.
bundle() {
    local pattern left_out=(--no-wildcards-match-slash --exclude=.owner --exclude='detectors/*.safetensors')
    for pattern in .lock '*.checkpoint' 'models/*' 'classifiers/*.safetensors'; do
        left_out+=(--exclude="$pattern")
        tar -C "$RUNS" "${left_out[@]}" -czf "$1" "${@:3}"
        if [ "$(size_of "$1")" -le "$2" ]; then return; fi
        echo "gpu.sh: ${*:3} is too large to travel whole."
    done
    echo "gpu.sh: ${*:3} is too large to travel." >&2
    exit 1
}

# The bytes that seeds have to go on from.
state_of() {
    local seed
    for seed in "$@"; do
        if [ -d "$RUNS/$folder/$seed" ]; then
            find "$RUNS/$folder/$seed" -type f -not -path '*/detectors/*.safetensors' -printf '%s\n'
        fi
    done | awk '{ sum += $1 } END { print sum + 0 }'
}

pack() {
    describe "$1"
    rm -rf $CARRIED && mkdir -p $CARRIED/wheels $CARRIED/data
    local file seed seeds=() state=()
    if [ -n "$spec" ]; then
        read -ra seeds <<<"$(next_seeds "$1")"
        if [ ${#seeds[@]} -eq 0 ]; then echo "$1 is finished for the seeds $SEEDS."; exit 0; fi
    fi
    for file in $data; do
        if [ -e "$OODKIT_DATA/$file" ]; then cp --no-preserve=mode "$OODKIT_DATA/$file" $CARRIED/data/; else echo "$file: no data" >&2; fi
    done
    # One archive: the pictures of a .zip have the same JPEG header each, which only a common dictionary sees.
    tar -C $CARRIED -cf - data | xz -3 -T0 >$CARRIED/data.tar.xz && rm -r $CARRIED/data
    if [ ! -d $WHEELHOUSE ]; then
        # shellcheck disable=SC2086  # words
        $PYTHON -m pip download -q --disable-pip-version-check -d $WHEELHOUSE --only-binary=:all: $THERE $WHEELS
    fi
    cp $WHEELHOUSE/*.whl $CARRIED/wheels/
    # What makes the code there an installed package: its name, version and entry points.
    cp -r "$($PYTHON -c 'from importlib.metadata import distribution; print(distribution("oodkit")._path)')" $CARRIED/
    local left=$((CARRY_LIMIT - CODE - $(size_of $CARRIED)))
    while [ ${#seeds[@]} -gt 1 ] && [ "$(state_of "${seeds[@]}")" -gt $left ]; do unset "seeds[-1]"; done
    for seed in "${seeds[@]}"; do if [ -d "$RUNS/$folder/$seed" ]; then state+=("$folder/$seed"); fi; done
    if [ -z "$spec" ] && [ -d "$RUNS/$folder" ]; then state=("$folder"); fi
    if [ ${#state[@]} -gt 0 ]; then bundle $CARRIED/state.tar.gz $left "${state[@]}"; fi
    echo "${seeds[*]}" >$CARRIED/seeds
    local total
    total=$(($(size_of $CARRIED) + $(git ls-files -z | xargs -0 cat 2>/dev/null | wc -c)))
    echo "$1${spec:+, seeds $(cat $CARRIED/seeds)}: carries $((total / 1024)) KiB with the code: wheels $(($(size_of $CARRIED/wheels) / 1024)), data $(($(size_of $CARRIED/data.tar.xz) / 1024))."
    if [ $total -gt $CARRY_LIMIT ]; then echo "gpu.sh: that is more than 64 MiB; pack less." >&2; exit 1; fi
}

install() {
    $PYTHON - <<'PYTHON'
import importlib.util, sys
missing = [name for name in ("torch", "numpy", "scipy", "sklearn", "PIL") if not importlib.util.find_spec(name)]
if missing: sys.exit(f"gpu.sh: this machine lacks {', '.join(missing)}, which are too large to travel.")
PYTHON
    local site=$PWD/$CARRIED/site
    # $THERE: so that a dry run, whatever its Python, unpacks what will be unpacked there
    # shellcheck disable=SC2086  # words
    $PYTHON -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --upgrade --target "$site" \
        --only-binary=:all: $THERE $CARRIED/wheels/*.whl
    # What this Python cannot import (a dry run under another version), it must have by itself.
    $PYTHON -c "import sys; sys.path.insert(0, '$site'); import pydantic_core" 2>/dev/null || rm -rf "$site"/pydantic* "$site"/safetensors* "$site"/hypothesis*
    cp -r $CARRIED/oodkit-*.dist-info "$site/"
    export PYTHONPATH=$PWD:$PWD/plugins:$site
    mkdir -p "$RUNS"
    tar -C $CARRIED -xf $CARRIED/data.tar.xz
    export OODKIT_DATA=$PWD/$CARRIED/data
    if [ -e $CARRIED/state.tar.gz ]; then tar -C "$RUNS" -xzf $CARRIED/state.tar.gz; fi
}

run() {
    describe "$1"
    : "${OUT:=build/gpu-out}"
    mkdir -p "$OUT"
    install
    $PYTHON -c "import torch; print('torch', torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU')"
    mkdir -p "$RUNS/$folder"
    local seed command code=0 pids=() results=("$folder")
    for command in "${commands[@]}"; do
        if [ "$SECONDS" -ge "$SECONDS_LEFT" ]; then code=124 && break; fi
        # shellcheck disable=SC2086  # words
        timeout --kill-after=20 $((SECONDS_LEFT - SECONDS)) $PYTHON $command 2>&1 | tee -a "$RUNS/$folder/$1.txt" || code=$?
    done
    if [ -n "$spec" ]; then
        results=()
        for seed in $(cat $CARRIED/seeds); do
            results+=("$folder/$seed") && mkdir -p "$RUNS/$folder/$seed"
            (
                # shellcheck disable=SC2086  # words
                timeout --kill-after=20 $((SECONDS_LEFT - SECONDS)) $PYTHON -m oodkit bench --spec "$SPECS/$spec.toml" \
                    --seeds "$seed" --device "$DEVICE" --limit "$LIMIT" --run-folder "$RUNS/$folder/$seed" \
                    ${TRAIN_LIMIT:+--train-limit "$TRAIN_LIMIT"} ${EPOCHS:+--epochs "$EPOCHS"} ${DRY:+$less} \
                    >"$RUNS/$folder/$seed/$1.txt" 2>&1 && touch "$RUNS/$folder/$seed/$1.finished"
            ) &
            pids+=($!)
        done
        for seed in "${pids[@]}"; do wait "$seed" || code=$?; done
        for seed in $(cat $CARRIED/seeds); do tail -n 25 "$RUNS/$folder/$seed/$1.txt"; done
    fi
    bundle results.tar.gz $BACK_LIMIT "${results[@]}"
    split -b $PART results.tar.gz "$OUT/results.tar.gz." && rm results.tar.gz
    case $code in
        0) echo "$1 is finished${spec:+ for the seeds $(cat $CARRIED/seeds)}." ;;
        124) echo "$1 ran out of time: collect, pack and run it again." ;;
        *) echo "$1 failed with $code." ; return "$code" ;;
    esac
}

collect() {
    mkdir -p "$RUNS"
    cat "$1"/results.tar.gz.* | tar -C "$RUNS" -xzf -
    echo "$RUNS has: $(ls "$RUNS" | tr '\n' ' ')"
}

# Each step as on two machines: packed, run in another folder, collected, and again, until pack says that it is finished.
dry_run() {
    local step round finished
    there=$(mktemp -d)
    trap 'rm -rf "$there"' EXIT
    export RUNS=runs/gpu-dry LIMIT=${LIMIT_DRY:-4} TRAIN_LIMIT=64 EPOCHS=1 DRY=yes
    rm -rf "$RUNS"
    for step in ${*:-$STEPS}; do
        describe "$step"
        export SEEDS && SEEDS=$(seq -s ' ' 0 $((together - 1)))
        finished=no
        for round in 1 2 3 4 5 6; do
            rm -rf "${there:?}"/* "$there/.venv"
            (pack "$step")
            git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$there" 2>/dev/null || true
            mkdir -p "$there/build" && cp -r $CARRIED "$there/build/"
            (
                cd "$there"
                export DEVICE=cpu SECONDS_LEFT=${SECONDS_DRY:-300} OUT=$there/out PRECISION="--detector elbo,rose-diag"
                export SPEED="--model vae-grey --detector rose-ekfac,ic-png --batch 2 --rounds 1 --images 2"
                export REGRET="--images-at-once 4"
                bash benchmarks/gpu.sh run "$step" >"$there/log" 2>&1 || { tail -40 "$there/log"; exit 1; }
                tail -1 "$there/log"
                echo "$step, round $round: brings back $(ls out | wc -l) files, $(($(size_of out) / 1024)) KiB."
            )
            collect "$there/out"
            if [ -n "$spec" ] && [ -z "$(next_seeds "$step")" ]; then (pack "$step") && finished=yes && break; fi
            if [ -z "$spec" ] && ! grep -q "ran out of time" "$there/log"; then finished=yes && break; fi
        done
        if [ $finished = no ]; then echo "gpu.sh: $step is not finished after six rounds." >&2; exit 1; fi
    done
}

DEVICE=${DEVICE:-cuda} LIMIT=${LIMIT:-1000} SECONDS_LEFT=${SECONDS_LEFT:-530} TRAIN_LIMIT=${TRAIN_LIMIT:-} EPOCHS=${EPOCHS:-}
SEEDS=${SEEDS:-0 1 2} RUNS=${RUNS:-runs/gpu} PRECISION=${PRECISION:-} REGRET=${REGRET:-}
SPEED=${SPEED:---model vae-grey,vae-colour,glow-fashion-mnist,glow-cifar10 --detector rose-ekfac,rose-diag,elbo,nll,ic-png,lr-e --rounds 3}
PYTHON=${PYTHON:-$(if [ -x .venv/bin/python ]; then echo "$PWD/.venv/bin/python"; else echo python3; fi)}
export PYTHON
case ${1:-} in
    pack | run | collect) "$1" "${2:?a step, or for collect a folder}" ;;
    next) describe "${2:?a step}" && if [ -n "$spec" ]; then next_seeds "$2"; fi ;;
    --dry-run) shift && dry_run "$@" ;;
    *) sed -n '2,/^set/p' "$0" | grep '^#' | cut -c3-; echo "Steps: $STEPS"; exit 2 ;;
esac
