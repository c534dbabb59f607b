"""What the exporters' graphs need before they can be served."""

import onnx

# A clock, a random id: another file each time.
STAMPS = ("train_finish_time", "model_guid", "training")


def without_zipmap(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let a classifier answer its probabilities as a tensor [rows, classes] instead of a list of maps.

    For exporters that know no option for it, as CatBoost's own. The output keeps the name of the tensor that
    the ZipMap read.
    """
    found = [node for node in model.graph.node if node.op_type == "ZipMap"]
    for node in found:
        model.graph.node.remove(node)
        outputs = {output.name: output for output in model.graph.output}
        model.graph.output.remove(outputs[node.output[0]])
        probabilities = onnx.helper.make_tensor_value_info(
            node.input[0], onnx.TensorProto.FLOAT, [None, None]
        )
        model.graph.output.append(probabilities)
    return model


def content(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a graph, the same for the same training."""
    stamps = [each for each in model.metadata_props if each.key in STAMPS]
    for each in stamps:
        model.metadata_props.remove(each)
    domains = {(opset.domain, opset.version) for opset in model.opset_import}
    del model.opset_import[:]
    for domain, version in sorted(domains):
        model.opset_import.append(onnx.helper.make_opsetid(domain, version))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
