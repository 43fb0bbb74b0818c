#!/usr/bin/env bash
# Build .venv-peers: the pinned environment as it is, and lightly and stable-pretraining on top. Usage: setup_peers.sh VENV
set -euo pipefail
cd "$(dirname "$0")/.."
base=$(cd "${1:-.venv}" && pwd)
rm -rf .venv-peers
"$base/bin/python" -m venv .venv-peers
packages=$(.venv-peers/bin/python -c 'import site; print(site.getsitepackages()[0])')
"$base/bin/python" -c 'import site; print(site.getsitepackages()[0])' > "$packages/base.pth"
pwd >> "$packages/base.pth"
.venv-peers/bin/pip install --disable-pip-version-check -q --progress-bar off -r requirements/peers.txt \
    -c requirements/pinned.txt
# a second OpenCV would hide the one that our loaders are measured with
.venv-peers/bin/pip uninstall -y -q opencv-python-headless
touch .venv-peers/.complete
