//! Images of registries against a server that can do what real ones must not: tokens and passwords, tags that move, cuts,
//! redirects, wrong bytes, and who is told what.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::Run;
use crate::support::oci::{Image, OCI_INDEX, OCI_MANIFEST, Packing, architecture, digest};
use crate::support::run::Ended;
use crate::support::server::{Answer, Asked, Server};
use crate::support::tar::Tar;
use crate::world::World;

pub(crate) const HOST: &str = "reg.example.com";
pub(crate) const TOKEN: &str = "Bearer a-token";
/// `user:secret`
pub(crate) const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// What a registry has.
#[derive(Default)]
pub(crate) struct Content {
    /// By digest.
    pub(crate) blobs: HashMap<String, Vec<u8>>,
    /// Type and bytes, by tag and by digest.
    pub(crate) manifests: HashMap<String, (&'static str, Vec<u8>)>,
}

impl Content {
    pub(crate) fn add(&mut self, tag: &str, image: &Image) {
        let mut blobs = image.blobs();
        let manifest = blobs.pop().unwrap();
        self.manifests.insert(digest(&manifest), (OCI_MANIFEST, manifest.clone()));
        self.manifests.insert(tag.to_owned(), (OCI_MANIFEST, manifest));
        for blob in blobs {
            self.blobs.insert(digest(&blob), blob);
        }
    }

    pub(crate) fn answer(&self, asked: &Asked) -> Answer {
        let Some(rest) = asked.path.strip_prefix("/v2/team/app/") else { return Answer::status(404) };
        if let Some(name) = rest.strip_prefix("manifests/") {
            return match self.manifests.get(name) {
                Some((kind, bytes)) => Answer::ok(bytes.clone()).header("Content-Type", kind),
                None => Answer::status(404),
            };
        }
        match rest.strip_prefix("blobs/").and_then(|name| self.blobs.get(name)) {
            Some(bytes) => Answer::file(asked, bytes, "\"x\""),
            None => Answer::status(404),
        }
    }
}

pub(crate) fn image(number: u32) -> Image {
    Image::new(&["/bin/true"])
        .layer(Tar::default().dir("etc").file("etc/a", vec![7; 300_000]), Packing::None)
        .layer(Tar::default().file("etc/b", number.to_string()), Packing::Gzip)
}

pub(crate) struct Registry {
    pub(crate) world: World,
    pub(crate) server: Server,
    pub(crate) content: Arc<Mutex<Content>>,
}

impl Registry {
    /// A registry with `app:1`; `route` may answer otherwise.
    pub(crate) fn new(route: impl Fn(&Asked, &Content) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let mut content = Content::default();
        content.add("1", &image(1));
        let content = Arc::new(Mutex::new(content));
        let served = Arc::clone(&content);
        let server = Server::start(move |asked| {
            let content = served.lock().unwrap();
            route(asked, &content).unwrap_or_else(|| content.answer(asked))
        });
        Self { world: World::new(), server, content }
    }

    pub(crate) fn run(&self, line: &str) -> Ended {
        self.rkt(line).end()
    }

    pub(crate) fn rkt(&self, line: &str) -> Run {
        let line = format!("--dir=data --system-config=sys --local-config=loc --user-config=usr {line}");
        let run = self.world.rkt(&line);
        self.server.environment().into_iter().fold(run, |run, (name, value)| run.env(name, value))
    }

    pub(crate) fn fetch(&self, reference: &str) -> Ended {
        self.run(&format!("--insecure-options=image fetch --full {reference}"))
    }

    pub(crate) fn login(&self) {
        let dir = self.world.path().join("loc/auth.d");
        fs::create_dir_all(&dir).unwrap();
        let login = json!({"rktKind": "dockerAuth", "rktVersion": "v1", "registries": [HOST],
            "credentials": {"user": "user", "password": "secret"}});
        fs::write(dir.join("registry.json"), login.to_string()).unwrap();
    }

