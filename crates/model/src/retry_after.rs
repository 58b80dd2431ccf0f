//! `Retry-After`, as receivers really write it.
//!
//! RFC 9110 defines whole seconds and three forms of a date. Receivers also send fractions, units, other zones and ISO
//! dates. A value that is not understood would make the next attempt come too early, so every unambiguous value is
//! read.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;

/// The longest header value that is read, in bytes.
const MAX_LEN: usize = 100;
/// The longest delay that is returned, in seconds: adding it to a time cannot overflow.
const LONGEST: u64 = u32::MAX as u64;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Zones by name (RFC 5322, section 4.3), in hours before UTC.
const ZONES: [(&str, i64); 12] = [
    ("gmt", 0),
    ("utc", 0),
    ("ut", 0),
    ("z", 0),
    ("edt", 4),
    ("est", 5),
    ("cdt", 5),
    ("cst", 6),
    ("mdt", 6),
    ("mst", 7),
    ("pdt", 7),
    ("pst", 8),
];

/// Reads `Retry-After`: seconds, perhaps with a fraction or a unit, or a date. A date in the past gives zero; anything
/// else gives `None`. At most `u32::MAX` seconds; the caller caps it further.
pub fn retry_after(header: &str, now_secs: i64) -> Option<Duration> {
    let text = header.trim().trim_matches('"').trim();
    if text.is_empty() || text.len() > MAX_LEN {
        return None;
    }
    // A header that was sent twice arrives as one, joined with commas. The longest time satisfies all values.
    let longest = text.split(',').map(|part| seconds(part.trim())).collect::<Option<Vec<_>>>();
    if let Some(longest) = longest.and_then(|all| all.into_iter().max()) {
        return Some(longest);
    }
    let seconds = date(text)?.saturating_sub(now_secs);
    // A negative time is in the past.
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(LONGEST)))
}

/// Reads digits, perhaps with a fraction, perhaps followed by a unit.
fn seconds(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(end);
    if whole.is_empty() {
        return None;
    }
    let (fraction, unit) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", rest),
    };
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" | "msec" | "millisecond" | "milliseconds" => 0.001,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        _ => return None,
    };
    // Too many digits for a `f64` become infinity, which is capped below.
    let number: f64 = format!("{whole}.{fraction}0").parse().ok()?;
    Some(Duration::try_from_secs_f64((number * factor).min(LONGEST as f64)).unwrap_or(Duration::from_secs(LONGEST)))
}

/// The Unix seconds of a date: any of HTTP's three forms and their variants, or an ISO date (RFC 3339).
fn date(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_second());
    }
    if let Ok(utc) = text.parse::<DateTime>() {
        return Some(unix_seconds(utc));
    }
    // As RFC 6265 reads the dates of cookies: each part is recognised by its form, whatever stands between the parts.
    let text = text.split_once('(').map_or(text, |(before, _)| before);
    let mut parts = Parts::default();
    for word in text.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
        parts.take(&word.to_ascii_lowercase())?;
    }
    parts.unix_seconds()
}

#[derive(Default)]
struct Parts {
    day: Option<i8>,
    month: Option<i8>,
    year: Option<i16>,
    time: Option<(i8, i8, i8)>,
    /// Seconds before UTC.
    zone: Option<i64>,
}

impl Parts {
    fn take(&mut self, word: &str) -> Option<()> {
        let first = word.bytes().next()?;
        if let Some(zone) = offset(word).filter(|_| self.time.is_some()) {
            set(&mut self.zone, zone)
        } else if first.is_ascii_digit() && word.contains(':') {
            let end = word.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(word.len());
            let (time, zone) = word.split_at(end);
            set(&mut self.time, clock(time)?)?;
            if zone.is_empty() { Some(()) } else { self.take(zone) }
        } else if word.contains('-') {
            // `06-Nov-94`.
            word.split('-').try_for_each(|part| self.take(part))
        } else if first.is_ascii_digit() {
            if self.day.is_none() && word.len() <= 2 { set(&mut self.day, word.parse().ok()?) } else { self.year(word) }
        } else if let Some((_, hours)) = ZONES.iter().find(|(name, _)| *name == word) {
            set(&mut self.zone, hours * 3_600)
        } else if let Some(month) = MONTHS.iter().position(|name| word.starts_with(name)) {
            set(&mut self.month, month as i8 + 1)
        } else {
            DAYS.iter().any(|name| word.starts_with(name)).then_some(())
        }
    }

    fn year(&mut self, word: &str) -> Option<()> {
        let year: i16 = word.parse().ok()?;
        let year = match (word.len(), year) {
            (2, 0..70) => 2_000 + year,
            (2, _) => 1_900 + year,
            (4, _) => year,
            _ => return None,
        };
        set(&mut self.year, year)
    }

