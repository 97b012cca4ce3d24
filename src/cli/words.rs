//! From the words of a command line to one command, its flags and its arguments (spec cli.md 1.1.2).
//!
//! clap knows the commands, their flags and the types of values, but reads words in its own way. So the words are read
//! here by rkt's rules, with clap's definitions as the only table, and handed on to clap in a form that has one meaning:
//! command path, flags joined to their values with `=`, `--`, arguments. No value is looked at here, except that of a
//! boolean. `acbuild` reads its words by the same rules.

use std::{
    any::TypeId,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use clap::{Arg, ArgAction, Command};

use super::args;

/// Where the flags of a command may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Anywhere before `--`.
    Mixed,
    /// Before the first argument; what follows is not looked at.
    Leading,
    /// Between images, which have flags and arguments of their own (spec cli.md 1.2.1, "Grammar").
    Images,
    /// Nowhere: only a request for help is recognised.
    Opaque,
}

/// How one program differs from another.
#[derive(Clone, Copy)]
pub struct Rules {
    /// The style of the command with this path, such as `["image", "list"]`.
    pub style: fn(&[&str], &Command) -> Style,
    /// Tells the flags that belong to an image, in a command of style [`Style::Images`].
    pub belongs_to_image: fn(&str) -> bool,
}

/// One use of a flag, without its dashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The name as it was typed.
    pub name: String,
    /// The value, if there was one.
    pub value: Option<OsString>,
}

impl Flag {
    /// Returns the flag as it can be typed, joined to its value.
    pub fn joined(&self) -> OsString {
        let mut word = OsString::from("--");
        word.push(&self.name);
        if let Some(value) = &self.value {
            word.push("=");
            word.push(value);
        }
        word
    }

    /// Takes a word that starts with two dashes apart.
    pub fn split(word: &OsStr) -> Option<Self> {
        let bytes = word.as_bytes().strip_prefix(b"--").filter(|rest| !rest.is_empty())?;
        let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(at) => (&bytes[..at], Some(OsString::from_vec(bytes[at + 1..].to_vec()))),
            None => (bytes, None),
        };
        Some(Self { name: String::from_utf8_lossy(name).into_owned(), value })
    }
}

/// What was asked for.
#[derive(Debug)]
pub struct Invocation<'c> {
    /// The program, the groups and the command, outermost first; never empty. The last one is a group when no command
    /// of it was named.
    pub path: Vec<&'c Command>,
    /// The flags of the command, and the global ones, in order. All exist.
    pub flags: Vec<Flag>,
    /// The arguments. In style `Images` with the flags of images among them, joined to their values.
    pub words: Vec<OsString>,
    /// How many of the flags stood before the first argument.
    pub leading: usize,
    /// How the flags were read.
    pub style: Style,
    /// Help was asked for.
    pub help: bool,
}

/// Why words mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// No command has this name, or the beginning of several.
    #[error("unknown command {word:?} for {program:?}")]
    UnknownCommand {
        /// What was typed.
        word: String,
        /// The name of the program.
        program: String,
        /// Names that may have been meant.
        similar: Vec<String>,
    },
    /// The command has no such flag.
    #[error("unknown flag: --{name}")]
    UnknownFlag {
        /// Without dashes.
        name: String,
    },
    /// The command has no such short flag; most have none but `-h`.
    #[error("unknown shorthand flag: '{letter}' in {word}")]
    UnknownShortFlag {
        /// The first letter.
        letter: char,
        /// The whole word.
        word: String,
    },
    /// A value is missing at the end of the words.
    #[error("flag needs an argument: --{name}")]
    NeedsValue {
        /// Without dashes.
        name: String,
    },
    /// An argument is of the wrong form.
    #[error("invalid argument {value:?} for {name}: {reason}")]
    InvalidArgument {
        /// What the argument is called in the usage.
        name: String,
        /// As typed.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A word in another encoding, where text is needed.
    #[error("{word:?} is not valid UTF-8")]
    NotUtf8 {
        /// As typed.
        word: OsString,
    },
    /// A value is of the wrong form.
    #[error("invalid argument {value:?} for --{name}={value}: {reason}")]
    InvalidValue {
        /// Without dashes.
        name: String,
        /// As typed.
        value: String,
        /// What a right value looks like, or what is wrong with this one.
        reason: String,
    },
}

/// A [`WordError`] and where it happened.
#[derive(Debug)]
pub struct BadWords<'c> {
    /// What is wrong.
    pub error: WordError,
    /// The command as far as it was known.
    pub path: Vec<&'c Command>,
    /// The word stood behind the first image.
    pub among_images: bool,
}

