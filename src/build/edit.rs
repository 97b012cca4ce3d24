//! Changes of the manifest, as functions of it: no disk, no terminal (spec build-tools.md 6.3).
//!
//! A rule of manifests that a change breaks is found when the manifest is validated as a whole; here stand the rules of
//! acbuild itself.

use crate::appc::image_manifest::{
    Annotation, Dependency, EnvironmentVariable, Event, EventHandler, ImageManifest, Label, ManifestError,
    MountPoint, Port,
};
use crate::appc::isolator::Isolator;
use crate::appc::name::{AcIdentifier, AcName};
use crate::os::Hint;

/// Why a manifest is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// What is to be removed is not there.
    #[error("element to be removed does not exist in this ACI")]
    NotThere,
    /// A value is needed.
    #[error("{what} cannot be empty")]
    Empty {
        /// Of what.
        what: &'static str,
    },
    /// The change would break a rule of manifests.
    #[error(transparent)]
    Invalid(#[from] ManifestError),
}

impl Hint for EditError {}

fn not_empty(what: &'static str, value: &str) -> Result<(), EditError> {
    if value.is_empty() { Err(EditError::Empty { what }) } else { Ok(()) }
}

/// Removes what `gone` says, which must be something.
fn remove<T>(list: &mut Vec<T>, gone: impl Fn(&T) -> bool) -> Result<(), EditError> {
    let before = list.len();
    list.retain(|element| !gone(element));
    if list.len() == before { Err(EditError::NotThere) } else { Ok(()) }
}

/// Replaces the first element that is `same`, or adds one at the end.
fn replace<T>(list: &mut Vec<T>, new: T, same: impl Fn(&T) -> bool) {
    match list.iter_mut().find(|element| same(element)) {
        Some(element) => *element = new,
        None => list.push(new),
    }
}

/// Replaces all elements that are `same` by one at the end.
fn replace_at_end<T>(list: &mut Vec<T>, new: T, same: impl Fn(&T) -> bool) {
    list.retain(|element| !same(element));
    list.push(new);
}

/// Names the image.
pub fn set_name(manifest: &mut ImageManifest, name: AcIdentifier) {
    manifest.name = name;
}

/// Sets the label `version`.
pub fn set_tag(manifest: &mut ImageManifest, tag: String) {
    let version: AcIdentifier = "version".parse().expect("it is an AC identifier");
    add_label(manifest, version, tag);
}

/// Sets the command of the app.
pub fn set_exec(manifest: &mut ImageManifest, exec: Vec<String>) {
    manifest.ensure_app().exec = exec;
}

/// Sets the user of the app.
///
/// # Errors
/// It is empty.
pub fn set_user(manifest: &mut ImageManifest, user: String) -> Result<(), EditError> {
    not_empty("user", &user)?;
    manifest.ensure_app().user = user;
    Ok(())
}

/// Sets the group of the app.
///
/// # Errors
/// It is empty.
pub fn set_group(manifest: &mut ImageManifest, group: String) -> Result<(), EditError> {
    not_empty("group", &group)?;
    manifest.ensure_app().group = group;
    Ok(())
}

/// Sets the further groups of the app.
pub fn set_supplementary_groups(manifest: &mut ImageManifest, gids: Vec<u32>) {
    manifest.ensure_app().supplementary_gids = gids;
}

/// Sets the working directory of the app.
pub fn set_working_directory(manifest: &mut ImageManifest, dir: String) {
    manifest.ensure_app().working_directory = dir;
}

/// Sets an annotation, in its place if it is there.
pub fn add_annotation(manifest: &mut ImageManifest, name: AcIdentifier, value: String) {
    let same = |old: &Annotation| old.name == name;
    replace(&mut manifest.annotations, Annotation::new(name.clone(), value), same);
}

/// Removes an annotation.
///
/// # Errors
/// It is not there.
pub fn remove_annotation(manifest: &mut ImageManifest, name: &str) -> Result<(), EditError> {
    remove(&mut manifest.annotations, |note| note.name.as_str() == name)
}

