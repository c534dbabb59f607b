//! Whether a row is too old. The server asks here when it serves, and ferrocast-historical when it joins: there is no second
//! answer. Times are microseconds since 1970 in UTC.

/// Stretches of time in which nothing ages, as a weekend without trading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffTime {
    /// Where each begins.
    starts: Vec<i64>,
    /// How much time is off before each of them, and then in all.
    off_before: Vec<i64>,
}

impl OffTime {
    /// From the stretches, each from its begin to before its end, in the order of time, with time between them.
    ///
    /// # Errors
    /// The number of the first stretch that ends before it has begun, or begins before the one ahead of it is over.
    pub fn new(stretches: impl IntoIterator<Item = (i64, i64)>) -> Result<OffTime, usize> {
        let (mut starts, mut off_before) = (Vec::new(), vec![0]);
        let (mut off, mut ahead) = (0_i64, None);
        for (number, (start, end)) in stretches.into_iter().enumerate() {
            let length = end.checked_sub(start).filter(|length| *length > 0);
            let sum = length.and_then(|length| off.checked_add(length));
            let (Some(sum), true) = (sum, ahead.is_none_or(|ahead| ahead < start)) else {
                return Err(number);
            };
            (off, ahead) = (sum, Some(end));
            starts.push(start);
            off_before.push(off);
        }
        Ok(OffTime { starts, off_before })
    }

    /// The stretches that it was made from.
    pub fn stretches(&self) -> impl Iterator<Item = (i64, i64)> {
        let ends = self.off_before.iter().skip(1);
        let sums = self.off_before.iter().zip(ends);
        let stretch =
            |(start, (before, after)): (&i64, (&i64, &i64))| (*start, start + after - before);
        self.starts.iter().zip(sums).map(stretch)
    }

    /// How much of the time between two moments is off.
    pub fn between(&self, from: i64, to: i64) -> i64 {
        self.before(to) - self.before(from)
    }

    fn before(&self, at: i64) -> i64 {
        let begun = self.starts.partition_point(|start| *start <= at);
        let Some(last) = begun.checked_sub(1) else {
            return 0;
        };
        let sums = (self.off_before.get(last), self.off_before.get(begun));
        let (Some(start), (Some(before), Some(after))) = (self.starts.get(last), sums) else {
            return 0;
        };
        before + (after - before).min(at.saturating_sub(*start))
    }
}

/// Whether at `now` what is of the time `event` is older than `ttl`, where the time of `off` does not count; exactly as old is
/// not. What is too old stays so.
pub fn is_outside(ttl: i64, off: Option<&OffTime>, event: i64, now: i64) -> bool {
    let passed = now.saturating_sub(event);
    // Time off makes a row no older: mostly this is all there is to ask.
    if passed <= ttl {
        return false;
    }
    off.is_none_or(|off| passed.saturating_sub(off.between(event, now)) > ttl)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn time_off_is_told_of_any_two_moments() {
        let off = OffTime::new([(10, 20), (30, 31), (40, 60)]).unwrap();
        let is_off = |at: i64| (10..20).contains(&at) || at == 30 || (40..60).contains(&at);
        for from in 0..70 {
            for to in from..70 {
                let counted = (from..to).filter(|at| is_off(*at)).count();
                assert_eq!(
                    off.between(from, to),
                    i64::try_from(counted).unwrap(),
                    "{from} to {to}"
                );
            }
        }
        let stretches: Vec<(i64, i64)> = off.stretches().collect();
        assert_eq!(stretches, [(10, 20), (30, 31), (40, 60)]);
    }

    #[test]
    fn exactly_as_old_is_fresh_and_what_is_too_old_stays_so() {
        let off = OffTime::new([(10, 20)]).unwrap();
        let outside = |event, now| is_outside(5, Some(&off), event, now);
        assert!(!outside(0, 5) && outside(0, 6) && outside(0, 15));
        // Half before the stretch, half after it.
        assert!(!outside(7, 22) && outside(7, 23));
        // Of a moment that is off: it ages from the end on.
        assert!(!outside(12, 25) && outside(12, 26));
        // Asked for while it is off.
        assert!(!outside(5, 15) && outside(4, 15));
        // Of the future.
        assert!(!outside(100, 0) && !outside(i64::MAX, i64::MIN) && outside(i64::MIN, i64::MAX));
        assert!(!is_outside(5, None, 0, 5) && is_outside(5, None, 0, 6));
        for event in 0..30 {
            let ages: Vec<bool> = (event..50).map(|now| outside(event, now)).collect();
            assert!(ages.is_sorted(), "{event}: {ages:?}");
        }
    }

    #[test]
    fn stretches_out_of_order_are_named() {
        assert_eq!(OffTime::new([(1, 1)]), Err(0));
        assert_eq!(OffTime::new([(1, 3), (2, 4)]), Err(1));
        assert_eq!(OffTime::new([(1, 3), (3, 4)]), Err(1));
        assert_eq!(OffTime::new([(5, 6), (1, 2)]), Err(1));
        assert_eq!(OffTime::new([(i64::MIN, i64::MAX)]), Err(0));
        assert_eq!(OffTime::new([]).unwrap().between(0, 9), 0);
    }
}