/// Reads the words after argv[0]; `root` must have been built ([`Command::build`]).
///
/// # Errors
/// The first word that means nothing.
pub fn read<'c>(
    root: &'c Command,
    rules: Rules,
    words: impl Iterator<Item = OsString>,
) -> Result<Invocation<'c>, Box<BadWords<'c>>> {
    let mut reader = Reader {
        rules,
        early: Vec::new(),
        invocation: Invocation {
            path: vec![root],
            flags: Vec::new(),
            words: Vec::new(),
            leading: 0,
            style: Style::Mixed,
            help: false,
        },
    };
    match reader.read(words) {
        Ok(()) => {
            reader.invocation.style = reader.style();
            Ok(reader.invocation)
        }
        Err(error) => {
            let among_images = reader.style() == Style::Images && reader.saw_image();
            Err(Box::new(BadWords { error, path: reader.invocation.path, among_images }))
        }
    }
}

struct Reader<'c> {
    rules: Rules,
    /// Flags that stood before the command was known.
    early: Vec<Flag>,
    invocation: Invocation<'c>,
}

impl<'c> Reader<'c> {
    fn read(&mut self, mut words: impl Iterator<Item = OsString>) -> Result<(), WordError> {
        while let Some(word) = words.next() {
            if self.command().has_subcommands() {
                self.before_command(word, &mut words)?;
            } else {
                match self.style() {
                    Style::Opaque => self.invocation.help |= is_help(&word),
                    Style::Mixed => self.mixed(word, &mut words)?,
                    Style::Leading => self.leading(word, &mut words)?,
                    Style::Images => self.among_images(word, &mut words)?,
                }
            }
        }
        if self.command().has_subcommands() { self.settle_early() } else { Ok(()) }
    }

