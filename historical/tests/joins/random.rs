//! Random cells. The values are few, so that keys meet and times tie.

use crate::cells::Cell;

/// SplitMix64: the same numbers for the same seed, everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A time in a narrow range, about 1970 and before it.
    pub fn time(&mut self, range: usize) -> i64 {
        i64::try_from(self.below(range)).unwrap() - i64::try_from(range / 3).unwrap()
    }

    /// Stretches of time in the range of `time`, and beyond it on both sides.
    pub fn stretches(&mut self, range: usize) -> Vec<(i64, i64)> {
        let (step, range) = (range / 12 + 1, i64::try_from(range).unwrap());
        let mut steps = || i64::try_from(1 + self.below(step)).unwrap();
        let (mut at, mut stretches) = (-range, Vec::new());
        while at < range {
            let start = at + steps();
            at = start + steps();
            stretches.push((start, at));
        }
        stretches
    }

    pub fn key(&mut self, key_type: &str, keys: usize) -> Cell {
        let number = self.below(keys);
        match key_type {
            "string" if number == 0 => Cell::Text(String::new()),
            "string" if number.is_multiple_of(7) => {
                Cell::Text(format!("a rather long key {number}"))
            }
            "string" => Cell::Text(format!("k{number}")),
            "bytes" => Cell::Bytes(vec![0xff; number % 5 + number / 5 * 20]),
            _ => Cell::Int(i64::try_from(number).unwrap() - 3),
        }
    }

    pub fn cell(&mut self, value_type: &str) -> Cell {
        if self.one_in(6) {
            return Cell::Null;
        }
        if let Some(item) = value_type.strip_prefix("list<") {
            let item = item.trim_end_matches('>').to_owned();
            let length = self.below(4);
            return Cell::List((0..length).map(|_| self.cell(&item)).collect());
        }
        match value_type {
            "bool" => Cell::Bool(self.one_in(2)),
            "int32" => Cell::Int(self.pick(&[i32::MIN, -1, 0, 7, i32::MAX]).into()),
            "int64" => Cell::Int(self.pick(&[i64::MIN, -1, 0, (1 << 53) + 1, i64::MAX])),
            "float" => Cell::Float(self.pick(&[f32::NAN, -0.0, 0.1, f32::INFINITY]).to_bits()),
            "double" => Cell::Double(self.pick(&[f64::NAN, -0.0, 0.1, f64::MIN]).to_bits()),
            "string" => Cell::Text(
                self.pick(&["", "a", "ä€😀", "a text of some length"])
                    .to_owned(),
            ),
            "bytes" => Cell::Bytes(vec![0; self.pick(&[0, 1, 40])]),
            "timestamp" => {
                Cell::Time(self.pick(&[-62_135_596_800_000_000, -1, 0, 253_402_300_799_999_999]))
            }
            other => panic!("{other} is no type"),
        }
    }
}
