#!/bin/sh
# Install Millrace from the checkout in the working directory into a new virtual environment: install.sh DIR
set -eu
python3 -m venv "$1"
"$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes -r requirements.lock
"$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps .
"$1/bin/millrace" --help > /dev/null
