//! The commands about the build as a whole: its beginning, its files, its result, its end.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::super::{CliError, later, output};
use super::{FAILURE, Session, failure};
use crate::build::{Begun, Existing, Start};

/// Begin a build
///
/// START is a directory that becomes the root file system, an image, or a tar archive of a root file system; it begins
/// with / or a dot. Without it the image is empty.
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild begin\nacbuild begin ./base.aci")]
pub(super) struct Begin {
    /// What to begin with
    #[arg(value_name = "START")]
    start: Option<PathBuf>,
    /// Allow plain HTTP and unchecked certificates (not in this version yet)
    #[arg(long)]
    insecure: bool,
    /// The kind of image: appc, or oci (not in this version yet)
    #[arg(long, value_name = "MODE", default_value = "appc")]
    build_mode: String,
}

impl Begin {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let refusal = |what: &str| later::refusal(what).exit_code(FAILURE);
        match self.build_mode.as_str() {
            "appc" => {}
            "oci" => return Err(refusal("--build-mode=oci")),
            mode => return Err(failure(format!("invalid build mode: {mode}"))),
        }
        if self.insecure {
            return Err(refusal("--insecure"));
        }
        let start = match self.start {
            None => Start::Empty,
            Some(path) if matches!(path.as_os_str().as_bytes().first(), Some(b'.' | b'/')) => {
                Start::Local(path)
            }
            Some(name) => {
                return Err(refusal(&format!("beginning with a remote image such as {}", name.display()))
                    .hint("the path of a file or directory begins with / or ./"));
            }
        };
        tell_unprivileged();
        match &start {
            Start::Empty => log::debug!("beginning with an empty image"),
            Start::Local(path) => log::debug!("beginning with {}", path.display()),
        }
        let begun = session.workspace.begin(&start).map_err(|error| session.failed(error))?;
        if let Some(missing) = begun.missing {
            output::message(format!(
                "{missing} is missing, assuming build is beginning with a tar of a rootfs"
            ));
        }
        tell_skipped(&begun);
        if begun.left_out_state {
            output::message(LEFT_OUT);
        }
        Ok(())
    }
}

/// Tells what a user who is not root may miss.
pub(super) fn tell_begun(begun: &Begun) {
    tell_unprivileged();
    tell_skipped(begun);
}

fn tell_unprivileged() {
    if !rustix::process::geteuid().is_root() {
        output::message("notice: not running as root: superuser rights avoid permission problems");
    }
}

fn tell_skipped(begun: &Begun) {
    if begun.skipped_devices > 0 {
        let count = begun.skipped_devices;
        output::message(format!("notice: {count} device nodes were left out, which only root can make"));
    }
}

const LEFT_OUT: &str = "notice: the state of this build, .acbuild, was left out";

/// End the build, and discard what was not written
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild end")]
pub(super) struct End {}

impl End {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        log::debug!("ending the build");
        session.workspace.open().and_then(crate::build::Build::end).map_err(|error| session.failed(error))
    }
}

/// Write the image to a file
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild write --overwrite hello-latest-linux-amd64.aci")]
pub(super) struct Write {
    /// The file
    #[arg(value_name = "FILE", required = true)]
    file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    overwrite: bool,
    /// Gone
    #[arg(long, hide = true)]
    sign: bool,
}

impl Write {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        if self.sign {
            return Err(failure("the sign flag has been removed, please invoke gpg directly"));
        }
        log::debug!("writing the image to {}", self.file.display());
        let existing = if self.overwrite { Existing::Replace } else { Existing::Keep };
        let written = session
            .workspace
            .open()
            .and_then(|build| build.write(&self.file, existing))
            .map_err(|error| session.failed(error))?;
        if written.has_no_exec {
            output::message("warning: exec command was never set.");
        }
        output::line(written.id);
        Ok(())
    }
}

/// Copy a file or directory into the image
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild copy nginx.conf /etc/nginx/nginx.conf")]
pub(super) struct Copy {
    /// What is copied
    #[arg(value_name = "HOSTPATH", required = true)]
    source: PathBuf,
    /// What the copy is called in the image
    #[arg(value_name = "IMAGEPATH", required = true)]
    target: PathBuf,
}

impl Copy {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        log::debug!("copying {} to {} in the image", self.source.display(), self.target.display());
        let copied = session
            .workspace
            .open()
            .and_then(|build| build.copy(&session.record, &self.source, &self.target))
            .map_err(|error| session.failed(error))?;
        if copied.left_out_state {
            output::message(LEFT_OUT);
        }
        Ok(())
    }
}

/// Copy files and directories into a directory of the image
///
/// Of a HOSTPATH that ends in a slash, the content is copied.
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild copy-to-dir index.html assets /srv/www")]
pub(super) struct CopyToDir {
    /// What is copied, and into which directory of the image
    #[arg(value_name = "HOSTPATH... IMAGEDIR", required = true, num_args = 2..)]
    paths: Vec<PathBuf>,
}

impl CopyToDir {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let Some((target, sources)) = self.paths.split_last() else { return Err(CliError::usage()) };
        for source in sources {
            log::debug!("copying {} into {} in the image", source.display(), target.display());
        }
        let copied = session
            .workspace
            .open()
            .and_then(|build| build.copy_to_dir(&session.record, sources, target))
            .map_err(|error| session.failed(error))?;
        if copied.left_out_state {
            output::message(LEFT_OUT);
        }
        Ok(())
    }
}

/// Print the manifest of the image
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild cat-manifest --pretty-print")]
pub(super) struct CatManifest {
    /// Print it over several lines
    #[arg(long)]
    pretty_print: bool,
    /// Which file: manifest, or config of an OCI image
    #[arg(long, value_name = "manifest|config", default_value = "manifest")]
    file: String,
}

impl CatManifest {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        match self.file.as_str() {
            "manifest" => {}
            "config" => return Err(failure("can't print config, appc has no image configs")),
            file => return Err(failure(format!("there is no file {file:?} to print: manifest or config"))),
        }
        let manifest = session
            .workspace
            .open()
            .and_then(|build| build.manifest())
            .map_err(|error| session.failed(error))?;
        output::line(if self.pretty_print { manifest.to_json_pretty(4) } else { manifest.to_json() });
        Ok(())
    }
}
