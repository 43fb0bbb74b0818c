#!/usr/bin/env bash
# Build an environment. Usage: requirements/setup_env.sh [PYTHON [VENV [REQUIREMENTS]]]; default: .venv, the pinned stack.
# Works on a bare Debian/Ubuntu: what is missing there (venv, libGL) is installed by apt as root, or named.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
venv=${2:-.venv}
stack=${3:-requirements/pinned.txt}

"$python" - <<'PY' || { echo "mm_graft needs Python >= 3.10; run: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 10))
PY

apt_install() {
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$@" >/dev/null
    else
        echo "missing system packages; run: sudo apt-get install $*" >&2
        exit 1
    fi
}

rm -rf "$venv"
if ! "$python" -m venv "$venv" 2>/dev/null; then
    apt_install python3-venv
    "$python" -m venv "$venv"
fi

echo "Installing $stack into $venv (about 5 GB, a few minutes)"
# --no-cache-dir: a cached mmcv wheel that was built against another torch breaks at import.
"$venv/bin/pip" install --disable-pip-version-check --no-cache-dir -q --progress-bar off \
    -r "$stack" -r requirements/runtime.txt -r requirements/tests.txt
"$venv/bin/pip" install --disable-pip-version-check -q --no-deps -e .

if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    apt_install libgl1 libglib2.0-0
fi
"$venv/bin/python" -c 'import cv2, mmpretrain, mm_graft; print("mm_graft", mm_graft.__version__, "is ready")' \
    2>/dev/null | tail -n 1
touch "$venv/.complete"
