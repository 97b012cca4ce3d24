//! Debian's docker-registry with TLS and a password, and what it has been asked for.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::certificates::certificates;
use super::oci::{OCI_INDEX, digest};
use super::run::Running;
use super::{Run, wait};

/// bcrypt of `secret`, as htpasswd(1) writes it with the least cost.
const HTPASSWD: &str = "user:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// Debian's registry with TLS and a password, at port 5000 of an address that no other server has.
pub(crate) struct Registry {
    /// Its files, and the CA's certificate, `ca.pem`.
    pub(crate) dir: PathBuf,
    pub(crate) host: &'static str,
    _running: Running,
}

impl Registry {
    /// Starts it with what `dir` has of an earlier one.
    pub(crate) fn start(dir: &Path, host: &'static str) -> Self {
        if !dir.join("ca.pem").exists() {
            certificates(dir, host);
        }
        let at = dir.display();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {at}/storage}}}}\n\
             http: {{addr: \"{host}:5000\", tls: {{certificate: {at}/host.pem, key: {at}/host.key}}}}\n\
             auth: {{htpasswd: {{realm: tests, path: {at}/htpasswd}}}}\n"
        );
        std::fs::write(dir.join("registry.yml"), config).expect("our own directory");
        std::fs::write(dir.join("htpasswd"), HTPASSWD).expect("our own directory");
        // Its log goes to a file, since a pipe that nobody reads would stop it.
        let script = "exec docker-registry serve registry.yml >>registry.log 2>&1";
        let running = Run::new("sh").args(["-c", script]).current_dir(dir).start();
        let address: SocketAddr = format!("{host}:5000").parse().expect("an address");
        wait::until("the registry listens", || TcpStream::connect(address));
        Self { dir: dir.to_owned(), host, _running: running }
    }

    /// The reference of a repository with a tag.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("docker://{}:5000/team/{rest}", self.host)
    }

    /// Sends an image that skopeo finds at `from`, as it is.
    pub(crate) fn push(&self, from: &str, rest: &str) {
        let skopeo = Run::new("skopeo").args(["copy", "--insecure-policy", "--dest-creds=user:secret", from]);
        let skopeo = skopeo.arg(self.name(rest)).current_dir(&self.dir);
        skopeo.env("SSL_CERT_FILE", self.dir.join("ca.pem")).end().expect_code(0);
    }

    /// Sends an index of images that the repository has, and returns its digest.
    pub(crate) fn push_index(&self, repository: &str, tag: &str, index: &str) -> String {
        let url = format!("https://{}:5000/v2/team/{repository}/manifests/{tag}", self.host);
        let curl = Run::new("curl").args(["--silent", "--show-error", "--fail", "--user", "user:secret"]);
        let curl = curl.arg("--cacert").arg(self.dir.join("ca.pem")).args([
            "--request",
            "PUT",
            "--data-binary",
            "@-",
        ]);
        let curl = curl.arg("--header").arg(format!("Content-Type: {OCI_INDEX}")).arg(url);
        curl.input(index).end().expect_code(0);
        digest(index.as_bytes())
    }

    /// How often a blob was sent, whole or in part.
    pub(crate) fn sent(&self, digest: &str, status: u16) -> usize {
        let log = std::fs::read_to_string(self.dir.join("registry.log")).expect("the registry's log");
        let (request, status) = (format!("/blobs/{digest} "), format!("\" {status} "));
        log.lines()
            .filter(|line| line.contains("\"GET ") && line.contains(&request) && line.contains(&status))
            .count()
    }

    /// Fails the test unless each blob was sent once. The log has a request a moment after its answer.
    pub(crate) fn expect_sent_once<'d>(&self, digests: impl IntoIterator<Item = &'d str>) {
        for digest in digests {
            wait::until("the request is in the log", || match self.sent(digest, 200) {
                0 => Err(digest.to_owned()),
                _ => Ok(()),
            });
            assert_eq!(self.sent(digest, 200), 1, "{digest}");
        }
    }
}

/// Gives rkt a password for registries, in the configuration below `config`.
pub(crate) fn login(config: &Path, registries: &[&str], password: &str) {
    let dir = config.join("auth.d");
    std::fs::create_dir_all(&dir).expect("a new directory");
    let login = json!({"rktKind": "dockerAuth", "rktVersion": "v1", "registries": registries,
        "credentials": {"user": "user", "password": password}});
    std::fs::write(dir.join("registry.json"), login.to_string()).expect("our own directory");
}
