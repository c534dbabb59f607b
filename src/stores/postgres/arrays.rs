//! Lists as Postgres arrays: the binary form of a cell, and the text of one, which can stand in a parameter where an
//! array of arrays cannot.

use std::{fmt::Write as _, str};

use bytes::{BufMut, BytesMut};

use super::values::{Unfit, driver_type, postgres_micros, put_bytes, read_timestamp};
use crate::{catalog::ScalarType, features::ListValue};

/// Dimensions, whether there are nulls, and the elements' type.
const HEADER_BYTES: usize = 12;
/// How many elements there are, and the number of the first.
const DIMENSION_BYTES: usize = 8;
/// What stands before each element.
const LENGTH_BYTES: usize = 4;

/// How long `put_body` will be.
pub(super) fn body_bytes(list: &ListValue) -> usize {
    if list.is_empty() {
        return HEADER_BYTES;
    }
    let content: usize = match list {
        ListValue::Bool(values) => values.len(),
        ListValue::Int32(values) => values.len() * 4,
        ListValue::Float(values) => values.len() * 4,
        ListValue::Int64(values) => values.len() * 8,
        ListValue::Double(values) => values.len() * 8,
        ListValue::Timestamp(values) => values.len() * 8,
        ListValue::String(values) => values.iter().map(String::len).sum(),
        ListValue::Bytes(values) => values.iter().map(Vec::len).sum(),
    };
    HEADER_BYTES + DIMENSION_BYTES + list.len() * LENGTH_BYTES + content
}

/// Adds the binary form of an array of one dimension without nulls; an empty one has no dimension.
pub(super) fn put_body(list: &ListValue, out: &mut BytesMut) -> Result<(), Unfit> {
    out.reserve(body_bytes(list));
    out.put_i32(i32::from(!list.is_empty()));
    out.put_i32(0);
    out.put_u32(driver_type(list.element_type().value_type()).oid());
    if list.is_empty() {
        return Ok(());
    }
    out.put_i32(i32::try_from(list.len())?);
    out.put_i32(1);
    match list {
        ListValue::Bool(values) => {
            for value in values {
                out.put_i32(1);
                out.put_u8(u8::from(*value));
            }
        }
        ListValue::Int32(values) => {
            for value in values {
                out.put_i32(4);
                out.put_i32(*value);
            }
        }
        ListValue::Float(values) => {
            for value in values {
                out.put_i32(4);
                out.put_f32(*value);
            }
        }
        ListValue::Int64(values) => {
            for value in values {
                out.put_i32(8);
                out.put_i64(*value);
            }
        }
        ListValue::Double(values) => {
            for value in values {
                out.put_i32(8);
                out.put_f64(*value);
            }
        }
        ListValue::Timestamp(values) => {
            for value in values {
                out.put_i32(8);
                out.put_i64(postgres_micros(*value));
            }
        }
        ListValue::String(values) => {
            for value in values {
                put_bytes(value.as_bytes(), out)?;
            }
        }
        ListValue::Bytes(values) => {
            for value in values {
                put_bytes(value, out)?;
            }
        }
    }
    Ok(())
}

/// What is left of a cell's bytes.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn number(&mut self) -> Result<i32, Unfit> {
        let (head, rest) = self.0.split_first_chunk().ok_or("an array that is cut")?;
        self.0 = rest;
        Ok(i32::from_be_bytes(*head))
    }

    /// The bytes of the next element; a null has a length below zero.
    fn element(&mut self) -> Result<&'a [u8], Unfit> {
        let length = usize::try_from(self.number()?).map_err(|_| "a null in an array")?;
        let cut = self.0.split_at_checked(length);
        let (element, rest) = cut.ok_or("an array that is cut")?;
        self.0 = rest;
        Ok(element)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Unfit> {
        Ok(<[u8; N]>::try_from(self.element()?)?)
    }
}

/// Reads the binary form of an array.
///
/// # Errors
/// Where it holds a null or has more than one dimension: somebody else has filled the table.
pub(super) fn read(element: ScalarType, raw: &[u8]) -> Result<ListValue, Unfit> {
    let mut rest = Rest(raw);
    let dimensions = rest.number()?;
    rest.number()?;
    rest.number()?;
    if dimensions == 0 {
        return Ok(ListValue::empty(element));
    }
    if dimensions != 1 {
        return Err("an array of several dimensions".into());
    }
    let count = usize::try_from(rest.number()?)?;
    rest.number()?;
    // A length stands before each element, so there can be no more of them.
    let room = count.min(rest.0.len() / LENGTH_BYTES);
    Ok(match element {
        ScalarType::Bool => ListValue::Bool(elements(&mut rest, count, room, |r| {
            Ok(r.fixed()? != [0_u8])
        })?),
        ScalarType::Int32 => ListValue::Int32(elements(&mut rest, count, room, |r| {
            Ok(i32::from_be_bytes(r.fixed()?))
        })?),
        ScalarType::Int64 => ListValue::Int64(elements(&mut rest, count, room, |r| {
            Ok(i64::from_be_bytes(r.fixed()?))
        })?),
        ScalarType::Float => ListValue::Float(elements(&mut rest, count, room, |r| {
            Ok(f32::from_be_bytes(r.fixed()?))
        })?),
        ScalarType::Double => ListValue::Double(elements(&mut rest, count, room, |r| {
            Ok(f64::from_be_bytes(r.fixed()?))
        })?),
        ScalarType::Timestamp => ListValue::Timestamp(elements(&mut rest, count, room, |r| {
            read_timestamp(r.element()?)
        })?),
        ScalarType::String => ListValue::String(elements(&mut rest, count, room, |r| {
            Ok(str::from_utf8(r.element()?)?.to_owned())
        })?),
        ScalarType::Bytes => ListValue::Bytes(elements(&mut rest, count, room, |r| {
            Ok(r.element()?.to_vec())
        })?),
    })
}

