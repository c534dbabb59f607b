//! The calendar of a TTL: days on which no row ages, because nothing happens on them that could make it old.

use std::{fmt, sync::Arc};

use ferrocast_freshness::OffTime;
use jiff::{
    civil::{Date, Weekday, date},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

/// Days off are known from here on; time before it ages every row.
const FIRST_DAY: Date = date(1900, 1, 1);
/// Days off are known up to here; time after it ages every row.
const LAST_DAY: Date = date(2199, 12, 31);
/// Three hundred years of a dozen holidays.
const DAYS_OFF_MAX: usize = 4_000;

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

/// Days that do not count towards a TTL. Copies share what it takes to know them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "CalendarText", into = "CalendarText")]
pub struct TtlCalendar(Arc<Resolved>);

struct Resolved {
    text: CalendarText,
    off: OffTime,
}

/// A calendar as a definitions file writes it, and as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CalendarText {
    time_zone: String,
    #[serde(default)]
    weekdays_off: Vec<String>,
    #[serde(default)]
    days_off: Vec<String>,
}

/// A key of a calendar, and what is wrong with it.
pub(super) type CalendarFault = (String, String);

impl TtlCalendar {
    /// Checks a calendar, and finds the moments at which its days begin and end.
    ///
    /// # Errors
    /// Every fault of it.
    pub(super) fn new(text: CalendarText) -> Result<TtlCalendar, Vec<CalendarFault>> {
        let mut faults = Vec::new();
        let zone = TimeZone::get(&text.time_zone).map_err(|_| {
            let fault = format!(
                "\"{}\" is no time zone; a name of the IANA database is expected, as \"America/New_York\"",
                text.time_zone
            );
            faults.push(("time_zone".to_owned(), fault));
        });
        let weekdays = read_weekdays(&text.weekdays_off, &mut faults);
        let days = read_days(&text.days_off, &mut faults);
        if text.weekdays_off.is_empty() && text.days_off.is_empty() {
            let fault = "gives neither weekdays_off nor days_off; leave it out";
            faults.push((String::new(), fault.to_owned()));
        }
        let off = zone.map(|zone| resolve(&zone, &weekdays, &days));
        if let Ok(None) = off {
            let fault = "its days have no begin and end that can be told".to_owned();
            faults.push(("time_zone".to_owned(), fault));
        }
        match off.ok().flatten() {
            Some(off) if faults.is_empty() => Ok(TtlCalendar(Arc::new(Resolved {
                text: CalendarText {
                    time_zone: text.time_zone,
                    weekdays_off: weekdays.into_iter().map(weekday_name).collect(),
                    days_off: days.iter().map(Date::to_string).collect(),
                },
                off,
            }))),
            _ => Err(faults),
        }
    }

    /// The zone whose days they are, by its name in the IANA database.
    pub fn time_zone(&self) -> &str {
        &self.0.text.time_zone
    }

    /// The days of each week that are off, from Monday on.
    pub fn weekdays_off(&self) -> &[String] {
        &self.0.text.weekdays_off
    }

    /// The single days that are off, as YYYY-MM-DD, the earliest first.
    pub fn days_off(&self) -> &[String] {
        &self.0.text.days_off
    }

    /// The time that is off.
    pub fn off(&self) -> &OffTime {
        &self.0.off
    }

    /// How many single days are off here and not there.
    pub(super) fn days_beyond(&self, other: &TtlCalendar) -> usize {
        let others = other.days_off();
        let days = self.days_off().iter();
        days.filter(|day| others.binary_search(day).is_err())
            .count()
    }
}

impl fmt::Display for TtlCalendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut off = self.weekdays_off().to_vec();
        match self.days_off().len() {
            0 => {}
            1 => off.push("1 day".to_owned()),
            days => off.push(format!("{days} days")),
        }
        write!(f, "{} without {}", self.time_zone(), off.join(", "))
    }
}

impl fmt::Debug for TtlCalendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.text.fmt(f)
    }
}

impl PartialEq for TtlCalendar {
    fn eq(&self, other: &TtlCalendar) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for TtlCalendar {}

impl TryFrom<CalendarText> for TtlCalendar {
    type Error = String;

