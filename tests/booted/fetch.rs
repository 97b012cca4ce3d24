//! The path of a new user against a real web server: a key found by discovery, an image fetched by its name and run,
//! and the refusals of what is not signed, or not well.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use crate::host::Host;
use crate::pod::{Pods, said_by};
use crate::support::aci::Aci;
use crate::support::certificates::certificates;
use crate::support::keys::TestKey;
use crate::support::run::Running;
use crate::support::{Run, wait};

/// An address of this host that no other server has, as the name of a publisher.
const HOST: &str = "127.0.0.77";

/// nginx with TLS, and a CA that it is vouched for by.
struct Nginx {
    _running: Running,
}

impl Nginx {
    /// Serves `DIR/www`; what is not there and is no image is the discovery page.
    fn start(dir: &Path) -> Self {
        certificates(dir, HOST);
        let at = dir.display();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{}}\n\
             http {{\n\
             access_log {at}/access.log; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2;\n\
             fastcgi_temp_path {at}/t3; uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;\n\
             types {{ text/html html; }} default_type application/octet-stream;\n\
             server {{ listen {HOST}:443 ssl; ssl_certificate {at}/host.pem; ssl_certificate_key {at}/host.key;\n\
             root {at}/www; location / {{ try_files $uri /index.html; }}\n\
             location ~ \\.(aci|asc)$ {{ try_files $uri =404; }} }}\n\
             }}\n"
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, config).expect("our own directory");
        let nginx =
            crate::support::run::find_program("nginx").expect("nginx is installed (package nginx-light)");
        let running = Run::new(nginx).arg("-c").arg(&file).arg("-e").arg(dir.join("error.log")).start();
        let address: SocketAddr = format!("{HOST}:443").parse().expect("an address");
        wait::until("nginx listens", || TcpStream::connect(address));
        Self { _running: running }
    }
}

#[test]
fn a_signed_image_is_discovered_fetched_and_run() {
    let host = Host::take();
    let pods = Pods::new();
    let www = pods.path().join("www");
    std::fs::create_dir_all(&www).expect("a new directory");
    let key = TestKey::new("The publisher <who@example.com>");
    let publish = |name: &str, signature: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
        let image = Aci::shell(&format!("{HOST}/{name}"), "echo hello from the net").bytes();
        std::fs::write(www.join(format!("{name}.aci")), &image).expect("our own directory");
        if let Some(signature) = signature(&image) {
            std::fs::write(www.join(format!("{name}.aci.asc")), signature).expect("our own directory");
        }
    };
    publish("good", &|image| Some(key.sign(image)));
    publish("unsigned", &|_| None);
    publish("bad", &|_| Some(key.sign(b"something else")));
    std::fs::write(www.join("key.asc"), key.public()).expect("our own directory");
    // One template for all: {name} is HOST/NAME, so that a link leads from there.
    std::os::unix::fs::symlink(".", www.join(HOST)).expect("a link");
    let page = format!(
        "<!doctype html><html><head><meta name=\"ac-discovery\" content=\"{HOST} https://{HOST}/{{name}}.{{ext}}\">\
         <meta name=\"ac-discovery-pubkeys\" content=\"{HOST} https://{HOST}/key.asc\"></head></html>"
    );
    std::fs::write(www.join("index.html"), page).expect("our own directory");
    let _nginx = Nginx::start(pods.path());

    let rkt = |words: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let run = Run::rkt().env_clear().env("PATH", path).env("SSL_CERT_FILE", pods.path().join("ca.pem"));
        let run = run.arg("--dir").arg(pods.data()).arg("--local-config").arg(pods.path().join("etc"));
        run.args(words.split(' '))
    };
    rkt(&format!("trust --prefix={HOST} --trust-keys-from-https")).end().expect_code(0);
    let uuid = pods.path().join("uuid");
    let run = rkt("run --net=none").arg("--uuid-file-save").arg(&uuid).arg(format!("{HOST}/good:1.0.0"));
    let ended = run.end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "good"), ["hello from the net"]);
    assert!(
        ended.stderr.contains("image: signature verified:\n  The publisher <who@example.com>\n"),
        "{}",
        ended.stderr
    );
    // The signer is told by the pod and by the store.
    let status = rkt("status").arg(std::fs::read_to_string(&uuid).expect("the UUID file")).stdout();
    assert!(status.contains(&format!("\nsigner-good={}\n", key.fingerprint())), "{status}");
    let list = rkt("image list --no-legend --fields=name,signer").stdout();
    assert_eq!(list, format!("{HOST}/good:1.0.0\t{}\n", key.fingerprint()));
    // What is there is run again without a server being asked.
    let asked =
        || std::fs::read_to_string(pods.path().join("access.log")).unwrap_or_default().lines().count();
    let before = asked();
    rkt("run --net=none").arg(format!("{HOST}/good:1.0.0")).end().expect_code(0);
    assert_eq!(asked(), before);

    for (name, problem) in [
        (
            "unsigned",
            "error downloading the signature file: https://127.0.0.77/127.0.0.77/unsigned.aci.asc: bad HTTP status code: 404\n",
        ),
        ("bad", "image \"127.0.0.77/bad\" verification failed: openpgp: the signature by key "),
    ] {
        let ended = rkt("run --net=none").arg(format!("{HOST}/{name}:1.0.0")).end();
        ended.expect_code(254);
        assert!(ended.stderr.contains(&format!("run: {problem}")), "{}", ended.stderr);
        assert!(ended.stderr.contains("run: hint: "), "{}", ended.stderr);
    }
    assert_eq!(rkt("image list --no-legend --fields=name").stdout(), format!("{HOST}/good:1.0.0\n"));
    drop(host);
}
