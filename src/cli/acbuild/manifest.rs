//! The commands that change the manifest: arguments become types, one edit, no output.

use std::str::FromStr;

use super::super::CliError;
use super::{Session, failure};
use crate::appc::image_manifest::{self as appc, ImageManifest};
use crate::appc::name::NameError;
use crate::build::{self, EditError};

impl Session {
    /// Applies one change to the manifest of the build.
    pub(super) fn change(
        &self,
        edit: impl FnOnce(&mut ImageManifest) -> Result<(), EditError>,
    ) -> Result<(), CliError> {
        self.workspace
            .open()
            .and_then(|build| build.change(&self.record, edit))
            .map_err(|error| self.failed(error))
    }
}

/// Reads a name.
pub(super) fn named<T: FromStr<Err = NameError>>(text: &str) -> Result<T, CliError> {
    text.parse().map_err(|error: NameError| {
        let failure = failure(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

/// Set the name of the image
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild set-name example.com/hello")]
pub(super) struct SetName {
    /// The name, an AC identifier
    #[arg(value_name = "NAME", required = true)]
    name: String,
}

impl SetName {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        if self.name.is_empty() {
            return Err(failure("name cannot be empty"));
        }
        let name = named(&self.name)?;
        log::debug!("setting the name of the image to {name}");
        session.change(|manifest| {
            build::set_name(manifest, name);
            Ok(())
        })
    }
}

/// Set the version of the image, its label `version`
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild set-tag 1.2.0")]
pub(super) struct SetTag {
    /// The version
    #[arg(value_name = "TAG", required = true)]
    tag: String,
}

impl SetTag {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        log::debug!("setting the label version to {:?}", self.tag);
        session.change(|manifest| {
            build::set_tag(manifest, self.tag);
            Ok(())
        })
    }
}

/// Set the command of the app
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild set-exec -- /usr/sbin/nginx -g \"daemon off;\"")]
pub(super) struct SetExec {
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, num_args = 1..)]
    exec: Vec<String>,
}

impl SetExec {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        log::debug!("setting the command of the app to {:?}", self.exec);
        session.change(|manifest| {
            build::set_exec(manifest, self.exec);
            Ok(())
        })
    }
}

/// Set the user that the app runs as
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild set-user www-data")]
pub(super) struct SetUser {
    /// A name, a number, or an absolute path in the image whose owner is taken
    #[arg(value_name = "USER", required = true)]
    user: String,
}

impl SetUser {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        log::debug!("setting the user to {:?}", self.user);
        session.change(|manifest| build::set_user(manifest, self.user))
    }
}

/// Set the group that the app runs as
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild set-group www-data")]
pub(super) struct SetGroup {
    /// A name, a number, or an absolute path in the image whose group is taken
    #[arg(value_name = "GROUP", required = true)]
    group: String,
}

impl SetGroup {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        log::debug!("setting the group to {:?}", self.group);
        session.change(|manifest| build::set_group(manifest, self.group))
    }
}

/// Set the further groups of the app
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild set-supp-groups 12 34")]
pub(super) struct SetSuppGroups {
    /// Numbers of groups
    #[arg(value_name = "GID", required = true, num_args = 1..)]
    gids: Vec<String>,
}

impl SetSuppGroups {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let gid = |text: &String| {
            text.parse().map_err(|_| failure(format!("{text:?} is not a number between 0 and 4294967294")))
        };
        let gids = self.gids.iter().map(gid).collect::<Result<Vec<u32>, _>>()?;
        log::debug!("setting the further groups to {gids:?}");
        session.change(|manifest| {
            build::set_supplementary_groups(manifest, gids);
            Ok(())
        })
    }
}

/// Set the directory that the app starts in
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild set-working-directory /srv")]
pub(super) struct SetWorkingDirectory {
    /// An absolute path in the image
    #[arg(value_name = "DIR", required = true)]
    dir: String,
}

impl SetWorkingDirectory {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        log::debug!("setting the working directory to {:?}", self.dir);
        session.change(|manifest| {
            build::set_working_directory(manifest, self.dir);
            Ok(())
        })
    }
}

/// A name and a value.
#[derive(Debug, clap::Args)]
pub(super) struct NameValue {
    /// The name
    #[arg(value_name = "NAME", required = true)]
    name: String,
    /// The value
    #[arg(value_name = "VALUE", required = true)]
    value: String,
}

/// A name.
#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// The name
    #[arg(value_name = "NAME", required = true)]
    name: String,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Annotation {
    /// Add an annotation, or replace its value
    #[command(after_help = "acbuild annotation add documentation https://example.com/docs")]
    Add(NameValue),
    /// Remove an annotation
    #[command(alias = "rm", after_help = "acbuild annotation remove documentation")]
    Remove(Name),
}

