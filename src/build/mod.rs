//! Building images: the state and the steps of acbuild (spec build-tools.md, part 1).
//!
//! A build is a directory below the directory that the user works in:
//!
//! ```text
//! .acbuild/            0700: set-id files of an image are nobody else's to run
//!   buildMode          `appc`
//!   currentaci/        the build exists if and only if this does
//!     manifest         the image manifest, always valid
//!     rootfs/          the root file system; users put files there with their own tools, too
//!   lock               flock(2), held during each step, removed after it
//!   .tmp-…             what a step has not finished; the next step removes what a killed one left
//! ```
//!
//! A step that fails, or is killed, leaves the build as it was. The content may be hostile, since a build can begin
//! with anyone's image: no path inside it is followed out of it.

mod begin;
mod convert;
mod copy;
mod edit;
mod error;
mod history;
mod one_shot;
mod state;
mod write;

pub use self::convert::{
    ConversionError, ConvertedFrom, Generated, Layers, Packing, Request as ConversionRequest, convert_image,
};
pub use self::{
    begin::{Begun, Start},
    copy::Copied,
    edit::{EditError, add_annotation, add_environment, add_label, add_mount, add_port},
    edit::{add_dependency, add_isolator, remove_dependency, remove_isolator, set_event_handler},
    edit::{remove_annotation, remove_environment, remove_label, remove_mount, remove_port},
    edit::{
        set_exec, set_group, set_name, set_supplementary_groups, set_tag, set_user, set_working_directory,
    },
    error::BuildError,
    history::Record,
    one_shot::OneShot,
    state::{Build, Workspace},
    write::{Existing, Written},
};

/// The name of an image that was not given one (spec build-tools.md 6.3.1).
const UNNAMED: &str = "acbuild-unnamed";
