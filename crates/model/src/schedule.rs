//! Retry schedules, and the notation of durations (`5s`, `30m`, `24h`).
//!
//! The courier asks a [`Schedule`] for the delay before the next attempt. The config file and the API read and write
//! durations with [`parse_duration`] and [`format_duration`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::excerpt;

/// The most attempts of a schedule.
pub const MAX_ENTRIES: usize = 50;
/// The longest time to the next attempt.
pub const MAX_DELAY: Duration = Duration::from_secs(7 * 86_400);

/// Units from the largest to the smallest, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time; write a whole number and a unit (ms, s, m, h or d), such as 500ms, 30s or 24h")]
pub struct DurationError {
    /// The text, truncated if it is long.
    pub text: String,
}

/// Reads a whole number with a unit: `500ms`, `5s`, `30m`, `2h`, `7d`. No spaces between or around.
///
/// # Errors
/// [`DurationError`] for anything else, and above 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError { text: excerpt(text).to_owned() };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(error)
}

/// Writes a duration for [`parse_duration`], in the largest unit that keeps it exact. Days are used from two days on,
/// because people write 24h. Fractions of a millisecond are cut off.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let fits = |(unit, factor): &(&str, u64)| {
        let factor = u128::from(*factor);
        millis.is_multiple_of(factor) && (*unit != "d" || millis >= 2 * factor)
    };
    let (unit, factor) = UNITS.into_iter().find(fits).unwrap_or(("ms", 1));
    format!("{}{unit}", millis / u128::from(factor))
}

/// The delays between attempts: the first entry is the time from the event to the first attempt, each other one the
/// time
/// from a failure to the next attempt. `["0s"]` means no retries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Schedule(Vec<Duration>);

/// Why a schedule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// No attempt at all.
    #[error("schedule: it is empty; write [\"0s\"] for one attempt without retries")]
    Empty,
    /// Too many attempts.
    #[error("schedule: {count} entries; write at most {MAX_ENTRIES}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// An entry that is not a time.
    #[error("schedule[{index}]: {source}")]
    NotATime {
        /// Which entry, from 0.
        index: usize,
        /// Why the entry is not a duration.
        source: DurationError,
    },
    /// An entry that is too long.
    #[error("schedule[{index}]: {} is too long; write at most {}", format_duration(*delay), format_duration(MAX_DELAY))]
    TooLong {
        /// Which entry, from 0.
        index: usize,
        /// How long it is.
        delay: Duration,
    },
}

impl Schedule {
    /// A schedule of these times.
    ///
    /// # Errors
    /// [`ScheduleError`] unless there are 1 to [`MAX_ENTRIES`], each at most [`MAX_DELAY`].
    pub fn new(delays: Vec<Duration>) -> Result<Self, ScheduleError> {
        if delays.is_empty() {
            return Err(ScheduleError::Empty);
        }
        if delays.len() > MAX_ENTRIES {
            return Err(ScheduleError::TooMany { count: delays.len() });
        }
        match delays.iter().position(|delay| *delay > MAX_DELAY) {
            Some(index) => Err(ScheduleError::TooLong { index, delay: delays.get(index).copied().unwrap_or_default() }),
            None => Ok(Self(delays)),
        }
    }

    /// Reads a list such as `["0s", "5s", "30m"]`.
    ///
    /// # Errors
    /// [`ScheduleError`] names the entry and the remedy.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, ScheduleError> {
        // Checked before the entries are read, because a list may be long.
        if entries.len() > MAX_ENTRIES {
            return Err(ScheduleError::TooMany { count: entries.len() });
        }
        let read = |(index, entry): (usize, &S)| {
            parse_duration(entry.as_ref()).map_err(|source| ScheduleError::NotATime { index, source })
        };
        Self::new(entries.iter().enumerate().map(read).collect::<Result<_, _>>()?)
    }

    /// The time to the next attempt after `attempts_made`; `None` when there is none left.
    pub fn delay_after(&self, attempts_made: u32) -> Option<Duration> {
        self.0.get(usize::try_from(attempts_made).ok()?).copied()
    }

    /// All times, in order.
    pub fn delays(&self) -> &[Duration] {
        &self.0
    }
}

