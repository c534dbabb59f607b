//! Numbers, values and tables as a person reads them on a terminal.

use crate::{
    catalog::ValueType,
    features::{Timestamp, Value},
};

/// Characters of a strip.
const STRIP_CHARS: usize = 25;

/// Characters of a text that are shown.
const TEXT_CHARS_MAX: usize = 24;

/// Rows of cells as lines, each column as wide as its widest cell; all but the first are flush right, the last is not.
pub(super) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| {
            if column < 2 || column + 1 == columns {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A number in a few digits.
pub(super) fn number(number: f64) -> String {
    if number == number.trunc() && number.abs() < 1e9 {
        return format!("{number:.0}");
    }
    if number != 0.0 && !(1e-3..1e9).contains(&number.abs()) {
        return format!("{number:.2e}");
    }
    // Four digits that count.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between -3 and 9, and below 0 none"
    )]
    let decimals = (3.0 - number.abs().max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{number:.decimals$}")
}

/// What was measured of a value of a type: of a point in time the seconds since 1970.
pub(super) fn measured(measure: f64, value_type: ValueType) -> String {
    if value_type != ValueType::Timestamp {
        return number(measure);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a point in time is within an i64"
    )]
    let time = Timestamp::from_micros((measure * 1e6) as i64);
    time.map_or_else(|| number(measure), |time| time.to_string())
}

/// A value, cut where it is long, without characters that a terminal acts on.
pub(super) fn value(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let mut shown: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// The quantiles 1, 5, 25, 50, 75, 95 and 99 % on a line from the first to the last: ends, arms, box and median.
pub(super) fn strip(quantiles: &[f64]) -> String {
    let [least, low, lower, median, upper, high, greatest] = quantiles else {
        return String::new();
    };
    let span = greatest - least;
    if span <= 0.0 || !span.is_finite() {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "a few characters")]
    let last = (STRIP_CHARS - 1) as f64;
    let place = |quantile: &f64| ((quantile - least) / span * last).round();
    let (low, lower) = (place(low), place(lower));
    let (upper, high) = (place(upper), place(high));
    let median = place(median);
    let at = |position: usize| {
        #[expect(clippy::cast_precision_loss, reason = "a few characters")]
        let position = position as f64;
        if position == median {
            '┃'
        } else if (lower..=upper).contains(&position) {
            '█'
        } else if (low..=high).contains(&position) {
            '─'
        } else {
            '·'
        }
    };
    (0..STRIP_CHARS).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (given, shown) in [
            (0.0, "0"),
            (-3.0, "-3"),
            (65_000.0, "65000"),
            (12.345_678, "12.35"),
            (0.012_345_6, "0.01235"),
            (1.5e-7, "1.50e-7"),
            (f64::MAX, "1.80e308"),
            (1234.56, "1235"),
        ] {
            assert_eq!(number(given), shown);
        }
        assert_eq!(measured(0.0, ValueType::Timestamp), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_strip_has_its_box_where_the_values_are() {
        let strip = strip(&[0.0, 0.0, 2.0, 12.0, 12.0, 18.0, 24.0]);
        assert_eq!(strip, "──██████████┃──────······");
        assert_eq!(super::strip(&[1.0; 7]), "");
    }

    #[test]
    fn texts_are_cut_and_harmless() {
        assert_eq!(
            value(&Value::String("a\u{1b}[2J".into())),
            "\"a\\u{1b}[2J\""
        );
        let long = Value::String("x".repeat(100).into());
        assert!(value(&long).chars().count() < 30);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [vec!["a", "bb", "c"], vec!["aaa", "b", "cc"]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect());
        assert_eq!(lines(&rows), ["a    bb  c", "aaa  b   cc"]);
    }
}
