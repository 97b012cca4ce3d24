//! The grammar of images: `IMAGE [flags of the image] [-- arguments [---]]`, again and again (spec cli.md 1.2.1).
//!
//! [`words`](super::words) has already sorted out the flags of the command; what comes here are images, flags that
//! belong to an image, and arguments. Parsing is pure; it is the command that decides when it happens, because each
//! has its own order of checks.

use std::{ffi::OsString, marker::PhantomData, path::PathBuf, str::FromStr, sync::LazyLock};

use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::{
    args::{self, KeyValue},
    pod_flags::with_hint,
    words::{self, Flag, WordError},
};
use crate::{
    appc::{
        capability::Capability,
        isolator::{CpuShares, Errno, Isolator, OomScoreAdj, SeccompSet},
        label::Annotation,
        name::{AcIdentifier, AcName},
        quantity::{Quantity, QuantityError},
        volume::{Mount, Volume},
    },
    os::Hint,
};

const ID: &str = "images";

/// Why the words about images mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageArgsError {
    /// `--` before any image.
    #[error("an image is required before any app arguments")]
    NoImage,
    /// `--` twice behind one image.
    #[error("only one set of app arguments allowed per image")]
    ArgumentsTwice,
    /// `--` for a command that runs nothing.
    #[error("app arguments unsupported")]
    ArgumentsUnsupported,
    /// A mount without a volume.
    #[error("dangling mount point {:?}: volume {:?} not found", .0.path, .0.volume.as_str())]
    DanglingMount(Mount),
    /// An image or an argument in another encoding: units and the bus carry UTF-8 only.
    #[error("{0:?} is not valid UTF-8")]
    NotUtf8(OsString),
    /// A flag of an image with a bad value or in a bad place.
    #[error(transparent)]
    Flag(#[from] WordError),
}

impl Hint for ImageArgsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::DanglingMount(mount) => {
                Some(format!("define it with --volume {},kind=host,source=/PATH", mount.volume))
            }
            Self::NoImage
            | Self::ArgumentsTwice
            | Self::ArgumentsUnsupported
            | Self::NotUtf8(_)
            | Self::Flag(_) => None,
        }
    }
}

/// Flags that may follow an image; each command takes its own set.
pub trait ImageFlags: Args + Clone + std::fmt::Debug {
    /// Flags that also have a meaning before the first image, for all of them.
    const FOR_ALL: &[&str];
    /// Whether `-- arguments` may follow.
    const ARGUMENTS: bool;
}

/// The words about images in the arguments of a command, not parsed yet.
#[derive(Clone, Debug)]
pub struct Images<F> {
    words: Vec<OsString>,
    flags: PhantomData<F>,
}

/// What the words about images say.
#[derive(Clone, Debug)]
pub struct ParsedImages<F> {
    /// Flags before the first image.
    pub for_all: F,
    /// The images in their order.
    pub images: Vec<ImageArg<F>>,
}

/// One image with what belongs to it.
#[derive(Clone, Debug)]
pub struct ImageArg<F> {
    /// The image as it was typed.
    pub image: String,
    /// Its flags.
    pub flags: F,
    /// The words behind `--`, if there was one.
    pub arguments: Option<Vec<String>>,
}

impl<F: ImageFlags> Images<F> {
    /// Makes the words of a command line that were not split by clap.
    pub fn from_words(words: Vec<OsString>) -> Self {
        Self { words, flags: PhantomData }
    }

