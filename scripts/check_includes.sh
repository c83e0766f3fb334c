#!/usr/bin/env bash
# Includes go one way; the order is in check_includes.py.
exec python3 "$(dirname "$0")/check_includes.py"
