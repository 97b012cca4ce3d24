//! Times and sizes as people read them (spec cli.md 1.2.4, 1.3.2).

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, Zoned, tz::TimeZone};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
const MONTH: i64 = 30 * DAY;
const YEAR: i64 = 12 * MONTH;

/// A time of the file system as jiff has it, bounded by what that can hold.
pub fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(if time < UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX })
}

/// Nanoseconds since the epoch, as JSON has them, bounded by what 64 bits can hold.
pub fn nanoseconds(time: SystemTime) -> i64 {
    let nanoseconds = timestamp(time).as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

/// Says how long ago a time was: `now`, `1 second ago`, `3 minutes ago`; `from now` if it is still to come.
pub fn relative_time(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - time.as_second();
    let (seconds, direction) = if seconds < 0 { (-seconds, "from now") } else { (seconds, "ago") };
    let (unit, name) = match seconds {
        0 => return "now".to_owned(),
        1..MINUTE => (1, "second"),
        MINUTE..HOUR => (MINUTE, "minute"),
        HOUR..DAY => (HOUR, "hour"),
        DAY..WEEK => (DAY, "day"),
        WEEK..MONTH => (WEEK, "week"),
        MONTH..YEAR => (MONTH, "month"),
        _ => (YEAR, "year"),
    };
    let count = seconds / unit;
    format!("{count} {name}{} {direction}", if count == 1 { "" } else { "s" })
}

/// Writes a time out in the local zone: `2016-03-04 05:06:07.89 +0100 CET`, milliseconds without trailing zeros.
pub fn full_time(time: Timestamp) -> String {
    full_time_in(&time.to_zoned(TimeZone::system()))
}

fn full_time_in(time: &Zoned) -> String {
    let fraction = format!("{:03}", time.millisecond());
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    time.strftime(&format!("%Y-%m-%d %H:%M:%S{point}{fraction} %z %Z")).to_string()
}

/// Writes a number of bytes in powers of 1024, with one decimal below ten: `7.6MiB`, `12MiB`, `512B`.
pub fn iec_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = bytes.ilog2() / 10;
    let unit = 1_u128 << (10 * power);
    let rounded = |parts: u128| (u128::from(bytes) * parts + unit / 2) / unit;
    let number = match rounded(10) {
        tenths @ 0..100 => format!("{}.{}", tenths / 10, tenths % 10),
        _ => rounded(1).to_string(),
    };
    format!("{number}{}", UNITS[power as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_times_name_the_largest_unit() {
        let now = Timestamp::from_second(1_500_000_000).expect("in range");
        for (ago, text) in [
            (0, "now"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (3599, "59 minutes ago"),
            (3600, "1 hour ago"),
            (47 * HOUR, "1 day ago"),
            (8 * DAY, "1 week ago"),
            (29 * DAY, "4 weeks ago"),
            (65 * DAY, "2 months ago"),
            (YEAR, "1 year ago"),
            (3 * YEAR, "3 years ago"),
            (-2 * MINUTE, "2 minutes from now"),
        ] {
            let time = Timestamp::from_second(1_500_000_000 - ago).expect("in range");
            assert_eq!(relative_time(time, now), text, "{ago}");
        }
    }

    #[test]
    fn full_times_have_milliseconds_without_trailing_zeros_and_the_zone() {
        let at = |millis: i64| Timestamp::from_millisecond(1_457_067_967_000 + millis).expect("in range");
        let utc = |time: Timestamp| full_time_in(&time.to_zoned(TimeZone::UTC));
        assert_eq!(utc(at(0)), "2016-03-04 05:06:07 +0000 UTC");
        assert_eq!(utc(at(120)), "2016-03-04 05:06:07.12 +0000 UTC");
        assert_eq!(utc(at(5)), "2016-03-04 05:06:07.005 +0000 UTC");
    }

    #[test]
    fn sizes_have_one_decimal_below_ten() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (7_969_178, "7.6MiB"),
            (12 << 20, "12MiB"),
            ((12 << 20) + (1 << 19), "13MiB"),
            ((12 << 20) + (1 << 18), "12MiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(iec_size(bytes), text, "{bytes}");
        }
    }
}
