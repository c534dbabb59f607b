//! Columns of times as microseconds since 1970 in UTC.
//!
//! A time without a zone is UTC; nanoseconds below a microsecond are cut downwards; a date is its midnight.

use arrow_array::{
    Array, ArrowPrimitiveType, Int64Array,
    cast::AsArray,
    types::{
        Date32Type, Date64Type, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType,
    },
};
use arrow_schema::{DataType, TimeUnit};

use crate::convert::{CellFault, unfit};

const DAY_MICROS: i64 = 86_400_000_000;
/// 0001-01-01T00:00:00Z, the earliest that the server keeps.
pub(crate) const MICROS_MIN: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z, the latest that the server keeps.
pub(crate) const MICROS_MAX: i64 = 253_402_300_799_999_999;

/// The times of a column whose type `Scalar::Timestamp` accepts; dictionaries are unpacked before.
///
/// # Errors
/// The first time outside the years 1 to 9999.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "arrow has some forty types; three hold times"
)]
pub(crate) fn micros(array: &dyn Array) -> Result<Int64Array, CellFault> {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            scaled::<TimestampSecondType>(array, |t| t.checked_mul(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            scaled::<TimestampMillisecondType>(array, |t| t.checked_mul(1_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            scaled::<TimestampMicrosecondType>(array, Some)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            scaled::<TimestampNanosecondType>(array, |t| Some(t.div_euclid(1_000)))
        }
        DataType::Date32 => {
            scaled::<Date32Type>(array, |days| i64::from(days).checked_mul(DAY_MICROS))
        }
        DataType::Date64 => scaled::<Date64Type>(array, |t| t.checked_mul(1_000)),
        DataType::Null => Ok(Int64Array::new_null(array.len())),
        _ => Err(unfit(array, "timestamp")),
    }
}

fn scaled<T: ArrowPrimitiveType>(
    array: &dyn Array,
    scale: impl Fn(T::Native) -> Option<i64>,
) -> Result<Int64Array, CellFault> {
    let array = array
        .as_primitive_opt::<T>()
        .ok_or_else(|| unfit(array, "timestamp"))?;
    let cells = array.iter().enumerate().map(|(index, cell)| {
        let Some(time) = cell else { return Ok(None) };
        let micros = scale(time).filter(|micros| (MICROS_MIN..=MICROS_MAX).contains(micros));
        micros.map(Some).ok_or_else(|| CellFault {
            index,
            sentence: "a time outside the years 1 to 9999".to_owned(),
        })
    });
    cells.collect()
}
