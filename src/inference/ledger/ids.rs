//! What the id of a prediction tells: when it was made, and whether it is kept.
//!
//! Ids are UUIDs of version 7: the first 48 bits count the milliseconds since 1970. So ids of one time lie together, in the
//! order of time, and the day of a prediction follows from its id alone, whatever any clock says later.

use uuid::Uuid;

use crate::features::Timestamp;

/// A day, in milliseconds.
const DAY_MILLIS: u64 = 86_400_000;

/// Below the milliseconds of an id.
const RANDOM_BITS: u32 = 80;

/// The greatest time that an id can tell.
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// All predictions, in hundredths of a percent.
pub const SAMPLE_WHOLE: u32 = 10_000;

/// The days from 1970-01-01 (UTC) to that of an id.
pub fn day_of(id: Uuid) -> u64 {
    millis_of(id) / DAY_MILLIS
}

/// The least id of a day, counted from 1970-01-01 (UTC).
pub fn first_id_of_day(day: u64) -> Uuid {
    first_id_of(day.saturating_mul(DAY_MILLIS))
}

/// The least id of a time or later. Times before 1970 are 1970.
pub fn first_id_at(time: Timestamp) -> Uuid {
    let micros = u64::try_from(time.micros()).unwrap_or_default();
    first_id_of(micros.div_ceil(1_000))
}

/// The id that comes next.
pub fn id_after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// The day of a point in time, counted from 1970-01-01 (UTC).
pub fn day_at(time: Timestamp) -> u64 {
    let micros = u64::try_from(time.micros()).unwrap_or_default();
    micros / (DAY_MILLIS * 1_000)
}

/// Whether a prediction is among a share of all, in hundredths of a percent: the same on every server, always.
pub fn is_sampled(id: Uuid, share: u32) -> bool {
    if share >= SAMPLE_WHOLE {
        return true;
    }
    // The low half is mostly random; mixed, so that a counter in it makes no pattern. (The end of SplitMix64.)
    let (_, mut mixed) = id.as_u64_pair();
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    mixed % u64::from(SAMPLE_WHOLE) < u64::from(share)
}

fn millis_of(id: Uuid) -> u64 {
    u64::try_from(id.as_u128() >> RANDOM_BITS).unwrap_or_default()
}

fn first_id_of(millis: u64) -> Uuid {
    Uuid::from_u128(u128::from(millis.min(MILLIS_MAX)) << RANDOM_BITS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn the_day_is_that_of_the_id_to_the_millisecond() {
        let midnight = at("2026-11-22T00:00:00Z");
        let day = day_at(midnight);
        assert_eq!(first_id_at(midnight), first_id_of_day(day));
        assert_eq!(day_of(first_id_at(midnight)), day);
        assert_eq!(day_of(first_id_at(at("2026-11-21T23:59:59.999Z"))), day - 1);
        // Ids know no microseconds: what begins within a millisecond begins with the next one.
        assert_eq!(
            first_id_at(at("2026-11-21T23:59:59.999001Z")),
            first_id_of_day(day)
        );
        let id = Uuid::now_v7();
        assert!(first_id_of_day(day_of(id)) < id && id < first_id_of_day(day_of(id) + 1));
    }

    #[test]
    fn a_sample_is_a_share_of_ids_and_always_the_same() {
        let ids: Vec<Uuid> = (0..20_000).map(|_| Uuid::now_v7()).collect();
        let taken = |share| ids.iter().filter(|id| is_sampled(**id, share)).count();
        assert_eq!((taken(0), taken(SAMPLE_WHOLE)), (0, ids.len()));
        // 10 percent of 20,000, give or take five standard deviations.
        let tenth = taken(1_000);
        assert!((1_788..=2_212).contains(&tenth), "{tenth}");
        // Whoever is in the smaller share is in the greater one.
        assert!(
            ids.iter()
                .all(|id| !is_sampled(*id, 1_000) || is_sampled(*id, 5_000))
        );
        // Pinned: servers of two versions have to agree.
        let id = Uuid::from_u128(0x01a1_fd2d_9681_75cd_a006_b7ab_72c2_35c5);
        let least = (0..=SAMPLE_WHOLE).find(|share| is_sampled(id, *share));
        assert_eq!(least, Some(PINNED_LEAST));
    }

    const PINNED_LEAST: u32 = 1_911;
}
