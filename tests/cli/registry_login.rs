//! Who rkt is to a registry by the files of podman and docker: which one counts, what may be in it, whose it may be, and
//! who is told what of it.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::registry::{BASIC, HOST, Registry, TOKEN, challenge};
use crate::support::Run;
use crate::support::run::Ended;
use crate::support::server::{Answer, Asked};
use crate::support::wait;

const NOBODY: u32 = 65534;
const WANTS_BASIC: &str = "Basic realm=\"x\"";
/// A helper that gives what [`BASIC`] says.
const GIVES_SECRET: &str =
    r#"cat >"$HOME/asked"; echo '{"ServerURL":"x","Username":"user","Secret":"secret"}'"#;

/// A registry that wants to see any password.
fn wants_a_password() -> Registry {
    Registry::new(|asked, _| match asked.header("authorization") {
        Some(_) => None,
        None => Some(Answer::status(401).header("WWW-Authenticate", WANTS_BASIC)),
    })
}

/// A registry that gives tokens to who shows the identity token `id-token`.
fn wants_an_identity_token(realm: &'static str) -> Registry {
    const FORM: &str = "service=reg.example.com&scope=repository%3Ateam%2Fapp%3Apull&grant_type=refresh_token\
                        &client_id=rkt&refresh_token=id-token";
    Registry::new(move |asked, _| match (asked.host.as_str(), asked.header("authorization")) {
        ("auth.example.com", None) if asked.method == "POST" && asked.path == "/token" => {
            let kind = asked.header("content-type");
            assert_eq!(kind, Some("application/x-www-form-urlencoded"));
            Some(match asked.body == FORM.as_bytes() {
                true => Answer::ok(br#"{"access_token":"a-token"}"#.to_vec()),
                false => Answer::status(401),
            })
        }
        (HOST, Some(TOKEN)) => None,
        (HOST, None) => Some(challenge(realm)),
        _ => Some(Answer::status(400)),
    })
}

struct User<'r> {
    registry: &'r Registry,
    home: PathBuf,
    bin: PathBuf,
}

impl<'r> User<'r> {
    fn new(registry: &'r Registry) -> Self {
        let at = |name: &str| registry.world.path().join(name);
        let user = Self { registry, home: at("home"), bin: at("bin") };
        fs::create_dir(&user.home).unwrap();
        fs::create_dir(&user.bin).unwrap();
        user
    }