/// Sets a label, at the end of the list.
pub fn add_label(manifest: &mut ImageManifest, name: AcIdentifier, value: String) {
    let same = |old: &Label| old.name == name;
    replace_at_end(&mut manifest.labels, Label::new(name.clone(), value), same);
}

/// Removes a label.
///
/// # Errors
/// It is not there.
pub fn remove_label(manifest: &mut ImageManifest, name: &str) -> Result<(), EditError> {
    remove(&mut manifest.labels, |label| label.name.as_str() == name)
}

/// Sets an environment variable of the app, in its place if it is there.
pub fn add_environment(manifest: &mut ImageManifest, name: String, value: String) {
    let same = |old: &EnvironmentVariable| old.name == name;
    let variable = EnvironmentVariable { name: name.clone(), value };
    replace(&mut manifest.ensure_app().environment, variable, same);
}

/// Removes an environment variable of the app.
///
/// # Errors
/// It is not there.
pub fn remove_environment(manifest: &mut ImageManifest, name: &str) -> Result<(), EditError> {
    let app = manifest.app.as_mut().ok_or(EditError::NotThere)?;
    remove(&mut app.environment, |variable| variable.name == name)
}

/// Sets a mount point of the app, in place of those with its name or its path.
pub fn add_mount(manifest: &mut ImageManifest, point: MountPoint) {
    let same = |old: &MountPoint| old.name == point.name || old.path == point.path;
    replace_at_end(&mut manifest.ensure_app().mount_points, point.clone(), same);
}

/// Removes the mount points of a name or a path.
///
/// # Errors
/// There is none.
pub fn remove_mount(manifest: &mut ImageManifest, name_or_path: &str) -> Result<(), EditError> {
    let app = manifest.app.as_mut().ok_or(EditError::NotThere)?;
    remove(&mut app.mount_points, |point| point.name.as_str() == name_or_path || point.path == name_or_path)
}

/// Sets a port of the app, in place of those with its name.
pub fn add_port(manifest: &mut ImageManifest, port: Port) {
    let same = |old: &Port| old.name == port.name;
    replace_at_end(&mut manifest.ensure_app().ports, port.clone(), same);
}

/// Removes the ports of a name or a number.
///
/// # Errors
/// There is none.
pub fn remove_port(manifest: &mut ImageManifest, name_or_number: &str) -> Result<(), EditError> {
    let app = manifest.app.as_mut().ok_or(EditError::NotThere)?;
    // A name may consist of digits as well.
    let number = name_or_number.parse::<u16>().ok();
    let name = name_or_number.parse::<AcName>().ok();
    remove(&mut app.ports, |port| name.as_ref() == Some(&port.name) || number == Some(port.port))
}

/// Sets a dependency of the image, in place of those with its name.
pub fn add_dependency(manifest: &mut ImageManifest, dependency: Dependency) {
    let same = |old: &Dependency| old.image_name == dependency.image_name;
    replace_at_end(&mut manifest.dependencies, dependency.clone(), same);
}

/// Removes the dependencies of a name.
///
/// # Errors
/// There is none.
pub fn remove_dependency(manifest: &mut ImageManifest, name: &str) -> Result<(), EditError> {
    remove(&mut manifest.dependencies, |dependency| dependency.image_name.as_str() == name)
}

/// Sets an isolator of the app, in place of those with its name.
pub fn add_isolator(manifest: &mut ImageManifest, isolator: Isolator) {
    let same = |old: &Isolator| old.name() == isolator.name();
    replace_at_end(&mut manifest.ensure_app().isolators, isolator.clone(), same);
}

/// Removes the isolators of a name.
///
/// # Errors
/// There is none.
pub fn remove_isolator(manifest: &mut ImageManifest, name: &str) -> Result<(), EditError> {
    let app = manifest.app.as_mut().ok_or(EditError::NotThere)?;
    remove(&mut app.isolators, |isolator| isolator.name() == name)
}

/// Sets what is executed at an event.
pub fn set_event_handler(manifest: &mut ImageManifest, name: Event, exec: Vec<String>) {
    replace(&mut manifest.ensure_app().event_handlers, EventHandler { name, exec }, |old| old.name == name);
}
