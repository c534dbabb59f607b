//! A feature view in the words of the wire, for those who are no caller of it.

use prost::Message as _;

use crate::{
    catalog::FeatureView,
    error::{Error, Result},
    features::{MaterializationRecord, ViewStatistics},
    grpc::{DESCRIPTOR_SET, describe_view},
};

/// A view as `GET /v1/featureViews/{view}?statistics=true` answers, as indented JSON.
pub fn view_json(
    view: &FeatureView,
    records: Vec<MaterializationRecord>,
    statistics: ViewStatistics,
) -> Result<String> {
    let described = describe_view(view, records, Some(statistics)).encode_to_vec();
    ferrocast_gateway::message_to_json(DESCRIPTOR_SET, "ferrocast.v1.FeatureView", &described)
        .map_err(|fault| Error::internal("the view cannot be written as JSON").with_source(fault))
}
