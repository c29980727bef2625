# Sourced by the other scripts: makes or reuses .venv beside the sources and installs this checkout into it.
# usage: . scripts/venv.sh EXTRAS     e.g. dev; "" for none (without an argument a sourced file would see its caller's)
set -euo pipefail
extras=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vid needs Python 3.11 or newer; set PYTHON=/path/to/python" >&2; exit 2; }
[ -x .venv/bin/python ] || "$python" -m venv .venv
wanted=$(sha256sum < pyproject.toml | cut -c1-16)
stamp=.venv/.installed-${extras:-base}
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  echo "installing into $root/.venv (the first time this fetches torch, some minutes) ..." >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}"
  echo "$wanted" > "$stamp"
fi
export PATH="$root/.venv/bin:$PATH"
