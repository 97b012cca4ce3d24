//! A progress bar on stderr, when stderr is a terminal and the work is long.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::{fetch::Work, stream::Progress};

/// What is over sooner needs no bar.
const SHORT: Duration = Duration::from_millis(700);

/// The bar of the work that is going on. It is taken away when dropped.
#[derive(Default)]
pub(super) struct Bars(Mutex<Option<Bar>>);

struct Bar {
    work: Work,
    started: Instant,
    drawn: Option<ProgressBar>,
}

impl Bars {
    /// Shows how far the work is; nothing is drawn unless stderr is a terminal.
    pub(super) fn show(&self, work: &Work, progress: Progress) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = match &mut *current {
            Some(bar) if bar.work == *work => bar,
            other => {
                clear(other.take());
                other.insert(Bar { work: work.clone(), started: Instant::now(), drawn: None })
            }
        };
        if bar.started.elapsed() < SHORT {
            return;
        }
        let drawn = bar.drawn.get_or_insert_with(|| new_bar(work, progress.total));
        drawn.set_position(progress.read);
    }

    /// Takes the bar away, so that a message can be written.
    pub(super) fn clear(&self) {
        clear(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

fn clear(bar: Option<Bar>) {
    if let Some(drawn) = bar.and_then(|bar| bar.drawn) {
        drawn.finish_and_clear();
    }
}

fn new_bar(work: &Work, total: u64) -> ProgressBar {
    let message = match work {
        Work::Download { what } => format!("Downloading {what}:"),
        // A name may hold what a terminal would obey.
        Work::Import { name } => {
            format!("Importing {}:", name.chars().filter(|c| !c.is_control()).collect::<String>())
        }
    };
    let length = (total > 0).then_some(total);
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    let style = match length {
        Some(_) => ProgressStyle::with_template("{msg} [{wide_bar}] {bytes}/{total_bytes}"),
        None => ProgressStyle::with_template("{msg} {bytes} of an unknown total size"),
    };
    bar.with_style(style.expect("the template is fixed and valid").progress_chars("=> "))
        .with_message(message)
}
