//! Statistics of a view, as GetFeatureView tells them.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    catalog::FeatureView,
    error::{Error, ErrorKind, Result},
    features::{
        Distribution, FeatureStatistics, Timestamp, Value, ViewStatistics, view_statistics,
    },
    grpc::{
        FeatureApi,
        convert::{wire_timestamp, wire_value},
        pb,
    },
};

/// Views that are gone through at once: each takes a core and a connection.
const SCANS_MAX: usize = 2;

/// The places of those who go through all rows of a view.
#[derive(Clone)]
pub struct Scans {
    places: Arc<Semaphore>,
}

impl Default for Scans {
    fn default() -> Scans {
        Scans {
            places: Arc::new(Semaphore::new(SCANS_MAX)),
        }
    }
}

impl FeatureApi {
    pub(in crate::grpc) async fn statistics(&self, view: &FeatureView) -> Result<ViewStatistics> {
        let _place = self.scans.places.try_acquire().map_err(|_| {
            Error::new(
                ErrorKind::Overloaded,
                format!(
                    "{SCANS_MAX} callers go through the rows of a view already; try again later"
                ),
            )
        })?;
        view_statistics(self.store.as_ref(), view, Timestamp::now()).await
    }
}

pub(super) fn wire_statistics(statistics: ViewStatistics) -> pb::ViewStatistics {
    let rows = statistics.rows;
    let features = statistics.features.into_iter();
    pb::ViewStatistics {
        rows,
        oldest_event_timestamp: statistics.oldest.map(wire_timestamp),
        newest_event_timestamp: statistics.newest.map(wire_timestamp),
        outside_ttl: statistics.outside_ttl,
        features: features
            .map(|feature| wire_feature(feature, rows))
            .collect(),
    }
}

fn wire_feature(feature: FeatureStatistics, rows: u64) -> pb::FeatureStatistics {
    pb::FeatureStatistics {
        null_share: feature.missing_share(rows),
        name: feature.name,
        distinct: feature.distinct,
        distribution: feature.distribution.map(wire_distribution),
        frequent: feature.frequent.into_iter().map(wire_frequent).collect(),
        not_finite: feature.not_finite,
    }
}

fn wire_frequent((value, count): (Value, u64)) -> pb::FrequentValue {
    pb::FrequentValue {
        value: Some(wire_value(value)),
        count,
    }
}

fn wire_distribution(distribution: Distribution) -> pb::Distribution {
    pb::Distribution {
        min: distribution.min,
        max: distribution.max,
        mean: distribution.mean,
        standard_deviation: distribution.standard_deviation,
        quantiles: distribution.quantiles,
    }
}