    /// Reads the words from left to right.
    ///
    /// # Errors
    /// The first word that has no meaning in its place.
    pub fn parse(&self) -> Result<ParsedImages<F>, ImageArgsError> {
        let mut for_all = Vec::new();
        let mut drafts: Vec<Draft> = Vec::new();
        let mut words = self.words.iter().cloned();
        while let Some(word) = words.next() {
            if word == "--" {
                let arguments = words.by_ref().take_while(|word| *word != "---").map(utf8);
                drafts_arguments::<F>(&mut drafts, arguments.collect::<Result<_, _>>()?)?;
            } else if word.is_empty() || word == "---" {
                // Such words have always been passed over.
            } else if let Some(flag) = Flag::split(&word) {
                match drafts.last_mut() {
                    Some(draft) => draft.flags.push(flag),
                    None if F::FOR_ALL.contains(&flag.name.as_str()) => for_all.push(flag),
                    None => return Err(must_follow(flag).into()),
                }
            } else {
                drafts.push(Draft { image: utf8(word)?, flags: Vec::new(), arguments: None });
            }
        }
        let images = drafts.into_iter().map(Draft::finish).collect::<Result<_, _>>()?;
        Ok(ParsedImages { for_all: flags(&for_all)?, images })
    }
}

struct Draft {
    image: String,
    flags: Vec<Flag>,
    arguments: Option<Vec<String>>,
}

impl Draft {
    /// Flags that may stand once only.
    const ONCE: [&str; 2] = ["signature", "exec"];

    fn finish<F: ImageFlags>(self) -> Result<ImageArg<F>, ImageArgsError> {
        for name in Self::ONCE {
            if let Some(again) = self.flags.iter().filter(|flag| flag.name == name).nth(1) {
                let reason = format!("--{name} specified multiple times for the same image");
                return Err(refused(again.clone(), reason).into());
            }
        }
        Ok(ImageArg { image: self.image, flags: flags(&self.flags)?, arguments: self.arguments })
    }
}

fn drafts_arguments<F: ImageFlags>(
    drafts: &mut [Draft],
    arguments: Vec<String>,
) -> Result<(), ImageArgsError> {
    if !F::ARGUMENTS {
        return Err(ImageArgsError::ArgumentsUnsupported);
    }
    let draft = drafts.last_mut().ok_or(ImageArgsError::NoImage)?;
    if draft.arguments.is_some() {
        return Err(ImageArgsError::ArgumentsTwice);
    }
    draft.arguments = Some(arguments);
    Ok(())
}

fn utf8(word: OsString) -> Result<String, ImageArgsError> {
    word.into_string().map_err(ImageArgsError::NotUtf8)
}

fn refused(flag: Flag, reason: String) -> WordError {
    let value = flag.value.unwrap_or_default().to_string_lossy().into_owned();
    WordError::InvalidValue { name: flag.name, value, reason }
}

fn must_follow(flag: Flag) -> WordError {
    let reason = match flag.name.as_str() {
        name @ ("stdin" | "stdout" | "stderr") => format!("--{name} must follow an application"),
        // The name in this message is not a slip: spec cli.md 1.2.1, "Per-app flags".
        "caps-remove" | "cap-remove" | "cap-retain" => "--caps-retain must follow an image".to_owned(),
        name => format!("--{name} must follow an image"),
    };
    refused(flag, reason)
}

/// Parses the flags of one image by their definitions.
fn flags<F: ImageFlags>(flags: &[Flag]) -> Result<F, WordError> {
    let command = Command::new("image").no_binary_name(true).disable_help_flag(true).args_override_self(true);
    let matches = F::augment_args(command).try_get_matches_from(flags.iter().map(Flag::joined));
    matches.and_then(|matches| F::from_arg_matches(&matches)).map_err(|error| {
        args::value_error(&error).expect("reading the words has left nothing but values to be wrong")
    })
}

/// Tells the flags that belong to an image.
pub fn belongs_to_image(name: &str) -> bool {
    static FLAGS: LazyLock<Command> = LazyLock::new(|| AppFlags::augment_args(Command::new("image")));
    words::find_flag(&FLAGS, name).is_some()
}

