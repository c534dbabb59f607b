#!/usr/bin/env bash
# Brings ONNX Runtime's shared library into .tools/onnxruntime, out of its PyPI wheel, checked by hash.
source "$(dirname "$0")/lib.sh"

wanted="$tools/onnxruntime/onnxruntime/capi/libonnxruntime.so.1.31.1"
if [ ! -f "$wanted" ]; then
    uv=$("$root/scripts/uv.sh")
    say "ONNX Runtime 1.31.1"
    rm -rf "$tools/onnxruntime" "$tools/onnxruntime.new"
    "$uv" pip install --quiet --no-deps --only-binary :all: --require-hashes --python "$(command -v python3)" \
        --target "$tools/onnxruntime.new" --requirements "$root/scripts/onnxruntime.txt"
    mv "$tools/onnxruntime.new" "$tools/onnxruntime"
    [ -f "$wanted" ] || die "the wheel of ONNX Runtime holds no $(basename "$wanted")"
fi