impl Default for Schedule {
    /// Ten attempts over about three days: the example of Standard Webhooks.
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 3_600;
        let seconds = [0, 5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
        Self(seconds.map(Duration::from_secs).to_vec())
    }
}

impl TryFrom<Vec<String>> for Schedule {
    type Error = ScheduleError;

    fn try_from(entries: Vec<String>) -> Result<Self, ScheduleError> {
        Self::parse(&entries)
    }
}

impl From<Schedule> for Vec<String> {
    fn from(schedule: Schedule) -> Self {
        schedule.0.into_iter().map(format_duration).collect()
    }
}

/// `delay` with jitter of up to a fifth in either direction, so that attempts that failed together are not repeated
/// together. `random` is any random number; zero stays zero.
pub fn jittered(delay: Duration, random: u32) -> Duration {
    let share = 0.8 + 0.4 * f64::from(random) / f64::from(u32::MAX);
    Duration::try_from_secs_f64(delay.as_secs_f64() * share).unwrap_or(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, millis) in [
            ("0s", 0),
            ("5s", 5_000),
            ("500ms", 500),
            ("1500ms", 1_500),
            ("90s", 90_000),
            ("5m", 300_000),
            ("30m", 1_800_000),
            ("2h", 7_200_000),
            ("24h", 86_400_000),
            ("36h", 129_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
        for (text, same) in [("60s", "1m"), ("1d", "24h"), ("48h", "2d"), ("0d", "0s"), ("007s", "7s")] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), same, "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "5 s",
            " 5s",
            "5s ",
            "-5s",
            "+5s",
            "1.5h",
            "1h30m",
            "5S",
            "5min",
            "5µs",
            "٥s",
            "18446744073709551615d",
            "99999999999999999999s",
        ] {
            let error = parse_duration(bad).unwrap_err().to_string();
            assert!(error.contains("such as 500ms"), "{bad}: {error}");
        }
    }

    #[test]
    fn the_default_is_the_documented_one() {
        let documented = ["0s", "5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"];
        assert_eq!(Schedule::default(), Schedule::parse(&documented).unwrap());
        assert_eq!(Vec::<String>::from(Schedule::default()), documented);
        assert_eq!(serde_json::to_string(&Schedule::parse(&["0s"]).unwrap()).unwrap(), r#"["0s"]"#);
    }

    #[test]
    fn schedules_have_limits() {
        assert_eq!(Schedule::parse::<&str>(&[]), Err(ScheduleError::Empty));
        assert!(Schedule::parse(&["1s"; MAX_ENTRIES]).is_ok());
        assert_eq!(Schedule::parse(&["1s"; MAX_ENTRIES + 1]), Err(ScheduleError::TooMany { count: MAX_ENTRIES + 1 }));
        assert!(Schedule::parse(&["7d"]).is_ok());
        let error = Schedule::parse(&["0s", "8d"]).unwrap_err();
        assert_eq!(error.to_string(), "schedule[1]: 8d is too long; write at most 7d");
        let error = serde_json::from_str::<Schedule>(r#"["0s","soon"]"#).unwrap_err();
        assert!(error.to_string().starts_with("schedule[1]: \"soon\" is not a time; write"), "{error}");
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let delay = Duration::from_secs(100);
        assert_eq!(jittered(delay, 0), Duration::from_secs(80));
        assert_eq!(jittered(delay, u32::MAX), Duration::from_secs(120));
        for random in [1, 1 << 16, u32::MAX / 2, u32::MAX - 1] {
            let seconds = jittered(delay, random).as_secs_f64();
            assert!((80.0..=120.0).contains(&seconds), "{random}: {seconds}");
        }
        assert_eq!(jittered(Duration::ZERO, u32::MAX), Duration::ZERO);
        assert_eq!(jittered(Duration::MAX, u32::MAX), Duration::MAX);
    }
}
