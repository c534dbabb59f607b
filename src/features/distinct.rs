//! Rows of entities of which some may be named more than once: each is read once.

use std::{collections::HashMap, time::Duration};

use super::{EntityKey, Freshness, OnlineStore, ReadRow};
use crate::{catalog::FeatureView, error::Result};

/// The rows of a view, as entities were asked for.
pub(super) struct ViewRows {
    rows: Vec<Option<ReadRow>>,
    repeats: Option<Repeats>,
    /// How long ago they were read from the store, at the most.
    pub(super) age_bound: Duration,
}

impl ViewRows {
    /// Reads each row once.
    ///
    /// # Errors
    /// As `OnlineStore::read` and, for the past, as `OnlineStore::read_as_of`.
    pub(super) async fn read(
        store: &dyn OnlineStore,
        view: &FeatureView,
        keys: &[EntityKey],
        freshness: Freshness,
    ) -> Result<ViewRows> {
        let repeats = Repeats::among(keys);
        let distinct = repeats.as_ref().map_or(keys, |repeats| &repeats.distinct);
        let (rows, age_bound) = if freshness.is_past {
            let rows = store.read_as_of(view, distinct, freshness.now).await?;
            let rows = rows.into_iter().map(|row| row.map(ReadRow::Own));
            (rows.collect(), Duration::ZERO)
        } else {
            store.read_aged(view, distinct).await?
        };
        Ok(ViewRows {
            rows,
            repeats,
            age_bound,
        })
    }

    /// How many entities were asked for.
    pub(super) fn len(&self) -> usize {
        self.repeats
            .as_ref()
            .map_or(self.rows.len(), |repeats| repeats.places.len())
    }

    /// The row of an entity, and whether it is no later one's.
    pub(super) fn get(&mut self, entity: usize) -> (Option<&mut ReadRow>, bool) {
        let place = match &self.repeats {
            None => Some((entity, true)),
            Some(repeats) => repeats.places.get(entity).copied(),
        };
        let (row, is_last) = place.unwrap_or((usize::MAX, true));
        (self.rows.get_mut(row).and_then(Option::as_mut), is_last)
    }
}

/// Which of some keys are the same.
struct Repeats {
    distinct: Vec<EntityKey>,
    /// Of each key, its position in `distinct`, and whether it is the last with that.
    places: Vec<(usize, bool)>,
}

impl Repeats {
    /// None where no two keys are the same.
    fn among(keys: &[EntityKey]) -> Option<Repeats> {
        let mut known = HashMap::with_capacity(keys.len());
        for key in keys {
            let next = known.len();
            known.entry(key).or_insert(next);
        }
        if known.len() == keys.len() {
            return None;
        }
        let mut distinct: Vec<(usize, &EntityKey)> =
            known.iter().map(|(k, at)| (*at, *k)).collect();
        distinct.sort_unstable_by_key(|(at, _)| *at);
        let mut seen = vec![false; distinct.len()];
        let backwards = keys.iter().rev().filter_map(|key| {
            let at = *known.get(key)?;
            let was_seen = std::mem::replace(seen.get_mut(at)?, true);
            Some((at, !was_seen))
        });
        let mut places: Vec<(usize, bool)> = backwards.collect();
        places.reverse();
        Some(Repeats {
            distinct: distinct.into_iter().map(|(_, key)| key.clone()).collect(),
            places,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::features::{RowTime, StoredRow, Timestamp, Value};

    fn keys(names: &str) -> Vec<EntityKey> {
        let key =
            |name: char| EntityKey::new(vec![Value::String(name.to_string().into())]).unwrap();
        names.chars().map(key).collect()
    }

    #[test]
    fn an_entity_is_read_once_however_often_it_is_named() {
        assert!(Repeats::among(&keys("")).is_none());
        assert!(Repeats::among(&keys("abc")).is_none());
        let repeats = Repeats::among(&keys("abacb")).unwrap();
        assert_eq!(repeats.distinct, keys("abc"));
        let places = [(0, false), (1, false), (0, true), (2, true), (1, true)];
        assert_eq!(repeats.places, places);
    }

    #[test]
    fn each_entity_finds_its_row() {
        let time = RowTime {
            event_timestamp: Timestamp::EPOCH,
            created_at: Timestamp::EPOCH,
        };
        let row = |number| {
            let row = StoredRow::whole(time, vec![Value::Int64(number)]);
            Some(ReadRow::Own(row))
        };
        let mut rows = ViewRows {
            rows: vec![row(1), None],
            repeats: Repeats::among(&keys("aba")),
            age_bound: Duration::ZERO,
        };
        assert_eq!(rows.len(), 3);
        assert_eq!(rows.get(0), (row(1).as_mut(), false));
        assert_eq!(rows.get(1), (None, true));
        assert_eq!(rows.get(2), (row(1).as_mut(), true));
        assert_eq!(rows.get(3), (None, true));
    }
}
