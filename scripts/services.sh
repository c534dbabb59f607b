#!/usr/bin/env bash
# Makes sure that there are MLflow, moto's S3, a WebDAV server (in .tools/services) and a server of Google's storage API
# (in .tools/bin) for the tests, which start their own throw-away ones.
source "$(dirname "$0")/lib.sh"

uv="$("$root/scripts/uv.sh")"
export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT="$tools/services"
"$uv" sync --quiet --project "$root/training" --locked --only-group services
"$tools/services/bin/python" -c 'import cheroot, mlflow, moto, wsgidav' ||
    die "MLflow, moto and WsgiDAV were installed, and cannot be imported"
go_install fake-gcs-server github.com/fsouza/fake-gcs-server@v1.56.1
