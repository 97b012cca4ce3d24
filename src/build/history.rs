//! How an image tells by which commands it was made (spec build-tools.md 6.4).

use crate::appc::image_manifest::{Annotation, ImageManifest};

const PREFIX: &str = "coreos.com/acbuild/command-";

/// What is written down of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Nothing.
    Nothing,
    /// The command, as the value of an annotation.
    Command(String),
}

impl Record {
    /// Makes the record of a command: its full names and its arguments, quoted, without flags.
    pub fn of(names: &[&str], arguments: &[String]) -> Self {
        let quoted = arguments.iter().map(|argument| format!("{argument:?}"));
        let words = names.iter().map(|name| (*name).to_owned()).chain(quoted);
        Self::Command(std::iter::once("acbuild".to_owned()).chain(words).collect::<Vec<_>>().join(" "))
    }

    /// Adds the record to a manifest.
    pub(super) fn add_to(&self, manifest: &mut ImageManifest) {
        let Self::Command(value) = self else { return };
        let numbers = manifest.annotations.iter().filter_map(|note| {
            note.name.as_str().strip_prefix(PREFIX).and_then(|number| number.parse::<u64>().ok())
        });
        let next = numbers.max().unwrap_or(0).saturating_add(1);
        let name = format!("{PREFIX}{next}").parse().expect("the prefix and a number are an AC identifier");
        manifest.annotations.push(Annotation::new(name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_the_highest() {
        let mut manifest = ImageManifest::new("a".parse().unwrap());
        let noted = |manifest: &ImageManifest| {
            manifest
                .annotations
                .iter()
                .map(|note| format!("{} {}", note.name, note.value))
                .collect::<Vec<_>>()
        };
        Record::of(&["set-name"], &["a \"b\"".into()]).add_to(&mut manifest);
        manifest.annotations.push(Annotation::new(format!("{PREFIX}7").parse().unwrap(), "by hand"));
        manifest.annotations.push(Annotation::new(format!("{PREFIX}x").parse().unwrap(), "no number"));
        Record::Nothing.add_to(&mut manifest);
        Record::of(&["label", "remove"], &["x".into()]).add_to(&mut manifest);
        assert_eq!(
            noted(&manifest),
            [
                r#"coreos.com/acbuild/command-1 acbuild set-name "a \"b\"""#,
                "coreos.com/acbuild/command-7 by hand",
                "coreos.com/acbuild/command-x no number",
                r#"coreos.com/acbuild/command-8 acbuild label remove "x""#,
            ]
        );
    }
}
