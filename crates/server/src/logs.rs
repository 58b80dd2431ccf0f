//! The log on stderr, as text for people or as JSON for machines.

use std::fmt;
use std::io::IsTerminal;

use tidings_supervisor::RequestId;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::environment::Env;

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// A JSON object per line
    Json,
}

/// Starts the log. The filter is `TIDINGS_LOG`, else `RUST_LOG`, else `info`.
///
/// # Errors
/// When the variable is no filter, or a logger is installed already.
pub(crate) fn start(format: LogFormat, env: &dyn Env) -> anyhow::Result<()> {
    let wanted = ["TIDINGS_LOG", "RUST_LOG"].iter().find_map(|name| Some((*name, env.get(name)?)));
    let filter = match wanted {
        None => EnvFilter::new("info"),
        Some((name, text)) => filter(name, &text)?,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            let log = log.with_ansi(ansi);
            log.map_event_format(|lines| WithRequestId { lines: lines.with_ansi(ansi), format }).try_init()
        }
        LogFormat::Json => log.json().map_event_format(|lines| WithRequestId { lines, format }).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

/// Adds the id of the request to log lines about it, unless their span has it.
struct WithRequestId<F> {
    lines: F,
    format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for WithRequestId<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let has_id = || ctx.event_scope().into_iter().flatten().any(|span| span.name() == "request");
        let Some(id) = RequestId::current().filter(|_| !has_id()) else {
            return self.lines.format_event(ctx, writer, event);
        };
        let mut line = String::new();
        self.lines.format_event(ctx, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        // An id has nothing that would have to be escaped.
        match self.format {
            LogFormat::Text => writeln!(writer, "{line} request_id=\"{id}\""),
            LogFormat::Json => {
                writeln!(writer, "{},\"request_id\":\"{id}\"}}", line.strip_suffix('}').unwrap_or(line))
            }
        }
    }
}

/// The levels. `EnvFilter` takes any other single word for a target: a mistyped level would silence the log.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Reads the filter in the variable `name`.
fn filter(name: &str, text: &str) -> anyhow::Result<EnvFilter> {
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let target = word.split(['=', '[']).next().unwrap_or(word);
        if target == word && !is_level(word) && !target.contains("::") && !target.starts_with("tidings") {
            let near = LEVELS.iter().max_by(|a, b| likeness(word, a).total_cmp(&likeness(word, b)));
            let near = near.filter(|near| likeness(word, near) > 0.75);
            let hint = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
            anyhow::bail!(
                "{name}: {word:?} is not a level{hint}; write one of {}, or several as in warn,tidings_courier=debug",
                LEVELS.join(", ")
            );
        }
    }
    EnvFilter::try_new(text)
        .map_err(|error| anyhow::anyhow!("{name} is not a log filter such as info or warn,tidings=debug: {error}"))
}

fn likeness(word: &str, level: &str) -> f64 {
    strsim::jaro_winkler(&word.to_ascii_lowercase(), level)
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G351
    #[test]
    fn a_level_that_does_not_exist_is_refused() {
        for text in ["info", "WARN", "warn,tidings_courier=debug", "tidings", "tidings=trace,hyper=off", "a::b", ""] {
            assert!(filter("TIDINGS_LOG", text).is_ok(), "{text}");
        }
        let refused = |text: &str| filter("TIDINGS_LOG", text).unwrap_err().to_string();
        assert!(
            refused("warning").contains("\"warning\" is not a level; did you mean \"warn\"?"),
            "{}",
            refused("warning")
        );
        assert!(refused("verbose").contains("TIDINGS_LOG: \"verbose\" is not a level; write one of off, error"));
        assert!(refused("info,loud").contains("\"loud\" is not a level"));
        assert!(filter("TIDINGS_LOG", "tidings=loud").is_err());
    }
}
