//! Discovery pages: where an image, its signature and the keys for it are, as the owner of a name says in the head of a web
//! page (appc spec, discovery.md; spec images.md 2.4.1).
//!
//! A page is hostile: only its head counts, read as a browser reads it; what it says holds for names at or below its
//! prefix by path component.

use html5gum::{DefaultEmitter, Token, Tokenizer};

use super::reference::NameReference;
use super::trust::keystore::{is_below, prefixes};
use crate::appc::name::AcIdentifier;

/// How much of a page is read (SECURITY.md, B12).
pub const PAGE_LIMIT: usize = 1 << 20;
/// How many pages are asked for, and how many keys are taken.
pub const MOST_TRIES: usize = 16;

/// What a tag is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `ac-discovery`: where images are.
    Images,
    /// `ac-discovery-pubkeys`: where keys are.
    Keys,
}

impl Subject {
    /// The tag's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Images => "ac-discovery",
            Self::Keys => "ac-discovery-pubkeys",
        }
    }
}

/// A tag in the head of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// What it is about.
    pub subject: Subject,
    /// The names that it is for.
    pub prefix: String,
    /// A template of an URL, or an URL.
    pub value: String,
}

/// The pages that may tell about a name, without their scheme: of the name itself, then of each that it is below.
pub fn pages(name: &AcIdentifier) -> Vec<AcIdentifier> {
    let mut pages = prefixes(name);
    pages.reverse();
    pages.truncate(MOST_TRIES);
    pages
}

/// Reads the tags in the head of a page.
pub fn parse(page: &[u8]) -> Vec<Meta> {
    let page = String::from_utf8_lossy(&page[..page.len().min(PAGE_LIMIT)]);
    let mut emitter = DefaultEmitter::default();
    // The text of a title or a script holds no tags.
    emitter.naively_switch_states(true);
    let mut metas = Vec::new();
    // An element whose text is its own.
    let mut has_text = false;
    for token in Tokenizer::new_with_emitter(page.as_ref(), emitter).flatten() {
        match token {
            Token::StartTag(tag) => match &tag.name[..] {
                b"meta" => {
                    let attribute = |name: &[u8]| {
                        tag.attributes
                            .iter()
                            .find(|(found, _)| &found[..] == name)
                            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                    };
                    metas.extend(meta(attribute(b"name"), attribute(b"content")));
                }
                // A slash at the end of a tag means nothing in HTML: what comes next is text all the same.
                b"title" | b"style" | b"script" | b"noscript" => has_text = true,
                b"html" | b"head" | b"base" | b"link" => {}
                // Anything else begins the body (HTML, 13.2.6.4.4), but for a template, which is not part of the head and
                // may hold elements in which text is read in other ways (SVG, tables): where it ends can't be told from
                // the tags alone.
                _ => break,
            },
            Token::EndTag(tag) => match &tag.name[..] {
                b"head" | b"body" | b"html" | b"br" => break,
                b"title" | b"style" | b"script" | b"noscript" => has_text = false,
                _ => {}
            },
            // Text begins the body, too.
            Token::String(text) if !has_text && !text.trim_ascii().is_empty() => break,
            _ => {}
        }
    }
    metas
}

fn meta(name: Option<String>, content: Option<String>) -> Option<Meta> {
    let subject = match name?.as_str() {
        "ac-discovery" => Subject::Images,
        "ac-discovery-pubkeys" => Subject::Keys,
        _ => return None,
    };
    let content = content?;
    let (prefix, value) = content.trim().split_once(' ')?;
    Some(Meta { subject, prefix: prefix.to_owned(), value: value.trim().to_owned() })
}

/// The values of the tags about `subject` that are for a name.
pub fn values<'m>(metas: &'m [Meta], subject: Subject, name: &AcIdentifier) -> Vec<&'m str> {
    let fits = |meta: &&Meta| meta.subject == subject && is_below(name.as_str(), &meta.prefix);
    metas.iter().filter(fits).map(|meta| meta.value.as_str()).collect()
}