impl Annotation {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::Add(NameValue { name, value }) => {
                let name = named(&name)?;
                log::debug!("setting the annotation {name} to {value:?}");
                session.change(|manifest| {
                    build::add_annotation(manifest, name, value);
                    Ok(())
                })
            }
            Self::Remove(Name { name }) => {
                log::debug!("removing the annotation {name:?}");
                session.change(|manifest| build::remove_annotation(manifest, &name))
            }
        }
    }
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Label {
    /// Add a label, or replace its value
    #[command(after_help = "acbuild label add version 1.2.0")]
    Add(NameValue),
    /// Remove a label
    #[command(alias = "rm", after_help = "acbuild label remove version")]
    Remove(Name),
}

impl Label {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::Add(NameValue { name, value }) => {
                let name = named(&name)?;
                log::debug!("setting the label {name} to {value:?}");
                session.change(|manifest| {
                    build::add_label(manifest, name, value);
                    Ok(())
                })
            }
            Self::Remove(Name { name }) => {
                log::debug!("removing the label {name:?}");
                session.change(|manifest| build::remove_label(manifest, &name))
            }
        }
    }
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Environment {
    /// Add an environment variable, or replace its value
    #[command(after_help = "acbuild environment add LANG C.UTF-8")]
    Add(NameValue),
    /// Remove an environment variable
    #[command(alias = "rm", after_help = "acbuild environment remove LANG")]
    Remove(Name),
}

impl Environment {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::Add(NameValue { name, value }) => {
                log::debug!("setting the environment variable {name} to {value:?}");
                session.change(|manifest| {
                    build::add_environment(manifest, name, value);
                    Ok(())
                })
            }
            Self::Remove(Name { name }) => {
                log::debug!("removing the environment variable {name:?}");
                session.change(|manifest| build::remove_environment(manifest, &name))
            }
        }
    }
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Mount {
    /// Add a mount point, or replace the one of this name or path
    #[command(after_help = "acbuild mount add html /srv/www --read-only")]
    Add(MountAdd),
    /// Remove a mount point
    #[command(alias = "rm", after_help = "acbuild mount remove html")]
    Remove(MountRemove),
}

/// The arguments of `mount add`.
#[derive(Debug, clap::Args)]
pub(super) struct MountAdd {
    /// The name that volumes are mounted by
    #[arg(value_name = "NAME", required = true)]
    name: String,
    /// The path in the image
    #[arg(value_name = "PATH", required = true)]
    path: String,
    /// The app only reads there
    #[arg(long)]
    read_only: bool,
}

/// The arguments of `mount remove`.
#[derive(Debug, clap::Args)]
pub(super) struct MountRemove {
    /// The name or the path
    #[arg(value_name = "NAME|PATH", required = true)]
    name_or_path: String,
}

impl Mount {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::Add(MountAdd { name, path, read_only }) => {
                let point = appc::MountPoint { name: named(&name)?, path, read_only };
                log::debug!("adding the mount point {name} at {:?}", point.path);
                session.change(|manifest| {
                    build::add_mount(manifest, point);
                    Ok(())
                })
            }
            Self::Remove(MountRemove { name_or_path }) => {
                log::debug!("removing the mount point {name_or_path:?}");
                session.change(|manifest| build::remove_mount(manifest, &name_or_path))
            }
        }
    }
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Port {
    /// Add a port, or replace the one of this name
    #[command(after_help = "acbuild port add http tcp 80")]
    Add(PortAdd),
    /// Remove a port
    #[command(alias = "rm", after_help = "acbuild port remove http")]
    Remove(PortRemove),
}

/// The arguments of `port add`.
#[derive(Debug, clap::Args)]
pub(super) struct PortAdd {
    /// The name that the port is forwarded by
    #[arg(value_name = "NAME", required = true)]
    name: String,
    /// tcp or udp
    #[arg(value_name = "PROTOCOL", required = true)]
    protocol: String,
    /// The number of the port
    #[arg(value_name = "PORT", required = true)]
    port: String,
    /// How many ports, from this one on
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u16,
    /// The supervisor listens in the app's place
    #[arg(long)]
    socket_activated: bool,
}

/// The arguments of `port remove`.
#[derive(Debug, clap::Args)]
pub(super) struct PortRemove {
    /// The name or the number
    #[arg(value_name = "NAME|PORT", required = true)]
    name_or_number: String,
}

impl Port {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::Add(PortAdd { name, protocol, port, count, socket_activated }) => {
                let port = port
                    .parse()
                    .map_err(|_| failure("port must be a positive number between 0 and 65535"))?;
                log::debug!("adding the port {name}, {protocol} {port}");
                let port = appc::Port { name: named(&name)?, protocol, port, count, socket_activated };
                session.change(|manifest| {
                    build::add_port(manifest, port);
                    Ok(())
                })
            }
            Self::Remove(PortRemove { name_or_number }) => {
                log::debug!("removing the port {name_or_number:?}");
                session.change(|manifest| build::remove_port(manifest, &name_or_number))
            }
        }
    }
}
