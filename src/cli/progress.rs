//! A progress bar on stderr, when stderr is a terminal.

use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::stream::Progress;

/// The bar of a file that is being imported. It is taken away when dropped.
pub(super) struct ImportBar {
    bar: ProgressBar,
}

impl ImportBar {
    /// Makes the bar for a file; nothing is drawn unless stderr is a terminal.
    pub(super) fn new(file: &Path) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {bytes}/{total_bytes}")
            .expect("the template is fixed and valid");
        bar.set_style(style.progress_chars("=> "));
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
        // A name may hold what a terminal would obey.
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        bar.set_message(format!("Importing {name}:"));
        Self { bar }
    }

    /// Shows how far the import is.
    pub(super) fn show(&self, progress: Progress) {
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.read);
    }
}

impl Drop for ImportBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