    pub(crate) fn refused(&self, reference: &str, problem: &str) {
        let ended = self.fetch(reference);
        ended.expect_code(254);
        let line = ended.stderr.lines().find(|line| line.starts_with("fetch: image")).unwrap_or_default();
        assert!(line.contains(problem), "{}", ended.stderr);
        for dir in ["image", "layer", "tree"] {
            let left = fs::read_dir(self.world.path().join("data/cas").join(dir)).unwrap().count();
            assert_eq!(left, 0, "{dir}");
        }
    }
}

pub(crate) fn challenge(realm: &str) -> Answer {
    let text = format!("Bearer realm=\"{realm}\",service=\"{HOST}\",scope=\"repository:team/app:pull\"");
    Answer::status(401).header("WWW-Authenticate", &text)
}

#[test]
fn b11_a_password_is_for_one_registry_and_a_short_name_for_one_host() {
    let registry = Registry::new(|asked, content| match asked.header("authorization") {
        Some(BASIC) => Some(content.answer(asked)),
        _ => Some(Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")),
    });
    registry.login();
    for (name, host, path) in [
        ("reg.example.com:8443/team/app:1", "reg.example.com:8443", "/v2/team/app/manifests/1"),
        ("sub.reg.example.com/team/app:1", "sub.reg.example.com", "/v2/team/app/manifests/1"),
        ("example.com/team/app:1", "example.com", "/v2/team/app/manifests/1"),
        ("app:1", "registry-1.docker.io", "/v2/library/app/manifests/1"),
        ("team/app:1", "registry-1.docker.io", "/v2/team/app/manifests/1"),
    ] {
        let ended = registry.fetch(&format!("docker://{name}"));
        ended.expect_code(254);
        assert!(ended.stderr.contains("401"), "{}", ended.stderr);
        let log = registry.server.log();
        assert!(!log.is_empty(), "{name}");
        for asked in &log {
            assert_eq!((asked.host.as_str(), asked.path.as_str()), (host, path));
            assert_eq!(asked.header("authorization"), None, "{name}");
        }
        registry.server.take_log();
    }
    registry.fetch(&format!("docker://{HOST}/team/app:1")).expect_code(0);
}

#[test]
fn b13_a_tag_is_pinned_and_told_and_the_image_is_used_again() {
    let registry = Registry::new(|_, _| None);
    let name = format!("docker://{HOST}/team/app:1");
    let pinned = digest(&image(1).blobs().pop().unwrap());
    let ended = registry.fetch(&name);
    ended.expect_code(0);
    assert_eq!(ended.stderr, format!("image: {name} is {pinned}\n"));
    let asked = registry.server.take_log().len();
    assert_eq!(asked, 4, "a manifest, a configuration and two layers");
    let again = registry.run(&format!("--insecure-options=image fetch --full --pull-policy=new {name}"));
    again.expect(0, &ended.stdout, "");
    assert_eq!(registry.server.take_log(), [""; 0]);
    // By digest, and from a file, it is the same image.
    registry.fetch(&format!("docker://{HOST}/team/app@{pinned}")).expect(0, &ended.stdout, "");
    // The tag moves.
    registry.content.lock().unwrap().add("1", &image(2));
    let moved = registry.fetch(&name);
    moved.expect_code(0);
    assert_ne!(moved.stdout, ended.stdout);
    let now = registry.run(&format!("--insecure-options=image fetch --full --pull-policy=never {name}"));
    now.expect(0, &moved.stdout, "");
    let list = registry.run("image list --no-legend --fields=name").stdout;
    assert!(list.contains(&format!("{HOST}/team/app:1")), "{list}");
    assert_eq!(fs::read_dir(registry.world.path().join("data/cas/layer")).unwrap().count(), 3);
}

#[test]
fn many_processes_bring_each_part_of_an_image_once() {
    const PROCESSES: usize = 32;
    let registry = Registry::new(|_, _| None);
    let line = format!("--insecure-options=image fetch --full docker://{HOST}/team/app:1");
    let running: Vec<_> = (0..PROCESSES).map(|_| registry.rkt(&line).start()).collect();
    let ended: Vec<_> = running.into_iter().map(|running| running.end()).collect();
    for one in &ended {
        one.expect_code(0);
        assert_eq!(one.stdout, ended[0].stdout);
    }
    let mut blobs: Vec<_> = registry
        .server
        .log()
        .into_iter()
        .map(|asked| asked.path)
        .filter(|path| path.contains("/blobs/"))
        .collect();
    blobs.sort();
    let asked = blobs.len();
    blobs.dedup();
    assert_eq!((asked, blobs.len()), (3, 3), "a configuration and two layers: {blobs:?}");
    let left = |dir: &str| fs::read_dir(registry.world.path().join("data/cas").join(dir)).unwrap().count();
    assert_eq!((left("image"), left("layer"), left("tmp")), (1, 2, 0));
}

#[test]
fn a_tag_that_has_not_moved_costs_one_request() {
    let registry = Registry::new(|_, _| None);
    let name = format!("docker://{HOST}/team/app:1");
    let first = registry.fetch(&name);
    first.expect_code(0);
    registry.server.take_log();
    registry.fetch(&name).expect(0, &first.stdout, &first.stderr);
    assert_eq!(registry.server.take_log(), [format!("GET https://{HOST}/v2/team/app/manifests/1")]);
}

#[test]
fn tokens_are_got_with_the_password_and_used_for_all() {
    let registry = Registry::new(|asked, _| match (asked.host.as_str(), asked.header("authorization")) {
        ("auth.example.com", Some(BASIC)) => {
            assert_eq!(asked.path, format!("/token?service={HOST}&scope=repository%3Ateam%2Fapp%3Apull"));
            Some(Answer::ok(br#"{"token":"a-token"}"#.to_vec()))
        }
        (HOST, Some(TOKEN)) => None,
        (HOST, _) => Some(challenge("https://auth.example.com/token")),
        _ => Some(Answer::status(401)),
    });
    registry.login();
    registry.fetch(&format!("docker://{HOST}/team/app:1")).expect_code(0);
}

#[test]
fn a_registry_may_want_the_password_itself() {
    let registry = Registry::new(|asked, _| match asked.header("authorization") {
        Some(BASIC) => None,
        _ => Some(Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")),
    });
    registry.refused(&format!("docker://{HOST}/team/app:1"), "bad HTTP status code: 401");
    registry.login();
    registry.fetch(&format!("docker://{HOST}/team/app:1")).expect_code(0);
}

#[test]
fn b5_a_password_is_not_sent_to_whom_a_registry_names() {
    for realm in ["https://evil.org/token", "http://reg.example.com/token", "https://example.com.evil.org/"] {
        let registry = Registry::new(move |asked, _| {
            assert_eq!(asked.host, HOST, "nobody else is asked");
            Some(challenge(realm))
        });
        registry.login();
        registry.refused(&format!("docker://{HOST}/team/app:1"), "wants credentials to be sent to");
        assert!(registry.server.log().iter().all(|asked| asked.header("authorization").is_none()));
    }
}

#[test]
fn b4_b6_a_redirect_gets_no_token_and_urls_are_not_followed() {
    let registry = Registry::new(|asked, content| {
        match (asked.host.as_str(), asked.header("authorization")) {
            ("cdn.example.net", Some(_)) => Some(Answer::status(400)),
            ("cdn.example.net", None) => {
                let name = asked.path.trim_start_matches('/');
                Some(Answer::file(asked, &content.blobs[name], "\"x\""))
            }
            (_, None) => {
                Some(challenge("https://reg.example.com/token")).filter(|_| !asked.path.starts_with("/token"))
            }
            _ if asked.path.contains("/blobs/") => {
                let name = asked.path.rsplit('/').next().unwrap();
                Some(Answer::redirect(&format!("https://cdn.example.net/{name}")))
            }
            _ => None,
        }
        .or_else(|| asked.path.starts_with("/token").then(|| Answer::ok(br#"{"access_token":"t"}"#.to_vec())))
    });
    registry.fetch(&format!("docker://{HOST}/team/app:1")).expect_code(0);
    let urls: Vec<_> = registry.server.log().iter().map(Asked::url).collect();
    assert!(urls.iter().any(|url| url.starts_with("https://cdn.example.net/")), "{urls:?}");
}

#[test]
fn f22_a_layer_is_gone_on_with_where_it_was_cut() {
    let cuts = AtomicUsize::new(0);
    let registry = Registry::new(move |asked, content| {
        let name = asked.path.rsplit('/').next().unwrap();
        let large = content.blobs.get(name).filter(|blob| blob.len() > 200_000)?;
        let answer = Answer::file(asked, large, "\"x\"");
        (cuts.fetch_add(1, Ordering::SeqCst) < 2).then(|| answer.cut(100_000))
    });
    registry.fetch(&format!("docker://{HOST}/team/app:1")).expect_code(0);
    let ranges: Vec<_> =
        registry.server.log().iter().filter_map(|asked| asked.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
}

#[test]
fn b1_b3_wrong_bytes_and_types_are_refused() {
    let layer = digest(&image(1).layers[0].0);
    let (for_route, reference) = (layer.clone(), format!("docker://{HOST}/team/app:1"));
    let registry = Registry::new(move |asked, _| {
        asked.path.ends_with(&for_route).then(|| Answer::ok(vec![0; image(1).layers[0].0.len()]))
    });
    registry.refused(&reference, &format!("layer {layer} has the digest"));
    let registry = Registry::new(|asked, content| {
        let (_, bytes) = content.manifests.get("1")?;
        asked
            .path
            .ends_with("manifests/1")
            .then(|| Answer::ok(bytes.clone()).header("Content-Type", OCI_INDEX))
    });
    registry.refused(&reference, "it says to be of the type");
    let registry = Registry::new(|asked, content| {
        let (_, bytes) = content.manifests.get("1")?;
        asked
            .path
            .contains("manifests/sha256")
            .then(|| Answer::ok(bytes.clone()).header("Content-Type", OCI_MANIFEST))
    });
    let other = digest(b"other");
    registry.refused(&format!("docker://{HOST}/team/app@{other}"), &format!("{other} has the digest"));
    registry.refused(&format!("docker://{HOST}/team/app:none"), "reg.example.com/team/app has no none");
}

#[test]
fn b14_an_index_gives_the_image_of_this_machine() {
    let registry = Registry::new(|_, _| None);
    let mut here = image(1).entry(None);
    here["platform"] = json!({"os": "linux", "architecture": architecture()});
    let index = |entries: serde_json::Value| {
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string().into_bytes()
    };
    let mut content = registry.content.lock().unwrap();
    let mut there = here.clone();
    there["platform"] = json!({"os": "linux", "architecture": "none"});
    content.manifests.insert("both".into(), (OCI_INDEX, index(json!([there, here]))));
    content.manifests.insert("other".into(), (OCI_INDEX, index(json!([there]))));
    drop(content);
    registry.refused(
        &format!("docker://{HOST}/team/app:other"),
        &format!("it has no image for linux/{}, but for linux/none", architecture()),
    );
    registry.fetch(&format!("docker://{HOST}/team/app:both")).expect_code(0);
}

#[test]
fn on_a_terminal_each_layer_that_comes_has_a_line() {
    // A server that gives a byte at a time, until all is seen.
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let slow = Arc::clone(&gate);
    let registry = Registry::new(move |asked, content| {
        let bytes = content.blobs.get(asked.path.rsplit('/').next()?)?;
        let is_config = bytes.starts_with(b"{");
        let (seen, bell) = (slow.0.lock().unwrap(), &slow.1);
        let (seen, _) = bell.wait_timeout_while(seen, Duration::from_millis(20), |seen| !*seen).unwrap();
        (!*seen && !is_config).then(|| Answer::file(asked, bytes, "\"x\"").cut(1))
    });
    let line = format!(
        "exec {} --dir=data --system-config=sys --local-config=loc --insecure-options=image fetch docker://{HOST}/team/app:1",
        env!("CARGO_BIN_EXE_rkt")
    );
    let mut run = Run::new("script").args(["-qec", &line, "/dev/null"]).current_dir(registry.world.path());
    for (name, value) in registry.server.environment() {
        run = run.env(name, value);
    }
    let mut running = run.env("TERM", "xterm").start();
    for (layer, _) in image(1).layers {
        running.wait_for_stdout(&format!("Downloading {}: [", &digest(&layer)[..18]));
    }
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let ended = running.end();
    ended.expect_code(0);
    // The lines are gone.
    let (_, last) = ended.stdout.rsplit_once("\u{1b}[2K").unwrap();
    assert!(last.trim_start().starts_with("sha512-"), "{:?}", ended.stdout);
}