fn elements<'a, T>(
    rest: &mut Rest<'a>,
    count: usize,
    room: usize,
    read_one: impl Fn(&mut Rest<'a>) -> Result<T, Unfit>,
) -> Result<Vec<T>, Unfit> {
    let mut values = Vec::with_capacity(room);
    for _ in 0..count {
        values.push(read_one(rest)?);
    }
    Ok(values)
}

/// The text that Postgres reads as the same array, to the bit.
pub(super) fn literal(list: &ListValue) -> String {
    let mut text = String::from("{");
    match list {
        ListValue::Bool(values) => joined(&mut text, values, |out, v| write!(out, "{v}")),
        ListValue::Int32(values) => joined(&mut text, values, |out, v| write!(out, "{v}")),
        ListValue::Int64(values) => joined(&mut text, values, |out, v| write!(out, "{v}")),
        // The shortest digits that read back as the same float, with an exponent: 1e300 has not 300 of them then.
        ListValue::Float(values) => joined(&mut text, values, |out, v| write!(out, "{v:e}")),
        ListValue::Double(values) => joined(&mut text, values, |out, v| write!(out, "{v:e}")),
        ListValue::Timestamp(values) => joined(&mut text, values, |out, v| write!(out, "\"{v}\"")),
        ListValue::Bytes(values) => joined(&mut text, values, |out, v| {
            write!(out, "\"\\\\x{}\"", hex::encode(v))
        }),
        ListValue::String(values) => joined(&mut text, values, |out, v| {
            write!(out, "\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\""))
        }),
    }
    text.push('}');
    text
}

/// Writing into a `String` cannot fail.
fn joined<T>(
    text: &mut String,
    values: &[T],
    write_one: impl Fn(&mut String, &T) -> std::fmt::Result,
) {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let _ = write_one(text, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::features::Timestamp;

    #[test]
    fn lists_read_back_from_their_binary_form() {
        let lists = [
            ListValue::Bool(vec![true, false]),
            ListValue::Int32(vec![i32::MIN, 0, i32::MAX]),
            ListValue::Int64(vec![i64::MIN, i64::MAX]),
            ListValue::Float(vec![0.1, -0.0, f32::NAN, f32::INFINITY]),
            ListValue::Double(vec![0.1, -0.0, f64::NAN, f64::NEG_INFINITY]),
            ListValue::String(vec![String::new(), "ä\"\\\n{}".to_owned()]),
            ListValue::Bytes(vec![Vec::new(), vec![0, 255]]),
            ListValue::Timestamp(vec![Timestamp::EPOCH, Timestamp::from_micros(-1).unwrap()]),
        ];
        for list in lists {
            for list in [ListValue::empty(list.element_type()), list] {
                let mut raw = BytesMut::new();
                put_body(&list, &mut raw).unwrap();
                assert_eq!(raw.len(), body_bytes(&list));
                let back = read(list.element_type(), &raw).unwrap();
                assert!(back.is_same(&list), "{list} {back}");
                for cut in 0..raw.len() {
                    let cut = raw.get(..cut).unwrap();
                    assert!(read(list.element_type(), cut).is_err());
                }
            }
        }
    }

    #[test]
    fn the_text_of_an_array_hides_nothing_in_it() {
        let text = |values: &[&str]| {
            ListValue::String(values.iter().map(|text| (*text).to_owned()).collect())
        };
        assert_eq!(literal(&text(&["a", "\\\"", ""])), r#"{"a","\\\"",""}"#);
        assert_eq!(
            literal(&ListValue::Double(vec![f64::NAN, 1e300])),
            "{NaN,1e300}"
        );
        assert_eq!(
            literal(&ListValue::Float(vec![f32::NEG_INFINITY])),
            "{-inf}"
        );
        assert_eq!(
            literal(&ListValue::Bytes(vec![vec![0, 255]])),
            r#"{"\\x00ff"}"#
        );
    }
}