    fn write(&self, name: &str, content: impl ToString) -> PathBuf {
        let path = self.home.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content.to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn docker(&self, content: impl ToString) -> PathBuf {
        self.write(".docker/config.json", content)
    }

    /// Makes the program `docker-credential-NAME`.
    fn helper(&self, name: &str, script: &str) -> PathBuf {
        let text = self.write("script", format!("#!/bin/sh\n[ \"$*\" = get ] || exit 9\n{script}\n"));
        let program = self.bin.join(format!("docker-credential-{name}"));
        // Not by our own hand: a test that forks just then would keep it open for writing.
        Run::new("install").args(["-m", "755"]).arg(text).arg(&program).stdout();
        program
    }

    fn prepare(&self, options: &str, reference: &str) -> Run {
        let path = format!("{}:/usr/bin:/bin", self.bin.display());
        let line = format!("--debug --insecure-options={options} fetch --full {reference}");
        self.registry.rkt(&line).env("HOME", &self.home).env("PATH", path)
    }

    fn fetch(&self) -> Ended {
        let ended = self.prepare("image", &format!("docker://{HOST}/team/app:1")).end();
        self.tells_no_secret(&ended);
        ended
    }

    fn refused(&self, problem: &str) {
        let ended = self.fetch();
        ended.expect_code(254);
        assert!(ended.stderr.contains(problem), "{problem}: {}", ended.stderr);
    }

    fn tells_no_secret(&self, ended: &Ended) {
        for secret in ["secret", "c2VjcmV0", "id-token", "a-token", &BASIC[6..]] {
            assert!(!ended.stderr.contains(secret), "{secret}: {}", ended.stderr);
        }
    }

    /// What the registry was shown.
    fn shown(&self) -> Option<String> {
        let log = self.registry.server.log();
        self.registry.server.take_log();
        log.iter().find_map(Asked::authorization)
    }
}

impl Asked {
    fn authorization(&self) -> Option<String> {
        self.header("authorization").map(str::to_owned)
    }
}

/// An entry with a user, whose password is `secret`.
fn auth(user: &str) -> (Value, String) {
    let text = Run::new("base64").input(format!("{user}:secret")).stdout().trim().to_owned();
    (json!({ "auth": text }), format!("Basic {text}"))
}

#[test]
fn the_first_file_in_podmans_order_that_knows_the_registry_counts() {
    let registry = wants_a_password();
    let user = User::new(&registry);
    let file = |name: &str, key: &str| {
        let (entry, shown) = auth(name);
        (json!({"auths": {key: entry}}), shown)
    };
    let other = json!({"auths": {"other.example.com": auth("other").0, "reg.example.com": {}}});
    user.write("run/containers/auth.json", &other);
    user.refused("bad HTTP status code: 401");
    let hint = "credentials for a registry are files of the kind dockerAuth in auth.d, or of `podman login` or \
                `docker login`";
    assert!(user.fetch().stderr.contains(hint));
    assert_eq!(user.shown(), None);

    let (content, shown) = file("docker", &format!("https://{HOST}/v1/"));
    user.docker(content);
    user.fetch().expect_code(0);
    assert_eq!(user.shown(), Some(shown));

    let (content, shown) = file("config", HOST);
    user.write(".config/containers/auth.json", content);
    user.fetch().expect_code(0);
    assert_eq!(user.shown(), Some(shown));

    let runtime = user.home.join("run");
    let with_runtime = || {
        let run =
            user.prepare("image", &format!("docker://{HOST}/team/app:1")).env("XDG_RUNTIME_DIR", &runtime);
        run.env("REGISTRY_AUTH_FILE", "").end().expect_code(0);
        user.shown()
    };
    // It knows nothing of the registry, and the next one does.
    assert_eq!(with_runtime(), Some(file("config", HOST).1));
    // The image's own entry counts before the registry's.
    let (mut content, _) = file("runtime", HOST);
    let (entry, shown) = auth("team");
    content["auths"][format!("{HOST}/team")] = entry;
    user.write("run/containers/auth.json", content);
    assert_eq!(with_runtime(), Some(shown));

    let (content, shown) = file("named", &format!("{HOST}/team/app"));
    let named = user.write("named.json", content);
    let with_named = |path: &Path| {
        user.prepare("image", &format!("docker://{HOST}/team/app:1"))
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("REGISTRY_AUTH_FILE", path)
            .end()
    };
    with_named(&named).expect_code(0);
    assert_eq!(user.shown(), Some(shown));
    let missing = with_named(&user.home.join("none.json"));
    missing.expect_code(254);
    let problem = format!("looking at {}/none.json: No such file or directory", user.home.display());
    assert!(missing.stderr.contains(&problem), "{}", missing.stderr);

    registry.login();
    with_named(&named).expect_code(0);
    assert_eq!(user.shown().as_deref(), Some(BASIC));
    // It is not a part of the configuration.
    let config = registry.rkt("config").env("HOME", &user.home).end();
    config.expect_code(0);
    assert!(!config.stdout.contains("docker\"") && !config.stdout.contains("other.example.com"));
}

#[test]
fn an_identity_token_is_exchanged_for_a_token_of_the_registry() {
    let registry = wants_an_identity_token("https://auth.example.com/token");
    let user = User::new(&registry);
    user.docker(json!({"auths": {HOST: {"identitytoken": "id-token", "auth": "PHRva2VuPjo="}}}));
    user.fetch().expect_code(0);
    // A helper gives it under a user name that is none.
    user.docker(json!({"credHelpers": {HOST: "given"}}));
    user.helper("given", r#"echo '{"Username":"<token>","Secret":"id-token"}'"#);
    fs::remove_dir_all(registry.world.path().join("data")).unwrap();
    user.fetch().expect_code(0);
    user.helper("given", r#"echo '{"Username":"<token>","Secret":"another"}'"#);
    user.refused("reg.example.com/team/app: bad HTTP status code: 401");
}

#[test]
fn b5_an_identity_token_goes_to_the_registrys_own_server_of_tokens_over_https_and_no_further() {
    for realm in ["https://evil.org/token", "http://auth.example.com/token"] {
        let registry = wants_an_identity_token(realm);
        let user = User::new(&registry);
        user.docker(json!({"auths": {HOST: {"identitytoken": "id-token"}}}));
        user.refused("wants credentials to be sent to");
        assert!(registry.server.log().iter().all(|asked| asked.host == HOST && asked.body.is_empty()));
    }
    // b6: its server sends it on, also to itself.
    for to in ["https://evil.org/token", "https://auth.example.com/other"] {
        let registry = Registry::new(move |asked, _| match asked.method.as_str() {
            "POST" => Some(Answer::status(307).header("Location", to)),
            _ => Some(challenge("https://auth.example.com/token")),
        });
        let user = User::new(&registry);
        user.docker(json!({"auths": {HOST: {"identitytoken": "id-token"}}}));
        user.refused("bad HTTP status code: 307");
        let told = registry.server.log().into_iter().filter(|asked| !asked.body.is_empty());
        assert_eq!(told.map(|asked| asked.url()).collect::<Vec<_>>(), ["https://auth.example.com/token"]);
    }
}

#[test]
fn nothing_is_said_over_http() {
    let registry = Registry::new(|asked, _| match asked.scheme {
        "https" => Some(Answer::status(400)),
        _ => Some(Answer::status(401).header("WWW-Authenticate", WANTS_BASIC)),
    });
    let user = User::new(&registry);
    user.docker(json!({"auths": {HOST: auth("user").0}}));
    let ended = user.prepare("image,http", &format!("docker://{HOST}/team/app:1")).end();
    ended.expect_code(254);
    let asked = registry.server.log();
    assert!(asked.iter().any(|asked| asked.scheme == "http"));
    assert!(asked.iter().all(|asked| asked.authorization().is_none()), "{asked:?}");
}

#[test]
fn a_helper_is_asked_for_its_registry_or_for_all() {
    let registry = wants_a_password();
    let user = User::new(&registry);
    user.helper("here", GIVES_SECRET);
    for content in
        [json!({"credHelpers": {HOST: "here"}}), json!({"credsStore": "here", "auths": {HOST: {}}})]
    {
        user.docker(content);
        user.fetch().expect_code(0);
        assert_eq!(user.shown().as_deref(), Some(BASIC));
        assert_eq!(fs::read_to_string(user.home.join("asked")).unwrap(), HOST);
        fs::remove_file(user.home.join("asked")).unwrap();
    }
    // Docker Hub has a name of its own.
    user.prepare("image", "docker://team/app:1").end().expect_code(0);
    assert_eq!(fs::read_to_string(user.home.join("asked")).unwrap(), "https://index.docker.io/v1/");
    // One that knows nothing is no failure: the next file may.
    user.helper("here", "echo credentials not found in native keychain; exit 1");
    user.write(".config/containers/auth.json", json!({"credHelpers": {HOST: "here"}}));
    let (entry, shown) = auth("docker");
    user.docker(json!({"auths": {HOST: entry}}));
    registry.server.take_log();
    user.fetch().expect_code(0);
    assert_eq!(user.shown(), Some(shown));
    // A registry that asks for nothing is told nothing, and no program is run.
    let open = Registry::new(|_, _| None);
    let user = User::new(&open);
    user.docker("not even JSON");
    user.fetch().expect_code(0);
}

#[test]
fn what_a_helper_does_wrong_is_told_without_what_it_says() {
    let registry = wants_a_password();
    let user = User::new(&registry);
    user.docker(json!({"credHelpers": {HOST: "bad"}}));
    user.refused(".docker/config.json names docker-credential-bad, and no directory of PATH has it");
    for (script, problem) in [
        (
            "echo '{\"Secret\":\"secret\"'; exit 3",
            "bad get` for reg.example.com: it failed with exit status: 3",
        ),
        ("kill -9 $$", "it failed with signal: 9"),
        ("echo secret", "it does not answer in the form of its protocol"),
        (":", "it does not answer in the form of its protocol"),
        ("while :; do echo secret; done", "it was killed, since it wrote more than 64 KiB"),
    ] {
        user.helper("bad", script);
        user.refused(problem);
    }
    for name in ["../bad", "/bin/sh", ""] {
        user.docker(json!({"credHelpers": {HOST: name}}));
        user.refused(&format!("\"{name}\" is no name of a credential helper"));
    }
    assert_eq!(user.shown(), None);
}

#[test]
fn a_helper_that_hangs_ends_with_rkt() {
    let registry = wants_a_password();
    let user = User::new(&registry);
    user.docker(json!({"credsStore": "slow"}));
    user.helper("slow", r#"echo $$ >"$HOME/new"; mv "$HOME/new" "$HOME/pid"; exec sleep 1000"#);
    let running = user.prepare("image", &format!("docker://{HOST}/team/app:1")).start();
    wait::for_path(&user.home.join("pid"));
    let pid: i32 = fs::read_to_string(user.home.join("pid")).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let helper = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    running.signal(Signal::INT);
    let ended = running.end();
    assert!(!ended.status.success());
    assert!(wait::readable(&helper, wait::patience()), "the helper lives on");
}

#[test]
fn files_and_programs_of_others_are_not_believed() {
    let registry = wants_a_password();
    let user = User::new(&registry);
    let file = user.docker(json!({"auths": {HOST: auth("user").0}}));
    let dir = file.parent().unwrap();
    let refused = |problem: &str| {
        user.refused(&format!("no credentials are read from {}: {problem}", file.display()));
        user.refused("bad HTTP status code: 401");
    };
    let of = |path: &Path, owner, mode| {
        std::os::unix::fs::chown(path, Some(owner), None).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    of(&file, NOBODY, 0o600);
    refused(&format!("{} belongs to user {NOBODY}, and rkt runs as user 0", file.display()));
    of(&file, 0, 0o620);
    refused(&format!("{} can be written to by others than its owner", file.display()));
    of(&file, 0, 0o600);
    of(dir, NOBODY, 0o700);
    refused(&format!("{} belongs to user {NOBODY}", dir.display()));
    of(dir, 0, 0o777);
    refused(&format!("{} can be written to by others than its owner", dir.display()));
    // A link is followed to a file of the user's own.
    of(dir, 0, 0o700);
    let real = user.home.join("real.json");
    fs::rename(&file, &real).unwrap();
    std::os::unix::fs::symlink("../real.json", &file).unwrap();
    user.fetch().expect_code(0);
    of(&real, NOBODY, 0o600);
    refused(&format!("{} belongs to user {NOBODY}", real.display()));
    // Who names a file wants it to be read.
    let named = user.prepare("image", &format!("docker://{HOST}/team/app:1"));
    let named = named.env("REGISTRY_AUTH_FILE", &real).end();
    named.expect_code(254);
    let problem = format!("image docker://{HOST}/team/app:1: {} belongs to user {NOBODY}", real.display());
    assert!(named.stderr.contains(&problem), "{}", named.stderr);
    assert!(named.stderr.contains("hint: if it is really yours"), "{}", named.stderr);

    fs::remove_file(&file).unwrap();
    user.docker(json!({"credsStore": "other"}));
    let helper = user.helper("other", GIVES_SECRET);
    of(&helper, NOBODY, 0o755);
    user.refused(&format!("{} belongs to user {NOBODY}", helper.display()));
    of(&helper, 0, 0o755);
    of(&user.bin, 0, 0o757);
    user.refused(&format!("{} can be written to by others than its owner", user.bin.display()));
    assert!(!user.home.join("asked").exists());
    of(&user.bin, 0, 0o755);
    registry.server.take_log();
    user.fetch().expect_code(0);
    assert_eq!(user.shown().as_deref(), Some(BASIC));
}

#[test]
fn a_file_that_is_not_as_it_must_be_is_named() {
    let registry = wants_a_password();
    let user = User::new(&registry);
    let file = user.docker("");
    for (content, problem) in [
        ("{\"auths\": {", "JSON error at line 1"),
        (
            "{\"auths\": {\"reg.example.com\": {\"auth\": \"secret!\"}}}",
            "auths: \"reg.example.com\": auth is not in base64",
        ),
        ("{\"auths\": {}, \"auths\": {}}", "JSON error at line 1"),
    ] {
        user.docker(content);
        user.refused(&format!(
            "image docker://{HOST}/team/app:1: credentials in {}: {problem}",
            file.display()
        ));
    }
    fs::File::options().write(true).open(&file).unwrap().set_len(5 << 20).unwrap();
    user.refused(&format!("reading {}: larger than 4 MiB", file.display()));
    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    user.refused(&format!("reading {}: not a regular file", file.display()));
    assert_eq!(user.shown(), None);
}
