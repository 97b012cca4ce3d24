//! One file of the configuration: its kind, its version, and what it says.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::credentials::{Credentials, Login, Secret};
use super::error::ConfigError;
use super::settings::{Paths, Stage1};
use crate::appc::json;

/// The only version of every kind.
const VERSION: &str = "v1";

/// What a file may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Auth,
    DockerAuth,
    Paths,
    Stage1,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::DockerAuth => "dockerAuth",
            Self::Paths => "paths",
            Self::Stage1 => "stage1",
        }
    }
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fragment {
    Auth { domains: Vec<String>, credentials: Credentials },
    DockerAuth { registries: Vec<String>, login: Login },
    Paths(Paths),
    Stage1(Stage1),
}

/// Reads a file of a directory that may hold `kinds`.
pub(super) fn parse(file: &Path, kinds: &[Kind], text: &[u8]) -> Result<Fragment, ConfigError> {
    let content = |problem: String| ConfigError::Content { file: file.to_owned(), problem };
    let object = match json::parse(text) {
        Ok(Value::Object(object)) => Object(object),
        Ok(_) => return Err(content("it is no JSON object".to_owned())),
        Err(error) => return Err(content(error.to_string())),
    };
    let name = object.text("rktKind").map_err(content)?;
    if name.is_empty() {
        return Err(ConfigError::NoKind { file: file.to_owned() });
    }
    let version = object.text("rktVersion").map_err(content)?;
    if version.is_empty() {
        return Err(ConfigError::NoVersion { file: file.to_owned() });
    }
    let kind = kinds.iter().find(|kind| kind.as_str() == name).ok_or_else(|| ConfigError::WrongKind {
        dir: file.parent().unwrap_or(file).to_owned(),
        expected: kinds.iter().map(|kind| kind.as_str()).collect(),
        file: file.file_name().unwrap_or_default().into(),
        kind: name.clone(),
    })?;
    if version != VERSION {
        return Err(ConfigError::UnknownVersion { kind: name, version, file: file.to_owned() });
    }
    match kind {
        Kind::Auth => auth(&object),
        Kind::DockerAuth => docker_auth(&object),
        Kind::Paths => paths(&object),
        Kind::Stage1 => stage1(&object).map_err(|problem| format!("invalid stage1 configuration: {problem}")),
    }
    .map_err(content)
}

fn auth(object: &Object) -> Result<Fragment, String> {
    let domains = object.texts("domains")?;
    if domains.is_empty() {
        return Err("no domains specified".to_owned());
    }
    let kind = object.text("type")?;
    let member = |name| object.object("credentials").and_then(|credentials| credentials.text(name));
    let credentials = match kind.as_str() {
        "" => return Err("no auth type specified".to_owned()),
        "basic" => Credentials::Basic(login(object)?),
        "oauth" => Credentials::OAuth {
            token: Secret::new(required(member("token")?, "no oauth bearer token specified")?),
        },
        "aws" => Credentials::Aws {
            access_key_id: required(member("accessKeyID")?, "no AWS Access Key ID specified")?,
            secret_access_key: Secret::new(required(
                member("secretAccessKey")?,
                "no AWS Secret Access Key specified",
            )?),
            region: member("awsRegion")?,
        },
        other => return Err(format!("unknown auth type: \"{other}\"")),
    };
    Ok(Fragment::Auth { domains, credentials })
}

fn login(object: &Object) -> Result<Login, String> {
    let credentials = object.object("credentials")?;
    let user = required(credentials.text("user")?, "user not specified")?;
    if user.contains(':') {
        // RFC 7617 2: what follows it would be read as the password.
        return Err("user must not contain a colon".to_owned());
    }
    let password = Secret::new(required(credentials.text("password")?, "password not specified")?);
    Ok(Login { user, password })
}

fn docker_auth(object: &Object) -> Result<Fragment, String> {
    let registries = object.texts("registries")?;
    if registries.is_empty() {
        return Err("no registries specified".to_owned());
    }
    Ok(Fragment::DockerAuth { registries, login: login(object)? })
}

fn paths(object: &Object) -> Result<Fragment, String> {
    let absolute = |name, problem: &str| {
        let text = object.text(name)?;
        let path = (!text.is_empty()).then(|| PathBuf::from(text));
        match path {
            Some(path) if !path.is_absolute() => Err(problem.to_owned()),
            path => Ok(path),
        }
    };
    Ok(Fragment::Paths(Paths {
        data: absolute("data", "data directory must be an absolute path")?,
        stage1_images: absolute("stage1-images", "stage1 images directory must be an absolute path")?,
    }))
}

fn stage1(object: &Object) -> Result<Fragment, String> {
    let (name, version) = (object.text("name")?, object.text("version")?);
    let image = match (name.is_empty(), version.is_empty()) {
        (true, true) => None,
        (false, false) => Some((name, version)),
        (false, true) => {
            return Err("default stage1 image name specified, but version is missing".to_owned());
        }
        (true, false) => {
            return Err("default stage1 image version specified, but name is missing".to_owned());
        }
    };
    let location = object.text("location")?;
    check_location(&location)?;
    Ok(Fragment::Stage1(Stage1 { image, location: (!location.is_empty()).then_some(location) }))
}

const SCHEMES: [&str; 4] = ["docker", "file", "http", "https"];

fn check_location(location: &str) -> Result<(), String> {
    if location.is_empty() || location.starts_with('/') {
        return Ok(());
    }
    let is_scheme = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    match location.split_once(':') {
        Some((scheme, _)) if SCHEMES.contains(&scheme) => Ok(()),
        Some((scheme, _)) if is_scheme(scheme) => Err(format!(
            "default stage1 image location URL has invalid scheme \"{scheme}\", allowed schemes are {}",
            SCHEMES.map(|scheme| format!("\"{scheme}\"")).join(", ")
        )),
        _ => {
            Err("default stage1 image location is either a relative path or a URL without scheme".to_owned())
        }
    }
}

fn required(text: String, missing: &str) -> Result<String, String> {
    if text.is_empty() { Err(missing.to_owned()) } else { Ok(text) }
}

/// A JSON object whose members have known types; one that is missing or null is empty.
struct Object(Map<String, Value>);

impl Object {
    fn text(&self, name: &str) -> Result<String, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("{name} must be a string")),
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let wrong = || format!("{name} must be a list of strings");
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(values)) => {
                values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    fn object(&self, name: &str) -> Result<Self, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Self(Map::new())),
            Some(Value::Object(members)) => Ok(Self(members.clone())),
            Some(_) => Err(format!("{name} must be an object")),
        }
    }
}
