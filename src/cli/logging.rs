//! Where log records go: to the journal, with their fields, when stderr is connected to it; else to stderr as text.
//!
//! A record at `info` or above is something that the user should read, and is shown like a message of the command. The
//! rest shows with `--debug` only.

use log::{Level, LevelFilter, Log, Metadata, Record, kv};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use super::output;

struct Stderr;

/// Starts logging; called once.
pub fn start(debug: bool) {
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    let journal = connected_to_journal()
        .then(JournalLog::new)
        .and_then(Result::ok)
        .map(|journal| journal.with_syslog_identifier("rkt".to_owned()));
    // Installing fails only when a logger is there already.
    let _installed = match journal {
        Some(journal) => journal.install(),
        None => log::set_logger(&Stderr),
    };
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
            || metadata.level() == Level::Debug
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || record.level() > log::max_level() {
            return;
        }
        if record.level() < Level::Debug {
            output::message(record.args());
        } else {
            output::message(format!("debug: {}{}", record.args(), fields(record)));
        }
    }

    fn flush(&self) {}
}

/// Renders the fields of a record as ` (RKT_POD=… RKT_APP=…)`.
fn fields(record: &Record<'_>) -> String {
    struct Pairs(Vec<String>);
    impl<'kvs> kv::VisitSource<'kvs> for Pairs {
        fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
            self.0.push(format!("{key}={value}"));
            Ok(())
        }
    }
    let mut pairs = Pairs(Vec::new());
    // Pairs never refuses one.
    let _visited = record.key_values().visit(&mut pairs);
    if pairs.0.is_empty() { String::new() } else { format!(" ({})", pairs.0.join(" ")) }
}
