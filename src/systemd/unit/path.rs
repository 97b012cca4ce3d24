//! Paths in units, and the values made of them: lists, bind mounts, devices.
//!
//! How a path is written depends on who reads it. Some settings take the whole value, others take quoted words, and
//! `BindPaths=` splits at colons. What is the same everywhere: absolute, UTF-8, no control character, no `..`, `%`
//! doubled, redundant slashes gone.

use std::str::FromStr;

use super::error::{Reason, ValueError, unfit};
use super::read::Syntax;
use super::value::{DeviceAccess, Value, joined};

/// The longest path that the kernel takes, without its terminator.
const PATH_MAX: usize = 4095;
/// The longest name of a file.
const NAME_MAX: usize = 255;
/// The longest path of a socket, without its terminator (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// Text in the middle of which the instance of a template unit may stand (`%I`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    before: String,
    after: Option<String>,
}

impl Pattern {
    pub(super) fn plain(text: &str) -> Self {
        Self { before: text.to_owned(), after: None }
    }

    pub(super) fn around_instance(before: &str, after: &str) -> Self {
        Self { before: before.to_owned(), after: Some(after.to_owned()) }
    }

    pub(super) fn uses_instance(&self) -> bool {
        self.after.is_some()
    }

    /// Writes the text for systemd, each literal part through `escape` and with `%` doubled.
    pub(super) fn render(&self, escape: impl Fn(&str) -> String) -> String {
        let literal = |text: &str| escape(text).replace('%', "%%");
        let instance_and_rest = self.after.as_ref().map(|after| format!("%I{}", literal(after)));
        format!("{}{}", literal(&self.before), instance_and_rest.unwrap_or_default())
    }

    /// Returns the text as it is in the instance `instance`.
    pub(super) fn in_instance(&self, instance: &str) -> String {
        match &self.after {
            Some(after) => format!("{}{instance}{after}", self.before),
            None => self.before.clone(),
        }
    }
}

/// An absolute path that any setting can carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPath(Pattern);

impl UnitPath {
    /// Takes a path; repeated slashes, `.` components and a slash at the end go, as systemd lets them go.
    ///
    /// # Errors
    /// When it is not absolute, has `..` or a control character, or is too long.
    pub fn new(path: &str) -> Result<Self, ValueError> {
        Ok(Self(Pattern::plain(&simplified(path)?)))
    }

    /// Takes a path with the unescaped instance of the unit between `before` and `after`.
    ///
    /// # Errors
    /// As [`UnitPath::new`], for the path without the instance.
    pub fn around_instance(before: &str, after: &str) -> Result<Self, ValueError> {
        simplified(&format!("{before}i{after}"))?;
        Ok(Self(Pattern::around_instance(before, after)))
    }

    fn text(&self, instance: &str) -> String {
        self.0.in_instance(instance)
    }

    fn meant(&self, instance: &str) -> Vec<u8> {
        self.text(instance).into_bytes()
    }

    /// The path for a setting that takes its whole value. What would be stripped with the blanks at the end of the
    /// line, or continue the line, is kept by a slash behind it, which systemd drops.
    fn render_whole(&self) -> String {
        let text = self.0.render(str::to_owned);
        if text.ends_with([' ', '\\']) { text + "/" } else { text }
    }

