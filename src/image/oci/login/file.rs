//! One file of credentials, as `podman login` and `docker login` write it (containers-auth.json(5); Docker CLI, "docker
//! login").
//!
//! ```text
//! {"auths": {"HOST[:PORT][/NAME…]": {"auth": "base64 of USER:PASSWORD", "identitytoken": "…"}},
//!  "credHelpers": {"HOST[:PORT][/NAME…]": "NAME"}, "credsStore": "NAME"}
//! ```

use std::path::Path;

use serde_json::{Map, Value};

use super::{Identity, LoginError};
use crate::appc::{json, quoted};
use crate::config::{Login, Secret};
use crate::image::base64;

/// What a file says of a registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    Nothing,
    /// Who the user is.
    Identity(Identity),
    /// A program knows that.
    Helper {
        /// Which.
        name: String,
        /// The key of the file that has led to it; without one, the program is for all registries.
        key: Option<String>,
    },
}

/// Reads what a file says of the first of `keys`, the most specific first, that it has.
pub(super) fn read(file: &Path, text: &[u8], keys: &[String]) -> Result<Said, LoginError> {
    look_up(text, keys).map_err(|problem| LoginError::Content { file: file.to_owned(), problem })
}

fn look_up(text: &[u8], keys: &[String]) -> Result<Said, String> {
    let document = json::parse(text).map_err(|error| error.to_string())?;
    let document = document.as_object().ok_or("it is no JSON object")?;
    let helpers = object(document, "credHelpers")?;
    if let Some((key, name)) = helpers.and_then(|helpers| find(helpers, keys, |_| true)) {
        let name = name.as_str().ok_or_else(|| format!("credHelpers: {} must be a string", quoted(key)))?;
        return Ok(Said::Helper { name: name.to_owned(), key: Some(normal(key)) });
    }
    // An empty entry is what is left of one whose credentials are with a program.
    let auths = object(document, "auths")?;
    if let Some((key, entry)) = auths.and_then(|auths| find(auths, keys, has_credentials)) {
        return identity(entry)
            .map(Said::Identity)
            .map_err(|problem| format!("auths: {}: {problem}", quoted(key)));
    }
    match document.get("credsStore") {
        None | Some(Value::Null) => Ok(Said::Nothing),
        Some(Value::String(name)) if name.is_empty() => Ok(Said::Nothing),
        Some(Value::String(name)) => Ok(Said::Helper { name: name.clone(), key: None }),
        Some(_) => Err("credsStore must be a string".into()),
    }
}

fn object<'a>(
    document: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, String> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(format!("{name} must be an object")),
    }
}

/// The member for the first key that has one that counts: as written, or with the scheme that Docker puts before it.
fn find<'a>(
    members: &'a Map<String, Value>,
    keys: &[String],
    counts: impl Fn(&Value) -> bool,
) -> Option<(&'a String, &'a Value)> {
    keys.iter().find_map(|key| {
        let as_written = members.get_key_value(key);
        let others = || members.iter().filter(|(name, _)| normal(name) == *key);
        as_written.into_iter().chain(others()).find(|(_, value)| counts(value))
    })
}

/// A key without a scheme; what Docker has behind that, such as `/v1/`, is no name of an image.
fn normal(key: &str) -> String {
    let host_of = |rest: &str| rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => host_of(rest),
        None => {
            let (host, names) = key.split_at(key.find('/').unwrap_or(key.len()));
            format!("{}{}", host.to_ascii_lowercase(), names.trim_end_matches('/'))
        }
    }
}

fn has_credentials(entry: &Value) -> bool {
    let is_said = |name| !matches!(entry.get(name), None | Some(Value::Null)) && entry[name] != "";
    !entry.is_object() || is_said("auth") || is_said("identitytoken")
}

