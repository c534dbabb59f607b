//! A calendar of trading days: the edges of its days, and every way in which one can be wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::catalog::{Definitions, FeatureView};

const HOUR: i64 = 3_600_000_000;

fn text(zone: &str, weekdays: &[&str], days: &[&str]) -> CalendarText {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    CalendarText {
        time_zone: zone.to_owned(),
        weekdays_off: owned(weekdays),
        days_off: owned(days),
    }
}

fn new_york(days: &[&str]) -> TtlCalendar {
    TtlCalendar::new(text("America/New_York", &["sunday", "saturday"], days)).unwrap()
}

fn micros(moment: &str) -> i64 {
    let moment: jiff::Timestamp = moment.parse().unwrap();
    moment.as_microsecond()
}

/// Definitions of one view with further keys.
fn definitions(more: &str) -> crate::error::Result<Definitions> {
    let text = format!(
        r#"
        project = "demo"
        [[entities]]
        name = "ticker"
        join_keys = [{{ name = "ticker", type = "string" }}]
        [[feature_views]]
        name = "prices"
        entity = "ticker"
        {more}
        features = [{{ name = "close", type = "double" }}]
        "#
    );
    Definitions::parse(&text)
}

/// A view with a TTL of a day.
fn view(calendar: &str) -> FeatureView {
    let found = definitions(&format!("ttl = \"1d\"\n{calendar}")).unwrap();
    FeatureView::clone(&found.views[0])
}

fn trading() -> FeatureView {
    view(
        r#"ttl_calendar = { time_zone = "America/New_York", weekdays_off = ["saturday", "sunday"],
            days_off = ["2012-10-29", "2012-10-30", "2013-01-01"] }"#,
    )
}

/// That a row of one moment is fresh up to another, and not a microsecond longer.
#[track_caller]
fn assert_fresh_until(view: &FeatureView, event: &str, last: &str) {
    let (event, last) = (micros(event), micros(last));
    assert!(!view.is_outside_ttl(event, last));
    assert!(view.is_outside_ttl(event, last + 1));
}

#[test]
fn a_close_holds_until_the_next_one() {
    let view = trading();
    // Monday to Tuesday; Friday to Monday.
    assert_fresh_until(&view, "2012-09-10T20:00:00Z", "2012-09-11T20:00:00Z");
    assert_fresh_until(&view, "2012-09-14T20:00:00Z", "2012-09-17T20:00:00Z");
    // A storm kept the exchange closed until Wednesday; over New Year, from Monday to Wednesday.
    assert_fresh_until(&view, "2012-10-26T20:00:00Z", "2012-10-31T20:00:00Z");
    assert_fresh_until(&view, "2012-12-31T21:00:00Z", "2013-01-02T21:00:00Z");
    // On the Sunday between, clocks changed: it had 23 hours, and 25 in autumn. A close is at 16:00 all the same.
    assert_fresh_until(&view, "2013-03-08T21:00:00Z", "2013-03-11T20:00:00Z");
    assert_fresh_until(&view, "2012-11-02T20:00:00Z", "2012-11-05T21:00:00Z");
}

#[test]
fn nothing_ages_on_a_day_off() {
    let view = trading();
    // From the first moment of Saturday to the last of Sunday, a row waits as it came: until the end of Monday.
    for event in [
        "2012-09-15T04:00:00Z",
        "2012-09-15T15:00:00Z",
        "2012-09-17T03:59:59.999999Z",
    ] {
        assert_fresh_until(&view, event, "2012-09-18T04:00:00Z");
    }
    assert_fresh_until(
        &view,
        "2012-09-15T03:59:59.999999Z",
        "2012-09-18T03:59:59.999999Z",
    );
    // One that was fresh when the weekend began is so until it ends; another stays too old.
    let (friday, saturday) = ("2012-09-14T04:00:00Z", micros("2012-09-15T04:00:00Z"));
    assert_fresh_until(&view, friday, "2012-09-17T04:00:00Z");
    for hours in 0..48 {
        assert!(!view.is_outside_ttl(micros(friday), saturday + hours * HOUR));
        assert!(view.is_outside_ttl(micros(friday) - 1, saturday + hours * HOUR));
    }
    // Of the future.
    assert!(!view.is_outside_ttl(saturday + 9 * HOUR, saturday));
}

#[test]
fn without_a_calendar_every_day_counts() {
    assert_fresh_until(&view(""), "2012-09-14T20:00:00Z", "2012-09-15T20:00:00Z");
    // Long before and after the years of a calendar, too.
    assert_fresh_until(&trading(), "1812-09-11T20:00:00Z", "1812-09-12T20:00:00Z");
    assert_fresh_until(&trading(), "2812-09-15T20:00:00Z", "2812-09-16T20:00:00Z");
}

#[test]
fn the_time_that_is_off_is_that_of_the_days_one_by_one() {
    // Clocks change at midnight there, on a Sunday; a day of 2011 was left out in Apia, and the weekend beside it is off.
    let zones = [
        ("America/Sao_Paulo", "2017-10-15", "2018-02-18"),
        ("Pacific/Apia", "2011-12-30", "2012-04-01"),
        ("Asia/Kolkata", "1947-08-15", "2024-01-26"),
    ];
    for (name, one, two) in zones {
        let calendar = TtlCalendar::new(text(name, &["friday"], &[one, two])).unwrap();
        let zone = TimeZone::get(name).unwrap();
        let off = |day: Date| {
            day.weekday() == Weekday::Friday || [one, two].contains(&day.to_string().as_str())
        };
        for day in [one, two] {
            let start = (day.parse::<Date>().unwrap().to_zoned(zone.clone()).unwrap())
                .timestamp()
                .as_microsecond()
                - 100 * HOUR;
            let counted = (0..200).filter(|hour| {
                let at = jiff::Timestamp::from_microsecond(start + hour * HOUR).unwrap();
                off(at.to_zoned(zone.clone()).date())
            });
            let expected = i64::try_from(counted.count()).unwrap() * HOUR;
            let found = calendar.off().between(start, start + 200 * HOUR);
            assert_eq!(found, expected, "{name} about {day}");
        }
    }
}