    /// The path as a word, in double quotes where it needs them.
    fn render_word(&self) -> String {
        let text = self.0.render(|literal| literal.replace('\\', r"\\").replace('"', r#"\""#));
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@,%".contains(&byte);
        if text.bytes().all(safe) { text } else { format!("\"{text}\"") }
    }
}

impl FromStr for UnitPath {
    type Err = ValueError;

    fn from_str(path: &str) -> Result<Self, ValueError> {
        Self::new(path)
    }
}

impl Value for UnitPath {
    fn render(&self) -> String {
        self.render_whole()
    }

    fn syntax(&self) -> Syntax {
        Syntax::Expanded
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        let kept_by_a_slash = self.render_whole() != self.0.render(str::to_owned);
        vec![(self.text(instance) + if kept_by_a_slash { "/" } else { "" }).into_bytes()]
    }

    fn uses_instance(&self) -> bool {
        self.0.uses_instance()
    }
}

/// A path at which nothing must be (systemd.unit(5), `ConditionPathExists=` with `!`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPath(UnitPath);

impl MissingPath {
    /// Takes the path.
    pub fn new(path: UnitPath) -> Self {
        Self(path)
    }
}

impl Value for MissingPath {
    fn render(&self) -> String {
        format!("!{}", self.0.render())
    }

    fn syntax(&self) -> Syntax {
        Syntax::Expanded
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        self.0.meaning(instance).into_iter().map(|path| [b"!", path.as_slice()].concat()).collect()
    }

    fn uses_instance(&self) -> bool {
        self.0.uses_instance()
    }
}

fn simplified(path: &str) -> Result<String, ValueError> {
    let refuse = |reason| Err(ValueError::new("path", path, reason));
    if let Some(reason) = unfit(path) {
        return refuse(reason);
    }
    match path.chars().find(|c| c.is_control()) {
        Some(c) => return refuse(Reason::Control(c)),
        None if path.is_empty() => return refuse(Reason::Empty),
        None if !path.starts_with('/') => return refuse(Reason::Relative),
        None if path.len() > PATH_MAX => return refuse(Reason::TooLong(PATH_MAX)),
        None => {}
    }
    let mut out = String::with_capacity(path.len());
    for component in path.split('/').filter(|component| !matches!(*component, "" | ".")) {
        match component {
            ".." => return refuse(Reason::Parent),
            _ if component.len() > NAME_MAX => return refuse(Reason::TooLong(NAME_MAX)),
            // The slash goes in front, so that this can't fail to be absolute.
            _ => out.extend(["/", component]),
        }
    }
    Ok(if out.is_empty() { "/".to_owned() } else { out })
}

/// What to do when a path of a list is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// The unit does not start.
    Fail,
    /// The path is left out.
    Skip,
}

impl IfMissing {
    fn sign(self) -> &'static str {
        match self {
            Self::Fail => "",
            Self::Skip => "-",
        }
    }
}

/// Several paths, as in `Symlinks=`; an empty list adds nothing and is not written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paths(Vec<UnitPath>);

impl FromIterator<UnitPath> for Paths {
    fn from_iter<I: IntoIterator<Item = UnitPath>>(paths: I) -> Self {
        Self(paths.into_iter().collect())
    }
}

impl Value for Paths {
    fn render(&self) -> String {
        joined(self.0.iter().map(UnitPath::render_word))
    }

    fn syntax(&self) -> Syntax {
        Syntax::Paths
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        self.0.iter().map(|path| path.text(instance).into_bytes()).collect()
    }

    fn uses_instance(&self) -> bool {
        self.0.iter().any(UnitPath::uses_instance)
    }

    fn adds_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

/// Paths of a unit's own view (`ReadOnlyPaths=` and the like), written with the sign `+` that makes them relative to
/// its `RootDirectory=`: without it they would be the pod's, and protect nothing (systemd.exec(5)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RootPaths(Vec<(IfMissing, UnitPath)>);

impl RootPaths {
    fn parts(&self, form: impl Fn(&UnitPath) -> String) -> impl Iterator<Item = String> {
        self.0.iter().map(move |(missing, path)| format!("{}+{}", missing.sign(), form(path)))
    }
}

impl FromIterator<UnitPath> for RootPaths {
    fn from_iter<I: IntoIterator<Item = UnitPath>>(paths: I) -> Self {
        paths.into_iter().map(|path| (IfMissing::Fail, path)).collect()
    }
}

impl FromIterator<(IfMissing, UnitPath)> for RootPaths {
    fn from_iter<I: IntoIterator<Item = (IfMissing, UnitPath)>>(paths: I) -> Self {
        Self(paths.into_iter().collect())
    }
}

impl Value for RootPaths {
    fn render(&self) -> String {
        joined(self.parts(UnitPath::render_word))
    }

    fn syntax(&self) -> Syntax {
        Syntax::Paths
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        self.parts(|path| path.text(instance)).map(String::into_bytes).collect()
    }

    fn uses_instance(&self) -> bool {
        self.0.iter().any(|(_, path)| path.uses_instance())
    }

    fn adds_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether the mounts below the source of a bind mount come along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submounts {
    /// They do.
    Included,
    /// They don't.
    Hidden,
}

/// One bind mount (systemd.exec(5), `BindPaths=`): the source outside of the unit's root, the target inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    source: BindPath,
    target: BindPath,
    submounts: Submounts,
    if_missing: IfMissing,
}

impl Bind {
    /// Binds `source` to `target` with all that is mounted below it; a missing source is an error at start.
    pub fn new(source: BindPath, target: BindPath) -> Self {
        Self { source, target, submounts: Submounts::Included, if_missing: IfMissing::Fail }
    }

