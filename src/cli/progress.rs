//! A progress bar on stderr, when stderr is a terminal and the work is long.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::stream::Progress;

/// What is over sooner needs no bar.
const SHORT: Duration = Duration::from_millis(700);

/// The bar of a file that is being imported. It is taken away when dropped.
pub(super) struct ImportBar {
    message: String,
    started: Instant,
    bar: OnceLock<ProgressBar>,
}

impl ImportBar {
    /// Makes the bar for a file; nothing is drawn unless stderr is a terminal.
    pub(super) fn new(file: &Path) -> Self {
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
        // A name may hold what a terminal would obey.
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        Self { message: format!("Importing {name}:"), started: Instant::now(), bar: OnceLock::new() }
    }

    /// Shows how far the import is.
    pub(super) fn show(&self, progress: Progress) {
        if self.started.elapsed() < SHORT {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            let bar = ProgressBar::with_draw_target(Some(progress.total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg} [{wide_bar}] {bytes}/{total_bytes}")
                .expect("the template is fixed and valid");
            bar.with_style(style.progress_chars("=> ")).with_message(self.message.clone())
        });
        bar.set_position(progress.read);
    }
}

impl Drop for ImportBar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
