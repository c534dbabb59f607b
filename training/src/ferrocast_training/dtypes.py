"""What the feature types are called in pandas and in Arrow."""

import pyarrow as pa

# Nullable: a whole number with a missing value must not turn into a float on the way.
PANDAS_TYPES = {
    "int32": "Int32",
    "int64": "Int64",
    "float": "Float32",
    "double": "Float64",
    "string": "string",
}
ARROW_TYPES = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