    /// Binds a path to the same path inside.
    pub fn same(path: BindPath) -> Self {
        Self::new(path.clone(), path)
    }

    /// Says what becomes of the mounts below the source.
    #[must_use]
    pub fn submounts(self, submounts: Submounts) -> Self {
        Self { submounts, ..self }
    }

    /// Says what to do when the source is not there.
    #[must_use]
    pub fn if_missing(self, if_missing: IfMissing) -> Self {
        Self { if_missing, ..self }
    }

    fn parts(&self, form: impl Fn(&UnitPath) -> String) -> Vec<String> {
        let source = format!("{}{}", self.if_missing.sign(), form(&self.source.0));
        match self.submounts {
            Submounts::Included if self.source == self.target => vec![source],
            Submounts::Included => vec![source, form(&self.target.0)],
            Submounts::Hidden => vec![source, form(&self.target.0), "norbind".to_owned()],
        }
    }
}

impl Value for Bind {
    fn render(&self) -> String {
        self.parts(UnitPath::render_word).join(":")
    }

    fn syntax(&self) -> Syntax {
        Syntax::ColonPaths
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        self.parts(|path| path.text(instance)).into_iter().map(String::into_bytes).collect()
    }

    fn uses_instance(&self) -> bool {
        self.source.uses_instance() || self.target.uses_instance()
    }
}

/// A device node that a unit may open, and how (systemd.resource-control(5), `DeviceAllow=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    node: UnitPath,
    access: DeviceAccess,
}

impl DeviceRule {
    /// Allows `access` to the device node `node`.
    pub fn new(node: UnitPath, access: DeviceAccess) -> Self {
        Self { node, access }
    }
}

impl Value for DeviceRule {
    fn render(&self) -> String {
        format!("{} {}", self.node.render_word(), self.access)
    }

    fn syntax(&self) -> Syntax {
        Syntax::Paths
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        vec![self.node.meant(instance), self.access.as_str().as_bytes().to_vec()]
    }

    fn uses_instance(&self) -> bool {
        self.node.uses_instance()
    }
}

macro_rules! restricted_paths {
    ($($(#[$doc:meta])* $name:ident $what:literal, refused: $refusal:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(UnitPath);

        impl $name {
            /// Takes a path.
            ///
            /// # Errors
            /// When the setting can't carry it.
            pub fn new(path: UnitPath) -> Result<Self, ValueError> {
                let refusal: fn(&str) -> Option<Reason> = $refusal;
                let text = path.text("");
                match refusal(&text) {
                    Some(reason) => Err(ValueError::new($what, text, reason)),
                    None => Ok(Self(path)),
                }
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(path: &str) -> Result<Self, ValueError> {
                UnitPath::new(path).and_then(Self::new)
            }
        }

        impl Value for $name {
            fn render(&self) -> String {
                self.0.render()
            }

            fn syntax(&self) -> Syntax {
                self.0.syntax()
            }

            fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
                self.0.meaning(instance)
            }

            fn uses_instance(&self) -> bool {
                self.0.uses_instance()
            }
        }
    )* };
}

restricted_paths! {
    /// A path that a socket can be bound to: it fits into the address of a socket, and a unit line can end in it.
    ListenPath "path of a socket", refused: |path| match path {
        _ if path.len() > SOCKET_PATH_MAX => Some(Reason::TooLong(SOCKET_PATH_MAX)),
        _ if path.ends_with('\\') => Some(Reason::FinalBackslash),
        _ => outer_blank(path),
    };
    /// A file for a standard stream. systemd 257 loses a blank at the end of it on the way to the new process.
    StreamPath "path of a stream", refused: outer_blank;
    /// A file, not a pattern of files: in `EnvironmentFile=` a `*` would match many.
    LiteralPath "path that may be no pattern", refused: |path| first_of(path, "*?[]\\");
    /// A path of a bind mount. systemd from 254 on loses quotes on the way to the new process, and fails or mounts
    /// elsewhere (systemd/systemd#40985).
    BindPath "path of a bind mount", refused: |path| first_of(path, "\"'");
}

fn outer_blank(path: &str) -> Option<Reason> {
    path.ends_with(' ').then_some(Reason::OuterBlank)
}

fn first_of(path: &str, refused: &str) -> Option<Reason> {
    path.chars().find(|c| refused.contains(*c)).map(Reason::Character)
}
