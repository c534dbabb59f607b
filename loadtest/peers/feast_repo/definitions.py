"""The view that Ferrocast serves, with the same rows, as Feast defines it."""

import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
rows = FileSource(name="rows", path=os.environ["ROWS"], timestamp_field="event_timestamp")
wide = FeatureView(
    name="wide",
    entities=[user],
    ttl=timedelta(0),
    schema=[Field(name=f"f{index}", dtype=Float64) for index in range(30)],
    source=rows,
)
service = FeatureService(name="wide", features=[wide])