    fn unix_seconds(self) -> Option<i64> {
        let (hour, minute, second) = self.time?;
        let time = DateTime::new(self.year?, self.month?, self.day?, hour, minute, second, 0).ok()?;
        Some(unix_seconds(time) + self.zone.unwrap_or(0))
    }
}

/// Computed without [`Timestamp`], whose range ends a day before the year 9999 does: some servers send the last second
/// of that year.
fn unix_seconds(utc: DateTime) -> i64 {
    utc.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_secs()
}

/// Sets a part; `None` if it was set already.
fn set<T>(part: &mut Option<T>, value: T) -> Option<()> {
    part.replace(value).is_none().then_some(())
}

/// Reads `8:49:37`, `08:49`, `08:49:37.123`; a leap second counts as the second before it.
fn clock(text: &str) -> Option<(i8, i8, i8)> {
    let text = text.split_once('.').map_or(text, |(whole, _)| whole);
    let mut parts = text.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    parts.next().is_none().then_some((hour, minute, second.min(59)))
}

/// Reads `+0100`, `-05:00`, `gmt+0100`, in seconds before UTC.
fn offset(word: &str) -> Option<i64> {
    let word = word.strip_prefix("gmt").or_else(|| word.strip_prefix("utc")).unwrap_or(word);
    let before = match word.bytes().next()? {
        b'+' => -1,
        b'-' => 1,
        _ => return None,
    };
    let digits: String = word[1..].chars().filter(|c| *c != ':').collect();
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    Some(before * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    // 1994-11-06T08:49:37Z, the example of RFC 9110.
    const THEN: i64 = 784_111_777;

    // covers: R11, G218
    #[test]
    fn seconds_are_read_with_fractions_and_units() {
        for (header, millis) in [
            ("0", 0),
            ("120", 120_000),
            (" 120 ", 120_000),
            ("\"120\"", 120_000),
            ("1000000000", 1_000_000_000_000),
            ("1.5", 1_500),
            ("0.25", 250),
            ("2.", 2_000),
            ("30.000", 30_000),
            ("59.999999999999", 60_000),
            ("30s", 30_000),
            ("30 seconds", 30_000),
            ("1500ms", 1_500),
            ("5 min", 300_000),
            ("1H", 3_600_000),
            // Two headers, joined on the way.
            ("120, 30", 120_000),
        ] {
            assert_eq!(retry_after(header, THEN), Some(Duration::from_millis(millis)), "{header}");
        }
        for endless in ["99999999999999999999999", &"9".repeat(100), "99999999999999999999.5"] {
            assert_eq!(retry_after(endless, THEN), Some(Duration::from_secs(LONGEST)), "{endless}");
        }
        let long = "9".repeat(101);
        for bad in [
            "",
            " ",
            "\"\"",
            "-1",
            "+1",
            "1e9",
            ".5",
            "1.5.2",
            "1 fortnight",
            "soon",
            "٥",
            "NaN",
            "inf",
            ",",
            "1,",
            &long,
        ] {
            assert_eq!(retry_after(bad, THEN), None, "{bad}");
        }
    }

    // covers: R11, G218
    #[test]
    fn dates_are_read_as_servers_write_them() {
        for header in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun Nov 6 08:49:37 1994",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 Z",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37 -0000",
            "Sun, 06 Nov 1994 09:49:37 +0100",
            "Sun, 06 Nov 1994 03:49:37 EST",
            "Sun, 06 Nov 1994 08:49:37.250 GMT",
            "sun, 06 nov 1994 08:49:37 gmt",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "06 Nov 1994 08:49:37 GMT",
            "06 Nov 1994 08:49:37",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 6 November 1994 08:49:37 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 UTC 1994",
            "Sun Nov 06 1994 08:49:37 GMT+0000 (Coordinated Universal Time)",
            "1994-11-06T08:49:37Z",
            "1994-11-06T08:49:37.250Z",
            "1994-11-06T09:49:37+01:00",
            "1994-11-06 08:49:37Z",
            "1994-11-06T08:49:37",
            "1994-11-06 08:49:37",
        ] {
            assert_eq!(retry_after(header, THEN - 90), Some(Duration::from_secs(90)), "{header}");
            assert_eq!(retry_after(header, THEN + 90), Some(Duration::ZERO), "{header}");
        }
        // Two digits of a year mean this century.
        assert_eq!(retry_after("Friday, 06-Nov-26 00:00:00 GMT", 1_793_923_100), Some(Duration::from_secs(100)));
        assert_eq!(retry_after("Fri, 31 Dec 9999 23:59:59 GMT", i64::MIN), Some(Duration::from_secs(LONGEST)));
        for bad in [
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "06 Nov 1994",
            "Sun, 06 Nov 1994 08:49:37 GMT x",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT",
            "06 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 +99",
            "-:::",
            "99999-99-99T",
            "Sun Sun Sun",
            "é:é",
        ] {
            assert_eq!(retry_after(bad, THEN), None, "{bad}");
        }
    }
}