    fn command(&self) -> &'c Command {
        self.invocation.path.last().expect("the root is never taken off")
    }

    fn style(&self) -> Style {
        let names: Vec<_> = self.invocation.path.iter().skip(1).map(|command| command.get_name()).collect();
        (self.rules.style)(&names, self.command())
    }

    fn before_command(
        &mut self,
        word: OsString,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), WordError> {
        if is_help(&word) {
            self.invocation.help = true;
        } else if word == "--" {
            self.invocation.words.extend(words);
        } else if let Some(mut flag) = Flag::split(&word) {
            if flag.value.is_none() && self.early_takes_next(&flag.name) {
                let value = words.next().ok_or_else(|| WordError::NeedsValue { name: flag.name.clone() })?;
                flag.value = Some(value);
            }
            self.early.push(flag);
        } else if is_short_flag(&word) {
            return Err(unknown_short_flag(&word));
        } else {
            let text = word.to_string_lossy();
            match find_command(self.command(), &text) {
                Some(command) => {
                    self.invocation.path.push(command);
                    if !command.has_subcommands() {
                        self.settle_early()?;
                    }
                }
                // The words behind an unknown command of a group mean nothing.
                None if self.invocation.path.len() > 1 => self.invocation.words.push(word),
                None => {
                    return Err(WordError::UnknownCommand {
                        similar: similar_commands(self.command(), &text),
                        word: text.into_owned(),
                        program: self.command().get_name().to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Tells whether a flag that stands before the command takes the next word: only if it would for every command that
    /// has it.
    fn early_takes_next(&self, name: &str) -> bool {
        if let Some(arg) = find_flag(self.command(), name) {
            return needs_value(arg);
        }
        let mut uses = Vec::new();
        collect_flags(self.invocation.path[0], name, &mut uses);
        !uses.is_empty() && uses.into_iter().all(needs_value)
    }

    fn settle_early(&mut self) -> Result<(), WordError> {
        if self.style() == Style::Opaque {
            return Ok(());
        }
        for flag in std::mem::take(&mut self.early) {
            let arg = self.known(&flag.name)?;
            if flag.value.is_none() && needs_value(arg) {
                return Err(WordError::NeedsValue { name: flag.name });
            }
            self.place(flag);
        }
        Ok(())
    }

    fn mixed(&mut self, word: OsString, words: &mut impl Iterator<Item = OsString>) -> Result<(), WordError> {
        if word == "--" {
            self.invocation.words.extend(words);
        } else if !self.flag(&word, words)? {
            self.invocation.words.push(word);
        }
        Ok(())
    }

    fn leading(
        &mut self,
        word: OsString,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), WordError> {
        if word == "--" {
            self.invocation.words.extend(words);
        } else if !self.flag(&word, words)? {
            self.invocation.words.push(word);
            self.invocation.words.extend(words);
        }
        Ok(())
    }

    fn among_images(
        &mut self,
        word: OsString,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), WordError> {
        if word == "--" {
            self.invocation.words.push(word);
            for word in words.by_ref() {
                let last = word == "---";
                self.invocation.words.push(word);
                if last {
                    break;
                }
            }
        } else if word == "---" || !self.flag(&word, words)? {
            self.invocation.words.push(word);
        }
        Ok(())
    }

    /// Takes a word that is a flag; tells whether it was one.
    fn flag(&mut self, word: &OsStr, words: &mut impl Iterator<Item = OsString>) -> Result<bool, WordError> {
        if is_help(word) {
            self.invocation.help = true;
            return Ok(true);
        }
        let Some(mut flag) = Flag::split(word) else {
            return if is_short_flag(word) {
                self.short_flags(word, words).map(|()| true)
            } else {
                Ok(false)
            };
        };
        if flag.value.is_none() && needs_value(self.known(&flag.name)?) {
            let value = words.next().ok_or_else(|| WordError::NeedsValue { name: flag.name.clone() })?;
            flag.value = Some(value);
        }
        self.known(&flag.name)?;
        self.place(flag);
        Ok(true)
    }

    /// Reads `-f`, `-n5`, `-n 5` and `-fn5` as what they stand for.
    fn short_flags(
        &mut self,
        word: &OsStr,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), WordError> {
        let unknown = || unknown_short_flag(word);
        let text = word.to_str().ok_or_else(unknown)?;
        let mut letters = text.chars().skip(1);
        while let Some(letter) = letters.next() {
            let known = self.command().get_arguments().find(|arg| arg.get_short() == Some(letter));
            let name = known.and_then(Arg::get_long).ok_or_else(unknown)?.to_owned();
            let mut value = None;
            if known.is_some_and(needs_value) {
                let rest: String = letters.by_ref().collect();
                let joined = Some(OsString::from(rest)).filter(|rest| !rest.is_empty());
                let next = joined.or_else(|| words.next());
                value = Some(next.ok_or_else(|| WordError::NeedsValue { name: name.clone() })?);
            }
            self.place(Flag { name, value });
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Result<&'c Arg, WordError> {
        find_flag(self.command(), name).ok_or_else(|| WordError::UnknownFlag { name: name.to_owned() })
    }

    fn place(&mut self, flag: Flag) {
        if self.style() == Style::Images && (self.rules.belongs_to_image)(&flag.name) {
            self.invocation.words.push(flag.joined());
        } else {
            if !self.saw_image() {
                self.invocation.leading += 1;
            }
            self.invocation.flags.push(flag);
        }
    }

    fn saw_image(&self) -> bool {
        self.invocation.words.iter().any(|word| Flag::split(word).is_none())
    }
}

impl Invocation<'_> {
    /// Returns the command that was asked for.
    pub fn command(&self) -> &Command {
        self.path.last().expect("the root is never taken off")
    }

    /// Returns the names of the groups and the command, without the program's.
    pub fn names(&self) -> Vec<&str> {
        self.path.iter().skip(1).map(|command| command.get_name()).collect()
    }

    /// Finds a word that is not text.
    pub fn find_not_utf8(&self) -> Option<OsString> {
        let flags = self.flags.iter().map(Flag::joined);
        flags.chain(self.words.iter().cloned()).find(|word| word.to_str().is_none())
    }

    /// Tells whether a flag of this name was used, and not switched off again.
    pub fn uses(&self, name: &str) -> bool {
        self.used_flags().iter().any(|used| used == name)
    }

    /// Returns the names of the flags that were used, those of images included, but not switches that were last set to
    /// false.
    pub fn used_flags(&self) -> Vec<String> {
        let parts = self.words.split(|word| word == "---");
        let of_images = parts.flat_map(|part| part.iter().take_while(|word| *word != "--"));
        let flags: Vec<_> =
            self.flags.iter().cloned().chain(of_images.filter_map(|word| Flag::split(word))).collect();
        let is_switch = |flag: &Flag| {
            find_flag(self.command(), &flag.name)
                .is_some_and(|arg| matches!(arg.get_action(), ArgAction::SetTrue))
        };
        let is_off = |flag: &Flag| {
            flag.value.as_ref().is_some_and(|value| args::boolean(&value.to_string_lossy()) == Ok(false))
        };
        let ends_off = |flag: &Flag| flags.iter().rfind(|other| other.name == flag.name).is_some_and(is_off);
        flags
            .iter()
            .filter(|flag| !(is_switch(flag) && ends_off(flag)))
            .map(|flag| flag.name.clone())
            .collect()
    }

    /// Returns the words for clap, argv[0] included.
    ///
    /// Of a flag that has one value, the last use counts.
    ///
    /// # Errors
    /// A boolean that is neither true nor false.
    pub fn argv(&self) -> Result<Vec<OsString>, WordError> {
        self.argv_of(&self.flags, &self.words)
    }

    /// Returns the words for clap as if the line had ended before the first argument.
    ///
    /// # Errors
    /// A boolean that is neither true nor false.
    pub fn leading_argv(&self) -> Result<Vec<OsString>, WordError> {
        self.argv_of(&self.flags[..self.leading], &[])
    }

    fn argv_of(&self, flags: &[Flag], words: &[OsString]) -> Result<Vec<OsString>, WordError> {
        let mut argv: Vec<OsString> = self.path.iter().map(|command| command.get_name().into()).collect();
        for (index, flag) in flags.iter().enumerate() {
            let arg = find_flag(self.command(), &flag.name).expect("reading has looked each flag up");
            let many = matches!(arg.get_action(), ArgAction::Append);
            // Checked even when it does not count: a mistake is a mistake.
            let word = word_for_clap(arg, flag)?;
            let same = |later: &Flag| {
                find_flag(self.command(), &later.name).is_some_and(|a| a.get_id() == arg.get_id())
            };
            if many || !flags[index + 1..].iter().any(same) {
                argv.extend(word);
            }
        }
        argv.push("--".into());
        argv.extend_from_slice(words);
        Ok(argv)
    }
}

/// Returns the word that says the same to clap, which has no values for switches and knows two spellings of a boolean.
fn word_for_clap(arg: &Arg, flag: &Flag) -> Result<Option<OsString>, WordError> {
    let switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let boolean = switch || arg.get_value_parser().type_id() == TypeId::of::<bool>();
    let Some(value) = flag.value.as_ref().filter(|_| boolean) else { return Ok(Some(flag.joined())) };
    let value = value.to_string_lossy();
    let on = args::boolean(&value).map_err(|reason| WordError::InvalidValue {
        name: flag.name.clone(),
        value: value.to_string(),
        reason: reason.to_string(),
    })?;
    let bare = Flag { name: flag.name.clone(), value: None };
    Ok(match (switch, on) {
        (true, false) => None,
        (true, true) => Some(bare.joined()),
        (false, on) => Some(Flag { value: Some(on.to_string().into()), ..bare }.joined()),
    })
}

/// Finds the command that a word names, whole or by an unambiguous beginning.
pub fn find_command<'c>(group: &'c Command, word: &str) -> Option<&'c Command> {
    let exact =
        group.get_subcommands().find(|c| c.get_name() == word || c.get_all_aliases().any(|a| a == word));
    exact.or_else(|| {
        let mut matching =
            group.get_subcommands().filter(|c| !word.is_empty() && c.get_name().starts_with(word));
        matching.next().filter(|_| matching.next().is_none())
    })
}

/// Returns the commands whose name begins like the word or is at most two letters away from it, others remaining.
pub fn similar_commands(group: &Command, word: &str) -> Vec<String> {
    let word = word.to_lowercase();
    let names = group.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name);
    let close = |name: &&str| {
        let distance = distance(name, &word);
        (!word.is_empty() && name.starts_with(&word))
            || (distance <= 2 && distance < name.len().max(word.len()))
    };
    let mut similar: Vec<_> = names.filter(close).map(str::to_owned).collect();
    similar.sort();
    similar
}

/// The number of letters to add, drop or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Finds the definition of a flag by any of its names.
pub(super) fn find_flag<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    let named = |arg: &&Arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    };
    command.get_arguments().find(named)
}

