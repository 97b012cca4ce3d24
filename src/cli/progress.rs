//! Progress bars on stderr, when stderr is a terminal and the work is long.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::{digest::Digest, fetch::Work, stream::Progress};

/// What is over sooner needs no bar.
const SHORT: Duration = Duration::from_millis(700);

/// The bars of the work that is going on. They are taken away when dropped.
#[derive(Default)]
pub(super) struct Bars(Mutex<Current>);

#[derive(Default)]
struct Current {
    /// Of one work, or of layers, which come beside each other.
    bars: Vec<Bar>,
    /// What keeps them one below the other.
    terminal: Option<MultiProgress>,
}

struct Bar {
    work: Work,
    started: Instant,
    drawn: Option<ProgressBar>,
}

impl Bars {
    /// Shows how far the work is; nothing is drawn unless stderr is a terminal.
    pub(super) fn show(&self, work: &Work, progress: Progress) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Current { bars, terminal } = &mut *current;
        let is_layer = |work: &Work| matches!(work, Work::Layer { .. });
        let is_over = is_layer(work) && progress.read >= progress.total;
        let stays = |bar: &Bar| match bar.work == *work {
            true => !is_over,
            false => is_layer(work) && is_layer(&bar.work),
        };
        bars.extract_if(.., |bar| !stays(bar)).for_each(clear);
        if is_over {
            return;
        }
        let at = bars.iter().position(|bar| bar.work == *work).unwrap_or_else(|| {
            bars.push(Bar { work: work.clone(), started: Instant::now(), drawn: None });
            bars.len() - 1
        });
        let bar = &mut bars[at];
        if bar.started.elapsed() < SHORT {
            return;
        }
        let new = || {
            let target = ProgressDrawTarget::stderr;
            let terminal = terminal.get_or_insert_with(|| MultiProgress::with_draw_target(target()));
            terminal.add(new_bar(work, progress.total))
        };
        bar.drawn.get_or_insert_with(new).set_position(progress.read);
    }

    /// Takes the bars away, so that a message can be written.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bars.drain(..).for_each(clear);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

fn clear(bar: Bar) {
    if let Some(drawn) = bar.drawn {
        drawn.finish_and_clear();
    }
}

fn new_bar(work: &Work, total: u64) -> ProgressBar {
    let message = match work {
        Work::Download { what } => format!("Downloading {what}:"),
        Work::Layer { digest } => format!("Downloading {}:", short(digest)),
        // A name may hold what a terminal would obey.
        Work::Import { name } => {
            format!("Importing {}:", name.chars().filter(|c| !c.is_control()).collect::<String>())
        }
    };
    let length = (total > 0).then_some(total);
    // It is drawn once it has its place.
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
    let style = match length {
        Some(_) => ProgressStyle::with_template("{msg} [{wide_bar}] {bytes}/{total_bytes}"),
        None => ProgressStyle::with_template("{msg} {bytes} of an unknown total size"),
    };
    bar.with_style(style.expect("the template is fixed and valid").progress_chars("=> "))
        .with_message(message)
}

/// `sha256:` and 11 digits (spec build-tools.md 6.7).
fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm().as_str(), &digest.hex()[..11])
}
