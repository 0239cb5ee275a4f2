//! This program's own log, on stderr: one event on one line, whatever its fields hold.
//!
//! What hosts, tenants and files have written is cleaned where it comes in. This is the last
//! door: a line end, a terminal's sequence or a control of direction in any field would let
//! somebody write lines that pass for ours. So no event has colours, either: nothing in a line is
//! a sequence.

use std::io::{self, Write};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::core::foreign::line;

/// Shape of the program's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line per event
    Text,
    /// One JSON object per event
    Json,
}

/// Sends the program's own log to stderr: what `directives` let through.
pub fn start(format: LogFormat, directives: &str) {
    subscriber(format, directives, || OneLine(io::stderr())).init();
}

fn subscriber(
    format: LogFormat,
    directives: &str,
    out: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Box<dyn Subscriber + Send + Sync> {
    let filter = EnvFilter::new(directives);
    let log = tracing_subscriber::fmt().with_writer(out).with_env_filter(filter).with_ansi(false);
    match format {
        LogFormat::Text => Box::new(log.finish()),
        LogFormat::Json => Box::new(log.json().finish()),
    }
}

/// Takes one event at a time, and writes it as one line of printable characters.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event.strip_suffix(b"\n").unwrap_or(event));
        let mut whole = line(&text).into_owned();
        whole.push('\n');
        self.0.write_all(whole.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const FOUL: &str = "x\n2026-01-02T03:04:05Z ERROR forged\r\u{1b}[2J\u{9b}1m\u{202e}\u{2028}\0y";

    fn logged(format: LogFormat) -> String {
        let sink = Sink::default();
        let out = sink.clone();
        let subscriber = subscriber(format, "info", move || OneLine(out.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("span", of = %FOUL);
            let _entered = span.enter();
            tracing::info!(shown = %FOUL, text = FOUL, debug = ?FOUL, "{FOUL}");
            tracing::warn!(bytes = ?FOUL.as_bytes(), error = %io::Error::other(FOUL), "second");
        });
        let log = sink.0.lock().unwrap().clone();
        String::from_utf8(log).unwrap()
    }

    #[test]
    fn no_field_of_an_event_can_make_a_second_line_or_move_a_cursor() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = logged(format);
            assert_eq!(log.lines().count(), 2, "{log:?}");
            let plain = |c: char| c == '\n' || c == '\u{fffd}' || c.is_ascii_graphic() || c == ' ';
            assert!(log.chars().all(plain), "{log:?}");
            assert!(log.contains("forged") && log.contains("second"), "{log}");
        }
        for event in logged(LogFormat::Json).lines() {
            serde_json::from_str::<serde_json::Value>(event).unwrap();
        }
    }
}