#[test]
fn a_calendar_is_stored_as_it_is_written_and_known_again_in_any_order() {
    let calendar = new_york(&["2013-01-01", "2012-10-30"]);
    let json = serde_json::to_string(&calendar).unwrap();
    assert_eq!(
        json,
        r#"{"time_zone":"America/New_York","weekdays_off":["saturday","sunday"],"days_off":["2012-10-30","2013-01-01"]}"#
    );
    let back: TtlCalendar = serde_json::from_str(&json).unwrap();
    assert_eq!(back, calendar);
    assert_eq!(back.off(), calendar.off());
    assert_ne!(back, new_york(&["2013-01-01"]));
    assert_eq!(
        calendar.to_string(),
        "America/New_York without saturday, sunday, 2 days"
    );
    // A view that has none is stored without a word of it, and one that was stored before there were any has none.
    let json = serde_json::to_string(&view("")).unwrap();
    assert!(!json.contains("calendar"), "{json}");
    assert_eq!(
        serde_json::from_str::<FeatureView>(&json).unwrap(),
        view("")
    );
    let json = serde_json::to_string(&trading()).unwrap();
    assert_eq!(
        serde_json::from_str::<FeatureView>(&json).unwrap(),
        trading()
    );
    let wrong = json.replace("America/New_York", "America/Nowhere");
    let fault = serde_json::from_str::<FeatureView>(&wrong).unwrap_err();
    assert!(fault.to_string().contains("Nowhere"), "{fault}");
}

#[test]
fn every_fault_of_a_calendar_has_its_place_and_its_sentence() {
    let faults = |text| TtlCalendar::new(text).unwrap_err();
    let all = faults(text(
        "New York",
        &["Saturday", "sunday", "sunday"],
        &[
            "2014-01-01",
            "2014-02-30",
            "20140704",
            "1899-12-31",
            "2014-01-01",
            "2200-01-01",
        ],
    ));
    let all: Vec<String> = (all
        .into_iter()
        .map(|(key, fault)| format!("{key}: {fault}")))
    .collect();
    assert_eq!(
        all,
        [
            "time_zone: \"New York\" is no time zone; a name of the IANA database is expected, as \"America/New_York\"",
            "weekdays_off[0]: \"Saturday\" is no day of the week; expected is \"monday\" to \"sunday\", in lower case",
            "weekdays_off[2]: \"sunday\" is there twice",
            "days_off[1]: \"2014-02-30\" is no day; YYYY-MM-DD is expected",
            "days_off[2]: \"20140704\" is no day; YYYY-MM-DD is expected",
            "days_off[3]: \"1899-12-31\" is outside the years 1900 to 2199",
            "days_off[5]: \"2200-01-01\" is outside the years 1900 to 2199",
            "days_off[4]: \"2014-01-01\" is there twice",
        ]
    );
    let week: Vec<&str> = WEEKDAYS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        faults(text("UTC", &week, &[]))[0].0,
        "weekdays_off",
        "no day is left"
    );
    let nothing = faults(text("UTC", &[], &[]));
    assert_eq!(
        nothing[0].1,
        "gives neither weekdays_off nor days_off; leave it out"
    );
    let mut day = date(2000, 1, 1);
    let mut days = Vec::new();
    for _ in 0..=DAYS_OFF_MAX {
        days.push(day.to_string());
        day = day.tomorrow().unwrap();
    }
    let mut many = text("UTC", &[], &[]);
    many.days_off.clone_from(&days);
    assert_eq!(
        faults(many.clone())[0].1,
        "4001 days; at most 4000 are known"
    );
    many.days_off.pop();
    TtlCalendar::new(many).unwrap();
}

#[test]
fn faults_of_a_view_s_calendar_are_named_in_its_file() {
    let parse = |more: &str| definitions(more).unwrap_err();
    let fields = |more: &str| -> Vec<String> {
        let error = parse(more);
        error
            .fields()
            .iter()
            .map(|fault| fault.field.clone())
            .collect()
    };
    assert_eq!(
        fields(r#"ttl_calendar = { time_zone = "UTC", weekdays_off = ["sunday"] }"#),
        ["feature_views[0].ttl_calendar"]
    );
    assert_eq!(
        fields("ttl = \"1d\"\nttl_calendar = { time_zone = \"UTC\" }"),
        ["feature_views[0].ttl_calendar"]
    );
    assert_eq!(
        fields("ttl = \"0s\"\nttl_calendar = { time_zone = \"U\", days_off = [\"x\"] }"),
        [
            "feature_views[0].ttl_calendar",
            "feature_views[0].ttl_calendar.time_zone",
            "feature_views[0].ttl_calendar.days_off[0]"
        ]
    );
    let unknown = parse("ttl = \"1d\"\nttl_calendar = { time_zone = \"UTC\", holidays = [] }");
    assert!(unknown.message().contains("holidays"), "{unknown}");
}
