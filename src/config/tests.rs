use std::fs;
use std::path::Path;

use super::*;

/// A level with these files, named by subdirectory.
fn write(level: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = level.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn basic(domain: &str, user: &str) -> String {
    format!(
        r#"{{"rktKind":"auth","rktVersion":"v1","domains":[{domain}],"type":"basic","credentials":{{"user":"{user}","password":"p"}}}}"#
    )
}

fn problem(files: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), files);
    let error = load([dir.path()]).unwrap_err().to_string();
    error.replace(&dir.path().display().to_string(), "@")
}

#[test]
fn nothing_is_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load([dir.path(), Path::new("/no/such/level")]).unwrap(), Settings::default());
}

#[test]
fn later_levels_win_setting_by_setting() {
    let dir = tempfile::tempdir().unwrap();
    let (system, local) = (dir.path().join("system"), dir.path().join("local"));
    write(
        &system,
        &[
            ("auth.d/a.json", &basic(r#""one","two:8443""#, "system")),
            ("paths.d/p.json", r#"{"rktKind":"paths","rktVersion":"v1","data":"/a","stage1-images":"/b"}"#),
            (
                "stage1.d/s.json",
                r#"{"rktKind":"stage1","rktVersion":"v1","name":"n","version":"1","location":"/x.aci"}"#,
            ),
        ],
    );
    write(
        &local,
        &[
            ("auth.d/a.json", &basic(r#""one""#, "local")),
            (
                "auth.d/d.json",
                r#"{"rktKind":"dockerAuth","rktVersion":"v1","registries":["r"],"credentials":{"user":"u","password":"p"}}"#,
            ),
            ("paths.d/p.json", r#"{"rktKind":"paths","rktVersion":"v1","data":"/c","more":[1]}"#),
            ("stage1.d/s.json", r#"{"rktKind":"stage1","rktVersion":"v1","location":"https://h/s.aci"}"#),
        ],
    );
    let settings = load([system.as_path(), &local]).unwrap();
    let user = |domain: &str| match settings.auth.get(domain) {
        Some(Credentials::Basic(login)) => login.user.clone(),
        _ => String::new(),
    };
    assert_eq!((user("one"), user("two:8443"), settings.auth.len()), ("local".into(), "system".into(), 2));
    assert_eq!(settings.docker_auth["r"].password.reveal(), "p");
    assert_eq!(settings.paths, Paths { data: Some("/c".into()), stage1_images: Some("/b".into()) });
    let stage1 = Stage1 { image: Some(("n".into(), "1".into())), location: Some("https://h/s.aci".into()) };
    assert_eq!(settings.stage1, stage1);
    assert!(!format!("{settings:?}").contains("\"p\""), "a secret is never shown by accident");
}

#[test]
fn only_regular_json_files_directly_in_a_subdirectory_count() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("auth.d/a.conf", "{"), ("auth.d/dir.json/a.json", "{"), ("other.d/a.json", "{")]);
    std::os::unix::fs::symlink("a.conf", dir.path().join("auth.d/link.json")).unwrap();
    assert_eq!(load([dir.path()]).unwrap(), Settings::default());
}

#[test]
fn a_file_that_is_not_understood_is_fatal() {
    let auth = |more: &str| format!(r#"{{"rktKind":"auth","rktVersion":"v1"{more}}}"#);
    let docker = |more: &str| format!(r#"{{"rktKind":"dockerAuth","rktVersion":"v1"{more}}}"#);
    let paths = |more: &str| format!(r#"{{"rktKind":"paths","rktVersion":"v1"{more}}}"#);
    let stage1 = |more: &str| format!(r#"{{"rktKind":"stage1","rktVersion":"v1"{more}}}"#);
    let parse = |text: &str| format!("failed to parse \"@/auth.d/a.json\": {text}");
    let invalid =
        |text: &str| format!("failed to parse \"@/stage1.d/a.json\": invalid stage1 configuration: {text}");
    for (name, text, expected) in [
        ("auth.d", "{}".to_owned(), "no rktKind specified in \"@/auth.d/a.json\"".to_owned()),
        ("auth.d", r#"{"rktKind":"auth"}"#.to_owned(), "no rktVersion specified in \"@/auth.d/a.json\"".to_owned()),
        (
            "auth.d",
            paths(""),
            "the configuration directory \"@/auth.d\" expects to have configuration files of kinds \"auth\", \"dockerAuth\", but \"a.json\" has kind of \"paths\"".to_owned(),
        ),
        (
            "auth.d",
            r#"{"rktKind":"auth","rktVersion":"v2"}"#.to_owned(),
            "no parser available for configuration of kind \"auth\" and version \"v2\"".to_owned(),
        ),
        ("auth.d", "[]".to_owned(), parse("it is no JSON object")),
        ("auth.d", "{".to_owned(), parse("JSON error at line 1, column 1: EOF while parsing an object")),
        ("auth.d", auth(r#","rktKind":"auth""#), parse("JSON error at line 1, column 45: the member \"rktKind\" is given twice")),
        ("auth.d", auth(""), parse("no domains specified")),
        ("auth.d", auth(r#","domains":"x""#), parse("domains must be a list of strings")),
        ("auth.d", auth(r#","domains":["x"]"#), parse("no auth type specified")),
        ("auth.d", auth(r#","domains":["x"],"type":"x""#), parse("unknown auth type: \"x\"")),
        ("auth.d", auth(r#","domains":["x"],"type":"basic""#), parse("user not specified")),
        ("auth.d", auth(r#","domains":["x"],"type":"basic","credentials":{"user":"a"}"#), parse("password not specified")),
        ("auth.d", auth(r#","domains":["x"],"type":"oauth""#), parse("no oauth bearer token specified")),
        ("auth.d", auth(r#","domains":["x"],"type":"aws""#), parse("no AWS Access Key ID specified")),
        (
            "auth.d",
            auth(r#","domains":["x"],"type":"aws","credentials":{"accessKeyID":"a"}"#),
            parse("no AWS Secret Access Key specified"),
        ),
        ("auth.d", docker(""), parse("no registries specified")),
        ("auth.d", docker(r#","registries":["x"]"#), parse("user not specified")),
        ("paths.d", paths(r#","data":"a""#), "failed to parse \"@/paths.d/a.json\": data directory must be an absolute path".to_owned()),
        (
            "paths.d",
            paths(r#","stage1-images":"a""#),
            "failed to parse \"@/paths.d/a.json\": stage1 images directory must be an absolute path".to_owned(),
        ),
        ("stage1.d", stage1(r#","name":"a""#), invalid("default stage1 image name specified, but version is missing")),
        ("stage1.d", stage1(r#","version":"a""#), invalid("default stage1 image version specified, but name is missing")),
        (
            "stage1.d",
            stage1(r#","location":"a/b""#),
            invalid("default stage1 image location is either a relative path or a URL without scheme"),
        ),
        (
            "stage1.d",
            stage1(r#","location":"ftp://a/b""#),
            invalid("default stage1 image location URL has invalid scheme \"ftp\", allowed schemes are \"docker\", \"file\", \"http\", \"https\""),
        ),
    ] {
        assert_eq!(problem(&[(&format!("{name}/a.json"), &text)]), expected, "{text}");
    }
    assert_eq!(problem(&[("auth.d", "x")]), "expected \"@/auth.d\" to be a directory");
}

#[test]
fn two_files_of_one_level_must_not_say_the_same() {
    let paths = r#"{"rktKind":"paths","rktVersion":"v1","data":"/a"}"#;
    let images = r#"{"rktKind":"paths","rktVersion":"v1","stage1-images":"/a"}"#;
    let stage1 = r#"{"rktKind":"stage1","rktVersion":"v1","name":"a","version":"1"}"#;
    let location = r#"{"rktKind":"stage1","rktVersion":"v1","location":"/a"}"#;
    let docker = r#"{"rktKind":"dockerAuth","rktVersion":"v1","registries":["r"],"credentials":{"user":"u","password":"p"}}"#;
    for (dir, text, expected) in [
        ("auth.d", basic("\"x\"", "u").as_str(), "auth for domain \"x\" is already specified"),
        ("auth.d", docker, "credentials for docker registry \"r\" are already specified"),
        ("paths.d", paths, "data directory is already specified"),
        ("paths.d", images, "stage1 images directory is already specified"),
        ("stage1.d", stage1, "name and version of a default stage1 image are already specified"),
        ("stage1.d", location, "location of a default stage1 image is already specified"),
    ] {
        let (one, two) = (format!("{dir}/1.json"), format!("{dir}/2.json"));
        let expected = format!("failed to parse \"@/{two}\": {expected}");
        assert_eq!(problem(&[(&one, text), (&two, text)]), expected);
    }
}