/// Reads an entry; what is wrong with it is told without what it says.
fn identity(entry: &Value) -> Result<Identity, &'static str> {
    let entry = entry.as_object().ok_or("it must be an object")?;
    let member = |name, wrong| match entry.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(wrong),
    };
    match member("identitytoken", "identitytoken must be a string")? {
        "" => {}
        token => return Ok(Identity::Token(Secret::new(token))),
    }
    let auth = member("auth", "auth must be a string")?;
    let text = base64::decode(auth).ok_or("auth is not in base64")?;
    let text = String::from_utf8(text).map_err(|_| "auth is not the base64 of a text")?;
    let (user, password) = text.split_once(':').ok_or("auth is not the base64 of USER:PASSWORD")?;
    Ok(Identity::Password(Login { user: user.to_owned(), password: Secret::new(password) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, keys: &[&str]) -> Result<Said, String> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        read(Path::new("auth.json"), text.as_bytes(), &keys).map_err(|error| error.to_string())
    }

    fn password(user: &str) -> Said {
        Said::Identity(Identity::Password(Login { user: user.into(), password: Secret::new("p") }))
    }

    #[test]
    fn the_most_specific_entry_counts() {
        // "one:p" to "four:p".
        let file = r#"{"auths": {
            "reg.example/team/app": {"auth": "b25lOnA="},
            "reg.example/team": {"auth": "dHdvOnA="},
            "reg.example": {"auth": "dGhyZWU6cA=="},
            "https://Other.example/v1/": {"auth": "Zm91cjpw"},
            "other.example": {}
        }}"#;
        for (keys, expected) in [
            (&["reg.example/team/app", "reg.example/team", "reg.example"][..], password("one")),
            (&["reg.example/team/other", "reg.example/team", "reg.example"], password("two")),
            (&["reg.example/teams/x", "reg.example/teams", "reg.example"], password("three")),
            (&["other.example/x", "other.example"], password("four")),
            (&["reg.example:5000/x", "reg.example:5000"], Said::Nothing),
            (&["example"], Said::Nothing),
        ] {
            assert_eq!(said(file, keys).unwrap(), expected, "{keys:?}");
        }
    }

    #[test]
    fn programs_are_for_one_registry_or_for_all_that_have_no_entry() {
        let file = r#"{"auths": {"a.example": {"auth": "b25lOnA="}, "b.example": {"auth": "b25lOnA="},
            "c.example": {"identitytoken": "t", "auth": "b25lOg=="}},
            "credHelpers": {"https://a.example": "one"}, "credsStore": "all"}"#;
        let helper =
            |name: &str, key: Option<&str>| Said::Helper { name: name.into(), key: key.map(str::to_owned) };
        for (key, expected) in [
            ("a.example", helper("one", Some("a.example"))),
            ("b.example", password("one")),
            ("c.example", Said::Identity(Identity::Token(Secret::new("t")))),
            ("d.example", helper("all", None)),
        ] {
            assert_eq!(said(file, &[key]).unwrap(), expected, "{key}");
        }
        assert_eq!(said(r#"{"credsStore": ""}"#, &["a"]).unwrap(), Said::Nothing);
        assert_eq!(said("{}", &["a"]).unwrap(), Said::Nothing);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        for (file, problem) in [
            ("{", "JSON error at line 1"),
            ("[]", "it is no JSON object"),
            (r#"{"auths": []}"#, "auths must be an object"),
            (r#"{"auths": {"r": "s3cret"}}"#, "auths: \"r\": it must be an object"),
            (r#"{"auths": {"r": {"auth": 7}}}"#, "auths: \"r\": auth must be a string"),
            (r#"{"auths": {"r": {"auth": "s3cret!"}}}"#, "auths: \"r\": auth is not in base64"),
            (r#"{"auths": {"r": {"auth": "/w=="}}}"#, "auths: \"r\": auth is not the base64 of a text"),
            (
                r#"{"auths": {"r": {"auth": "Zm9v"}}}"#,
                "auths: \"r\": auth is not the base64 of USER:PASSWORD",
            ),
            (r#"{"auths": {"r": {"identitytoken": ["s3cret"]}}}"#, "\"r\": identitytoken must be a string"),
            (r#"{"credHelpers": {"r": 1}}"#, "credHelpers: \"r\" must be a string"),
            (r#"{"credsStore": 1}"#, "credsStore must be a string"),
        ] {
            let refused = said(file, &["r"]).unwrap_err();
            assert!(refused.starts_with("credentials in auth.json: "), "{refused}");
            assert!(refused.contains(problem) && !refused.contains("s3cret"), "{refused}");
        }
    }
}