    fn try_from(text: CalendarText) -> Result<TtlCalendar, String> {
        TtlCalendar::new(text).map_err(|faults| {
            let faults = faults.iter().map(|(key, fault)| format!("{key}: {fault}"));
            faults.collect::<Vec<_>>().join("; ")
        })
    }
}

impl From<TtlCalendar> for CalendarText {
    fn from(calendar: TtlCalendar) -> CalendarText {
        calendar.0.text.clone()
    }
}

fn weekday_name(weekday: Weekday) -> String {
    let named = WEEKDAYS.iter().find(|(_, other)| *other == weekday);
    named.map_or_else(String::new, |(name, _)| (*name).to_owned())
}

/// The weekdays in the order of the week.
fn read_weekdays(names: &[String], faults: &mut Vec<CalendarFault>) -> Vec<Weekday> {
    let mut weekdays = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let mut fault = |what: String| faults.push((format!("weekdays_off[{index}]"), what));
        match WEEKDAYS.iter().find(|(known, _)| known == name) {
            None => fault(format!(
                "\"{name}\" is no day of the week; expected is \"monday\" to \"sunday\", in lower case"
            )),
            Some((_, weekday)) if weekdays.contains(weekday) => {
                fault(format!("\"{name}\" is there twice"));
            }
            Some((_, weekday)) => weekdays.push(*weekday),
        }
    }
    if weekdays.len() == WEEKDAYS.len() {
        let fault = "no day of the week is left on which a row ages; a view without a ttl says so";
        faults.push(("weekdays_off".to_owned(), fault.to_owned()));
    }
    weekdays.sort_unstable_by_key(|weekday| weekday.to_monday_zero_offset());
    weekdays
}

/// The days in the order of time.
fn read_days(texts: &[String], faults: &mut Vec<CalendarFault>) -> Vec<Date> {
    if texts.len() > DAYS_OFF_MAX {
        let fault = format!("{} days; at most {DAYS_OFF_MAX} are known", texts.len());
        faults.push(("days_off".to_owned(), fault));
        return Vec::new();
    }
    let mut days: Vec<(Date, usize)> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        // A date with a time, or without its hyphens, would be read as well.
        let day = text.parse::<Date>().ok();
        match day.filter(|day| day.to_string() == *text) {
            Some(day) if (FIRST_DAY..=LAST_DAY).contains(&day) => days.push((day, index)),
            Some(_) => {
                let (first, last) = (FIRST_DAY.year(), LAST_DAY.year());
                let fault = format!("\"{text}\" is outside the years {first} to {last}");
                faults.push((format!("days_off[{index}]"), fault));
            }
            None => {
                let fault = format!("\"{text}\" is no day; YYYY-MM-DD is expected");
                faults.push((format!("days_off[{index}]"), fault));
            }
        }
    }
    days.sort_unstable();
    for ((day, _), (next, index)) in days.iter().zip(days.iter().skip(1)) {
        if day == next {
            let fault = format!("\"{day}\" is there twice");
            faults.push((format!("days_off[{index}]"), fault));
        }
    }
    days.into_iter().map(|(day, _)| day).collect()
}

/// From days to moments: where clocks change on a day off, it is as long as it is.
fn resolve(zone: &TimeZone, weekdays: &[Weekday], days: &[Date]) -> Option<OffTime> {
    let begin = |day: Date| {
        let begin = day.to_zoned(zone.clone()).ok()?;
        Some(begin.timestamp().as_microsecond())
    };
    let mut stretches = Vec::new();
    let mut off_since = None;
    let mut day = FIRST_DAY;
    loop {
        let is_off = day <= LAST_DAY
            && (weekdays.contains(&day.weekday()) || days.binary_search(&day).is_ok());
        match (off_since, is_off) {
            (None, true) => off_since = Some(begin(day)?),
            (Some(since), false) => {
                // Where a zone changed sides of the date line, a day was left out and has no length.
                stretches.extend(Some((since, begin(day)?)).filter(|(since, end)| since < end));
                off_since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
        if day > LAST_DAY {
            return OffTime::new(stretches).ok();
        }
        day = day.tomorrow().ok()?;
    }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