fn collect_flags<'c>(command: &'c Command, name: &str, found: &mut Vec<&'c Arg>) {
    found.extend(find_flag(command, name));
    for command in command.get_subcommands() {
        collect_flags(command, name, found);
    }
}

fn needs_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && arg.get_num_args().is_none_or(|range| range.min_values() > 0)
}

fn is_help(word: &OsStr) -> bool {
    word == "-h" || word == "--help" || word == "--help=true"
}

fn is_short_flag(word: &OsStr) -> bool {
    word.len() > 1 && word.as_bytes()[0] == b'-' && word != "--"
}

fn unknown_short_flag(word: &OsStr) -> WordError {
    let word = word.to_string_lossy().into_owned();
    WordError::UnknownShortFlag { letter: word.chars().nth(1).unwrap_or('-'), word }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let flag = |name: &'static str| Arg::new(name).long(name);
        let switch = |name: &'static str| flag(name).action(ArgAction::SetTrue);
        let optional = |name: &'static str| flag(name).num_args(0..=1).require_equals(true);
        let list = |name: &'static str| flag(name).action(ArgAction::Append);
        let words = || Arg::new("words").num_args(0..);
        let mut program = Command::new("rkt")
            .disable_help_subcommand(true)
            .arg(flag("dir").global(true))
            .arg(switch("debug").global(true))
            .subcommand(Command::new("run").args([
                optional("net"),
                list("port"),
                switch("full"),
                flag("exec"),
                words(),
            ]))
            .subcommand(Command::new("run-prepared").arg(optional("net")))
            .subcommand(Command::new("enter").args([flag("app"), words()]))
            .subcommand(Command::new("stop").args([flag("format"), words()]))
            .subcommand(
                Command::new("image")
                    .subcommand(Command::new("list").arg(flag("format")))
                    .subcommand(Command::new("rm")),
            );
        program.build();
        program
    }

    const RULES: Rules = Rules {
        style: |path, _| match path {
            ["run"] => Style::Images,
            ["enter"] => Style::Leading,
            _ => Style::Mixed,
        },
        belongs_to_image: |name| name == "exec",
    };

    fn argv(line: &str) -> Result<String, String> {
        let program = program();
        let words = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from);
        let invocation = read(&program, RULES, words).map_err(|bad| bad.error.to_string())?;
        let argv = invocation.argv().map_err(|error| error.to_string())?;
        Ok(argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn words_get_one_meaning() {
        for (line, expected) in [
            ("stop a b", "rkt stop -- a b"),
            ("st a --format json b", "rkt stop --format=json -- a b"),
            ("stop -- --format", "rkt stop -- --format"),
            ("stop - a", "rkt stop -- - a"),
            ("image list", "rkt image list --"),
            ("im li --format=x", "rkt image list --format=x --"),
            ("im --format x l", "rkt image list --format=x --"),
            // Before the command: the global flag takes its value, the one that is optional everywhere does not.
            ("--dir /x --net run a", "rkt run --dir=/x --net -- a"),
            ("--net=a --debug run a --full", "rkt run --net=a --debug --full -- a"),
            ("run --full=t --full=0 --port a --port=b", "rkt run --port=a --port=b --"),
            ("run --full=f --full=1", "rkt run --full --"),
            ("--dir=a stop --dir b", "rkt stop --dir=b --"),
            // A value may look like a flag.
            ("stop --format --x", "rkt stop --format=--x --"),
            ("enter --app x pod ls --app -l", "rkt enter --app=x -- pod ls --app -l"),
            ("enter -- --app", "rkt enter -- --app"),
            (
                "--exec=z run --exec x a --full --exec=y -- --full --- b",
                "rkt run --full -- --exec=z --exec=x a --exec=y -- --full --- b",
            ),
            ("run --- a", "rkt run -- --- a"),
        ] {
            assert_eq!(argv(line), Ok(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn words_without_meaning_are_errors() {
        for (line, expected) in [
            ("ru", r#"unknown command "ru" for "rkt""#),
            ("x", r#"unknown command "x" for "rkt""#),
            ("stop --full", "unknown flag: --full"),
            ("--full stop", "unknown flag: --full"),
            ("--format", "flag needs an argument: --format"),
            ("stop --format", "flag needs an argument: --format"),
            ("stop -x", "unknown shorthand flag: 'x' in -x"),
            ("-x stop", "unknown shorthand flag: 'x' in -x"),
            ("stop --debug=yes", r#"invalid argument "yes" for --debug=yes: must be true or false"#),
            ("stop --debug=yes --debug", r#"invalid argument "yes" for --debug=yes: must be true or false"#),
        ] {
            assert_eq!(argv(line), Err(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn values_and_arguments_may_be_any_bytes() {
        let program = program();
        let odd = OsString::from_vec(vec![0xff]);
        let words = ["stop".into(), "--format".into(), odd.clone(), odd.clone()];
        let invocation = read(&program, RULES, words.into_iter()).expect("the words have a meaning");
        assert_eq!(invocation.flags, [Flag { name: "format".into(), value: Some(odd.clone()) }]);
        assert_eq!(invocation.words, [odd]);
    }

    #[test]
    fn the_place_of_a_bad_flag_is_known() {
        let program = program();
        for (line, expected) in [("run --x a", false), ("run a --x", true), ("stop a --x", false)] {
            let bad = read(&program, RULES, line.split(' ').map(OsString::from)).expect_err("no such flag");
            assert_eq!(bad.among_images, expected, "{line}");
        }
    }
}