impl<F: ImageFlags> FromArgMatches for Images<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::from_words(matches.get_many(ID).unwrap_or_default().cloned().collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<F: ImageFlags> Args for Images<F> {
    fn augment_args(command: Command) -> Command {
        let shape =
            if F::ARGUMENTS { "IMAGE [image flags] [-- ARGUMENTS [---]]" } else { "IMAGE [image flags]" };
        let words = clap::Arg::new(ID)
            .action(ArgAction::Append)
            .num_args(0..)
            .value_parser(clap::value_parser!(OsString))
            .value_name(shape)
            .help("The images, each with its flags behind it");
        F::augment_args(command).arg(words)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The flags of an image that is fetched.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FetchFlags {
    /// Local signature file to use in validating the preceding image
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Refuse the preceding image unless its name is, or is below, this prefix, and a key trusted for it has signed it
    #[arg(long, value_name = "PREFIX")]
    pub trust_prefix: Option<AcIdentifier>,
}

impl ImageFlags for FetchFlags {
    const FOR_ALL: &[&str] = &[];
    const ARGUMENTS: bool = false;
}

/// The flags of an image that becomes an app.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AppFlags {
    /// Local signature file to use in validating the preceding image
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Refuse the preceding image unless its name is, or is below, this prefix, and a key trusted for it has signed it
    #[arg(long, value_name = "PREFIX")]
    pub trust_prefix: Option<AcIdentifier>,
    /// Override the exec command for the preceding image
    #[arg(long, value_name = "PATH")]
    pub exec: Option<String>,
    /// Override the working directory of the preceding image
    #[arg(long, value_name = "DIR")]
    pub working_dir: Option<String>,
    /// If set, the app's rootfs will be mounted read-only
    #[arg(long, value_name = "BOOL", value_parser = readonly_rootfs)]
    pub readonly_rootfs: Option<bool>,
    /// Mount point binding a volume to a path within an app; before the first image for all apps
    #[arg(long = "mount", value_name = "volume=NAME,target=PATH", value_parser = mount)]
    pub mounts: Vec<Mount>,
    /// User override for the preceding image: a name, a number or the path of a file of that owner
    #[arg(long)]
    pub user: Option<String>,
    /// Group override for the preceding image: a name, a number or the path of a file of that group
    #[arg(long)]
    pub group: Option<String>,
    /// Supplementary group IDs override for the preceding image
    #[arg(long, value_name = "GIDS", value_parser = supplementary_gids)]
    pub supplementary_gids: Option<Gids>,
    /// Name of the app in the pod
    #[arg(long)]
    pub name: Option<AcName>,
    /// Set the app's annotations
    #[arg(long = "annotation", value_name = "NAME=VALUE", value_parser = annotation)]
    pub annotations: Vec<Annotation>,
    /// Set the app's user annotations
    #[arg(long = "user-annotation", value_name = "NAME=VALUE", value_parser = |text: &str| pair("user-annotation", text))]
    pub user_annotations: Vec<KeyValue>,
    /// Set the app's user labels
    #[arg(long = "user-label", value_name = "NAME=VALUE", value_parser = |text: &str| pair("user-label", text))]
    pub user_labels: Vec<KeyValue>,
    /// Set the app's environment variables
    #[arg(long, value_name = "NAME=VALUE", value_parser = |text: &str| pair("environment", text))]
    pub environment: Vec<KeyValue>,
    /// Memory limit for the preceding image, such as 50M or 16Mi; before the first image for the whole pod
    #[arg(long, value_name = "QUANTITY", value_parser = memory)]
    pub memory: Option<Quantity>,
    /// CPU limit for the preceding image, such as 500m or 2; before the first image for the whole pod
    #[arg(long, value_name = "QUANTITY")]
    pub cpu: Option<Quantity>,
    /// CPU shares of the preceding image, 2 to 262144
    #[arg(long, value_name = "N", value_parser = |text: &str| number(text, 2..=262_144, CpuShares::new))]
    pub cpu_shares: Option<CpuShares>,
    /// Capabilities to retain, such as CAP_SYS_ADMIN
    #[arg(long, value_name = "LIST", alias = "cap-retain", value_delimiter = ',')]
    pub caps_retain: Option<Vec<Capability>>,
    /// Capabilities to remove, such as CAP_MKNOD
    #[arg(long, value_name = "LIST", alias = "cap-remove", value_delimiter = ',')]
    pub caps_remove: Option<Vec<Capability>>,
    /// Seccomp filter override for the preceding image
    #[arg(long, value_name = "[errno=E,]mode=retain|remove,NAME,...", value_parser = seccomp)]
    pub seccomp: Option<Isolator>,
    /// Oom-score-adj isolator override, -1000 to 1000
    #[arg(long, value_name = "N", value_parser = |text: &str| number(text, -1000..=1000, OomScoreAdj::new))]
    pub oom_score_adj: Option<OomScoreAdj>,
    /// Where the app's input comes from: null, stream, tty
    #[arg(long, hide = true, value_parser = |text: &str| stream("stdin", &["null", "stream", "tty"], text))]
    pub stdin: Option<String>,
    /// Where the app's output goes: null, log, stream, tty
    #[arg(long, hide = true, value_parser = |text: &str| stream("stdout", &["null", "log", "stream", "tty"], text))]
    pub stdout: Option<String>,
    /// Where the app's error output goes: null, log, stream, tty
    #[arg(long, hide = true, value_parser = |text: &str| stream("stderr", &["null", "log", "stream", "tty"], text))]
    pub stderr: Option<String>,
}

impl ImageFlags for AppFlags {
    const FOR_ALL: &[&str] = &["mount", "memory", "cpu"];
    const ARGUMENTS: bool = true;
}

impl ParsedImages<AppFlags> {
    /// Checks that every mount, of all apps or of one, has its volume.
    ///
    /// # Errors
    /// The first mount that has none.
    pub fn check_mounts(&self, volumes: &[Volume]) -> Result<(), ImageArgsError> {
        let mounts = self.images.iter().flat_map(|app| &app.flags.mounts).chain(&self.for_all.mounts);
        let dangling =
            mounts.into_iter().find(|mount| !volumes.iter().any(|volume| volume.name == mount.volume));
        dangling.cloned().map_or(Ok(()), |mount| Err(ImageArgsError::DanglingMount(mount)))
    }
}

/// A list of group numbers: one flag replaces what an earlier one said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gids(pub Vec<u32>);

fn supplementary_gids(text: &str) -> Result<Gids, String> {
    let gids: Result<_, _> = text.split(',').map(str::parse).collect();
    gids.map(Gids).map_err(|_| "--supplementary-gids must be integers".to_owned())
}

fn mount(text: &str) -> Result<Mount, String> {
    Mount::from_flag(text).map_err(|error| with_hint(&error))
}

fn readonly_rootfs(text: &str) -> Result<bool, String> {
    args::boolean(text).map_err(|_| "--readonly-rootfs must be set with a boolean".to_owned())
}

/// Less cannot be meant: whoever writes `--memory=16m` thinks of megabytes and asks for thousandths of a byte.
const LEAST_MEMORY: u64 = 4096;

fn memory(text: &str) -> Result<Quantity, String> {
    let quantity: Quantity = text.parse().map_err(|error: QuantityError| error.to_string())?;
    let bytes = quantity.units();
    if bytes < LEAST_MEMORY {
        return Err(format!(
            "memory limit of {bytes} bytes too low. Try a reasonable value, such as --memory=16M"
        ));
    }
    Ok(quantity)
}

fn pair(flag: &str, text: &str) -> Result<KeyValue, String> {
    text.parse().map_err(|_| format!("invalid format of --{flag} flag {text:?}"))
}

fn annotation(text: &str) -> Result<Annotation, String> {
    let pair = pair("annotation", text)?;
    match pair.key.parse() {
        Ok(name) => Ok(Annotation::new(name, pair.value)),
        Err(error) => Err(format!("invalid format of --annotation flag {text:?}: {error}")),
    }
}

fn number<N: FromStr, T>(
    text: &str,
    range: std::ops::RangeInclusive<i32>,
    checked: fn(N) -> Option<T>,
) -> Result<T, String> {
    let number = text.parse().ok().and_then(checked);
    number.ok_or_else(|| format!("must be an integer between {} and {}", range.start(), range.end()))
}

/// Reads a filter of system calls: `mode=` and `errno=` may stand anywhere among the names.
fn seccomp(text: &str) -> Result<Isolator, String> {
    let (mut mode, mut errno, mut set) = (None, None, Vec::new());
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some(("mode", value)) => mode = Some(value),
            Some(("errno", value)) => errno = Some(value.parse::<Errno>()?),
            Some((key, _)) => return Err(format!("unknown parameter {key:?}")),
            None => set.push(word.to_owned()),
        }
    }
    let kind = match mode {
        Some("retain") => Isolator::SeccompRetain,
        Some("remove") => Isolator::SeccompRemove,
        Some(other) => return Err(format!("unknown mode {other:?}: it must be retain or remove")),
        None => return Err("mode=retain or mode=remove must be given".to_owned()),
    };
    if set.is_empty() {
        return Err("no system call is named".to_owned());
    }
    Ok(kind(SeccompSet { set, errno }))
}