/// Puts a name, its labels and an extension into a template; `None` if something in it has no value.
pub fn render(template: &str, name: &NameReference, extension: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (variable, after) = behind.split_once('}')?;
        text.push_str(before);
        let label = |wanted: &str| name.labels.iter().find(|label| label.name == *wanted);
        match variable {
            "name" => text.push_str(name.name.as_str()),
            "ext" => text.push_str(extension),
            "version" => text.push_str(label("version").map_or("latest", |label| &label.value)),
            other => text.push_str(&label(other)?.value),
        }
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn images(page: &str) -> Vec<String> {
        let metas = parse(page.as_bytes());
        metas.iter().map(|meta| format!("{} {} {}", meta.subject.as_str(), meta.prefix, meta.value)).collect()
    }

    const TAG: &str = r#"<meta name="ac-discovery" content="a.b https://a.b/{name}.{ext}">"#;
    const FOUND: &str = "ac-discovery a.b https://a.b/{name}.{ext}";

    #[test]
    fn b12_tags_count_in_the_head_only() {
        for (page, expected) in [
            (
                format!("<!doctype html><html><head><title>x</title>{TAG}</head><body></body></html>"),
                vec![FOUND],
            ),
            (TAG.to_owned(), vec![FOUND]),
            (TAG.replace('"', "'").to_uppercase().replace("A.B", "a.b"), vec![]),
            (format!("<script>if (1 < 2) {{}}</script>{TAG}<link rel=x>{TAG}"), vec![FOUND, FOUND]),
            (format!("<head></head>{TAG}"), vec![]),
            (format!("<head></head><body>{TAG}</body>"), vec![]),
            (format!("<html><body>{TAG}"), vec![]),
            (format!("<div>{TAG}</div>"), vec![]),
            (format!("<p>{TAG}"), vec![]),
            (format!("hello{TAG}"), vec![]),
            (format!("<title>hello</title> {TAG}"), vec![FOUND]),
            (format!("<!-- {TAG} -->"), vec![]),
            (format!("<title>{TAG}</title>"), vec![]),
            (format!("<script>{TAG}</script>"), vec![]),
            (format!("<style>{TAG}</style>"), vec![]),
            (format!("<noscript>{TAG}</noscript>{TAG}"), vec![FOUND]),
            (format!("<template>{TAG}</template>"), vec![]),
            (format!("<textarea>{TAG}"), vec![]),
            (format!("{TAG}<template></template>{TAG}"), vec![FOUND]),
            (format!("<noscript/>{TAG}</noscript>{TAG}"), vec![FOUND]),
            (format!("<title/> {TAG}</title>{TAG}"), vec![FOUND]),
            (format!("<meta name=\"x\" content=\"{}\">", TAG.replace('"', "'")), vec![]),
            ("<meta name=ac-discovery content=a.b>".to_owned(), vec![]),
            ("<meta name=ac-discovery>".to_owned(), vec![]),
            (
                "<meta name=ac-discovery-pubkeys content='a.b  https://k '>".to_owned(),
                vec!["ac-discovery-pubkeys a.b https://k"],
            ),
            (format!("{}{TAG}", " ".repeat(PAGE_LIMIT)), vec![]),
        ] {
            assert_eq!(images(&page), expected, "{page:.200}");
        }
    }

    /// Found by generated pages: a browser has each of these tags in the body, in a template or in a text.
    #[test]
    fn b12_no_end_of_a_tag_leads_back_into_the_head() {
        for page in [
            format!("</br>{TAG}"),
            format!("<template/>{TAG}"),
            format!("<template></noscript>{TAG}"),
            format!("<noscript/>{TAG}"),
            format!("<template><noframes></template>{TAG}</noframes>"),
            format!("<template><svg><style><!--</style></template>{TAG}-->"),
        ] {
            assert_eq!(images(&page), [""; 0], "{page}");
        }
    }

    #[test]
    fn b12_a_prefix_ends_at_a_component() {
        let meta = |prefix: &str| Meta { subject: Subject::Images, prefix: prefix.into(), value: "v".into() };
        for (prefix, fits) in [
            ("a.b", true),
            ("a.b/c", true),
            ("a.b/c/d", true),
            ("a.b/", false),
            ("a.b/c/d/e", false),
            ("a.b/cd", false),
            ("a.b/c/", false),
            ("a", false),
            ("", false),
        ] {
            let found = !values(&[meta(prefix)], Subject::Images, &"a.b/c/d".parse().unwrap()).is_empty();
            assert_eq!(found, fits, "{prefix}");
        }
        assert!(values(&[meta("a.b")], Subject::Keys, &"a.b".parse().unwrap()).is_empty());
    }

    #[test]
    fn templates_are_filled_or_skipped() {
        let name = NameReference::parse("a.b/c:1.0,os=linux,arch=amd64").unwrap();
        for (template, expected) in [
            ("https://a.b/{name}-{version}-{os}-{arch}.{ext}", Some("https://a.b/a.b/c-1.0-linux-amd64.aci")),
            ("https://a.b/x.aci", Some("https://a.b/x.aci")),
            ("https://a.b/{channel}.{ext}", None),
            ("https://a.b/{name", None),
            ("", Some("")),
        ] {
            assert_eq!(render(template, &name, "aci").as_deref(), expected, "{template}");
        }
        let latest = NameReference::parse("a.b/c").unwrap();
        assert_eq!(render("{version}.{ext}", &latest, "aci.asc").as_deref(), Some("latest.aci.asc"));
    }

    #[test]
    fn pages_are_those_of_the_name_and_above() {
        let names = |name: &str| -> Vec<String> {
            pages(&name.parse().unwrap()).iter().map(ToString::to_string).collect()
        };
        assert_eq!(names("a.b/c/d"), ["a.b/c/d", "a.b/c", "a.b"]);
        assert_eq!(names("a"), ["a"]);
        assert_eq!(names(&format!("a{}", "/b".repeat(40))).len(), MOST_TRIES);
    }

    proptest! {
        #[test]
        fn any_page_is_read(page in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&page);
        }
    }
}
