#!/usr/bin/env bash
# Makes sure that there are MLflow and moto's S3 for the tests, which start their own throw-away servers, in .tools/services.
source "$(dirname "$0")/lib.sh"

uv="$("$root/scripts/uv.sh")"
export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT="$tools/services"
"$uv" sync --quiet --project "$root/training" --locked --only-group services
"$tools/services/bin/python" -c 'import mlflow, moto' || die "MLflow and moto were installed, and cannot be imported"