fn stream(which: &str, modes: &[&str], text: &str) -> Result<String, String> {
    if modes.contains(&text) { Ok(text.to_owned()) } else { Err(format!("invalid {which} mode {text:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<ParsedImages<AppFlags>, String> {
        Images::from_words(line.split(' ').map(OsString::from).collect()).parse().map_err(|e| e.to_string())
    }

    #[test]
    fn flags_and_arguments_belong_to_the_latest_image() {
        let line = "--cpu=2 a --name=x --exec=/b -- one --two -- three --- --user=5 b --cpu=500m --- c --";
        let parsed = parse(line).expect("the line is right");
        assert_eq!(parsed.for_all.cpu.as_ref().map(Quantity::as_str), Some("2"));
        let [a, b, c] = parsed.images.as_slice() else { panic!("three images: {parsed:?}") };
        assert_eq!((a.image.as_str(), b.image.as_str(), c.image.as_str()), ("a", "b", "c"));
        assert_eq!(a.flags.name.as_ref().map(AcName::as_str), Some("x"));
        assert_eq!(a.flags.exec.as_deref(), Some("/b"));
        assert_eq!(a.flags.user.as_deref(), Some("5"));
        assert_eq!(a.arguments, Some(vec!["one".into(), "--two".into(), "--".into(), "three".into()]));
        assert_eq!(b.flags.cpu.as_ref().map(Quantity::milli), Some(500));
        assert_eq!((b.arguments.clone(), c.arguments.clone()), (None, Some(vec![])));
    }

    #[test]
    fn words_without_meaning_are_told() {
        for (line, error) in [
            ("-- a", "an image is required before any app arguments"),
            ("--cpu=1 -- a", "an image is required before any app arguments"),
            ("a -- b --- --name=x -- c", "only one set of app arguments allowed per image"),
            ("--exec=/x a", r#"invalid argument "/x" for --exec=/x: --exec must follow an image"#),
            (
                "--caps-remove=x a",
                r#"invalid argument "x" for --caps-remove=x: --caps-retain must follow an image"#,
            ),
            (
                "--stdin=tty a",
                r#"invalid argument "tty" for --stdin=tty: --stdin must follow an application"#,
            ),
            (
                "a --exec=/x --exec=/y",
                r#"invalid argument "/y" for --exec=/y: --exec specified multiple times for the same image"#,
            ),
            (
                "a --signature=x --signature=y",
                r#"invalid argument "y" for --signature=y: --signature specified multiple times for the same image"#,
            ),
            (
                "a --readonly-rootfs=x",
                r#"invalid argument "x" for --readonly-rootfs=x: --readonly-rootfs must be set with a boolean"#,
            ),
            (
                "a --supplementary-gids=1,x",
                r#"invalid argument "1,x" for --supplementary-gids=1,x: --supplementary-gids must be integers"#,
            ),
            (
                "a --user-label=x",
                r#"invalid argument "x" for --user-label=x: invalid format of --user-label flag "x""#,
            ),
            (
                "a --cpu-shares=1",
                r#"invalid argument "1" for --cpu-shares=1: must be an integer between 2 and 262144"#,
            ),
            (
                "a --oom-score-adj=-1001",
                r#"invalid argument "-1001" for --oom-score-adj=-1001: must be an integer between -1000 and 1000"#,
            ),
            (
                "a --seccomp=chmod",
                r#"invalid argument "chmod" for --seccomp=chmod: mode=retain or mode=remove must be given"#,
            ),
            (
                "a --seccomp=mode=keep,chmod",
                r#"invalid argument "mode=keep,chmod" for --seccomp=mode=keep,chmod: unknown mode "keep": it must be retain or remove"#,
            ),
            (
                "a --seccomp=mode=remove,errno=perm,chmod",
                r#"invalid argument "mode=remove,errno=perm,chmod" for --seccomp=mode=remove,errno=perm,chmod: errno must start with an 'E' character, got "perm""#,
            ),
            (
                "a --seccomp=mode=remove",
                r#"invalid argument "mode=remove" for --seccomp=mode=remove: no system call is named"#,
            ),
            (
                "a --annotation=Bad=x",
                "invalid argument \"Bad=x\" for --annotation=Bad=x: invalid format of --annotation flag \"Bad=x\": \
                 \"Bad\" is not an AC identifier: only lower-case letters, digits and the characters \"-._~/\" are allowed",
            ),
            (
                "a --caps-retain=CAP_BOGUS",
                r#"invalid argument "CAP_BOGUS" for --caps-retain=CAP_BOGUS: unknown capability "CAP_BOGUS""#,
            ),
            (
                "a --memory=16m",
                "invalid argument \"16m\" for --memory=16m: \
                 memory limit of 1 bytes too low. Try a reasonable value, such as --memory=16M",
            ),
            (
                "a --mount=volume=data,path=/",
                "invalid argument \"volume=data,path=/\" for --mount=volume=data,path=/: unknown mount parameter \"path\"; \
                 a mount looks like volume=NAME,target=PATH",
            ),
            ("a --stdout=x", r#"invalid argument "x" for --stdout=x: invalid stdout mode "x""#),
        ] {
            assert_eq!(parse(line).map(|_| ()), Err(error.to_owned()), "{line}");
        }
    }

    #[test]
    fn the_last_of_several_values_counts_and_lists_add_up() {
        let parsed =
            parse("a --name=x --name=y --environment=A=1 --environment=B==2 --supplementary-gids=1,2");
        let flags = parsed.expect("the line is right").images.remove(0).flags;
        assert_eq!(flags.name.as_ref().map(AcName::as_str), Some("y"));
        let environment: Vec<_> =
            flags.environment.iter().map(|e| (e.key.as_str(), e.value.as_str())).collect();
        assert_eq!(environment, [("A", "1"), ("B", "=2")]);
        assert_eq!(flags.supplementary_gids, Some(Gids(vec![1, 2])));
    }

    #[test]
    fn a_mount_needs_its_volume() {
        let volumes = [Volume::from_flag("data,kind=empty").expect("a volume")];
        let parsed = parse("--mount=volume=data,target=/a x --mount=volume=logs,target=/b").expect("right");
        let error = parsed.check_mounts(&volumes).map_err(|e| e.to_string());
        assert_eq!(error, Err(r#"dangling mount point "/b": volume "logs" not found"#.to_owned()));
        assert_eq!(parse("x --mount=volume=data,target=/b").expect("right").check_mounts(&volumes), Ok(()));
    }

    #[test]
    fn fetch_takes_no_arguments() {
        let words = ["a", "--signature=s", "--"].map(OsString::from).to_vec();
        let parsed = Images::<FetchFlags>::from_words(words).parse();
        assert_eq!(parsed.map(|_| ()), Err(ImageArgsError::ArgumentsUnsupported));
    }
}
