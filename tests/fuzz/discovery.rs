//! Discovery pages: what is found in a page is in its head by the HTML standard, and a usual head is read whole.

use rkt::appc::name::AcIdentifier;
use rkt::image::discovery::{Meta, PAGE_LIMIT, Subject, pages, parse, render, values};
use rkt::image::reference::NameReference;

use super::html;
use super::mutate::{self, Rng};
use super::run::{Effort, Target};

pub(crate) struct Pages;

const WORDS: [&str; 52] = [
    "<meta name=\"ac-discovery\" content=\"a.b https://a.b/{name}-{version}-{os}-{arch}.{ext}\">",
    "<meta name='ac-discovery-pubkeys' content='a.b/c https://k'>",
    "<meta content=\"a.b x{y\" name=ac-discovery>",
    "<meta ",
    "<META\n",
    " name=ac-discovery ",
    " content='a.b v' ",
    " content=",
    "/>",
    ">",
    "<html>",
    "<head>",
    "</head>",
    "<body>",
    "</body>",
    "</html>",
    "<br>",
    "</br>",
    "<p>",
    "</p>",
    "<title>",
    "</title>",
    "<title/>",
    "<style>",
    "</style >",
    "<style/>",
    "<script>",
    "</script>",
    "</script/x='",
    "<script/>",
    "<!--",
    "-->",
    "--!>",
    "<!-->",
    "<!",
    "<?",
    "</>",
    "<template>",
    "</template>",
    "<template/>",
    "<noscript>",
    "</noscript>",
    "<noframes>",
    "</noframes>",
    "<textarea>",
    "</textarea>",
    "<base href=/>",
    "<link rel=x>",
    "<svg>",
    "<![CDATA[",
    "]]>",
    "\"",
];

impl Target for Pages {
    const NAME: &'static str = "discovery";

    fn check(&mut self, input: &[u8], _: Effort) -> Result<String, String> {
        let found = parse(input);
        let text = String::from_utf8_lossy(&input[..input.len().min(PAGE_LIMIT)]);
        let head = html::head(&text);
        let expected: Vec<Meta> = head.metas.iter().filter_map(meta).collect();
        // The second reading takes these as they are.
        let is_comparable = !head.is_unsure && !text.contains(['&', '\0']);
        if is_comparable {
            let mut rest = expected.iter();
            if let Some(stray) = found.iter().find(|meta| !rest.any(|expected| expected == *meta)) {
                return Err(format!("{stray:?} is not in the head of the page"));
            }
            if head.is_plain && found != expected {
                return Err(format!("only {found:?} of {expected:?} was found"));
            }
        }
        check_values(&found)?;
        Ok(format!("{} of the way {}", found.len().min(3), head.way))
    }

    fn mutate(&self, rng: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
        mutate::bytes(rng, input, other, &WORDS)
    }
}

fn meta((name, content): &(String, String)) -> Option<Meta> {
    let subject = [Subject::Images, Subject::Keys].into_iter().find(|subject| subject.as_str() == name)?;
    let (prefix, value) = content.trim().split_once(' ')?;
    Some(Meta { subject, prefix: prefix.to_owned(), value: value.trim().to_owned() })
}

/// A tag is for names below its prefix only, part by part, and a template is filled whole or not at all.
fn check_values(metas: &[Meta]) -> Result<(), String> {
    for name in ["a.b", "a.b/c", "a.b/c/d", "a.bc", "example.com/app"] {
        let identifier: AcIdentifier = name.parse().expect("an identifier");
        let is_below = |prefix: &str| {
            let (name, prefix): (Vec<_>, Vec<_>) = (name.split('/').collect(), prefix.split('/').collect());
            name.starts_with(&prefix)
        };
        for subject in [Subject::Images, Subject::Keys] {
            let expected: Vec<&str> = metas
                .iter()
                .filter(|meta| meta.subject == subject && is_below(&meta.prefix))
                .map(|meta| meta.value.as_str())
                .collect();
            if values(metas, subject, &identifier) != expected {
                return Err(format!("{metas:?} gives {name} other values than {expected:?}"));
            }
        }
        if let Some(page) = pages(&identifier).iter().find(|page| !is_below(page.as_str())) {
            return Err(format!("{page} is asked about {name}"));
        }
    }
    let wanted = NameReference::parse("a.b/c:1,os=linux").expect("a name");
    for template in metas.iter().map(|meta| &meta.value) {
        if let Some(url) = render(template, &wanted, "aci")
            && ["{name}", "{version}", "{os}", "{arch}", "{ext}"]
                .iter()
                .any(|variable| url.contains(variable))
        {
            return Err(format!("{template:?} is filled to {url:?}"));
        }
    }
    Ok(())
}
