//! Images that other tools have made, by way of a real registry, a layout and an archive: what skopeo and umoci write is
//! what rkt reads, and Debian's docker-registry is asked for each thing once.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::host::Host;
use crate::pod::{Pods, console};
use crate::support::oci::architecture;
use crate::support::registry::{Registry, login};
use crate::support::umoci::{BASE, OTHER, blobs, index, manifest, other_architecture, script};
use crate::support::{Run, names, wait};

/// A command of rkt that trusts the registry of the test and has its configuration in `etc`.
pub(crate) fn rkt(pods: &Pods, line: &str) -> Run {
    pods.rkt(&format!("--local-config=etc {line}")).env("SSL_CERT_FILE", pods.path().join("ca.pem"))
}

/// What the only app said, whatever its name.
fn said(stdout: &str) -> Vec<String> {
    console(stdout).into_iter().map(|(_, text)| text).collect()
}

/// `nginx`, of four layers, which shows its page and ends.
const NGINX: &str = r#"
umoci tag --image layout:shell nginx
start nginx
libraries /usr/sbin/nginx
repack
installed "$(dpkg-query --search /usr/sbin/nginx | cut -d: -f1)" | take
mkdir -p "$root"/var/{log,lib}/nginx "$root/etc/nginx"
# As the popular image has it: nginx opens this file before anything else.
ln -s /dev/stderr "$root/var/log/nginx/error.log"
repack
echo 'user www-data; events {} http { access_log off; server { listen 127.0.0.1:80; root /srv; } }' >"$root/etc/nginx/nginx.conf"
echo hello from nginx >"$root/srv/index.html"
repack
configure --config.cmd busybox --config.cmd sh --config.cmd -c \
  --config.cmd 'nginx && busybox wget -q -O - http://127.0.0.1/'
"#;

/// The nginx image packed with zstd, and as docker saves it.
const PACKED: &str = r#"
skopeo copy --insecure-policy --dest-compress-format zstd oci:layout:nginx oci:packed:nginx
skopeo copy --insecure-policy oci:layout:nginx docker-archive:nginx.tar:example.com/nginx:1
"#;

#[test]
fn images_of_a_registry_are_fetched_once_and_run() {
    let _host = Host::take();
    let pods = Pods::new();
    script(pods.path(), &[BASE, NGINX, OTHER, PACKED]);
    let registry = Registry::start(pods.path(), "127.0.0.78");
    registry.push("oci:layout:nginx", "nginx:1");
    registry.push("oci:layout:shell", "nginx:shell");
    registry.push("oci:layout:other", "nginx:other");
    registry.push("oci:packed:nginx", "packed:1");
    let index = index(pods.path(), &[("other", other_architecture()), ("nginx", architecture())]);
    let index = registry.push_index("nginx", "multi", &index);
    let (nginx, entry) = manifest(pods.path(), "layout", "nginx");
    let (packed, _) = manifest(pods.path(), "packed", "nginx");
    assert_eq!(nginx["layers"].as_array().map(Vec::len), Some(4), "{nginx}");
    assert!(packed.to_string().contains("+zstd"), "{packed}");

    wrong_passwords_are_told(&pods, &registry);
    login(&pods.path().join("etc"), &["127.0.0.78:5000"], "secret");

    let line = format!("fetch --full {}", registry.name("nginx:1"));
    let running: Vec<_> = (0..32).map(|_| rkt(&pods, &line).start()).collect();
    let mut ids: Vec<_> =
        running.into_iter().map(|running| running.end().expect_code(0).stdout.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    registry.expect_sent_once(blobs(&nginx));

    // By digest, through an index by tag and by digest, packed otherwise, and from files: the same page.
    let by_digest = registry.name(&format!("nginx@{}", entry["digest"].as_str().expect("text")));
    for image in [
        registry.name("nginx:1"),
        by_digest,
        registry.name("nginx:multi"),
        registry.name(&format!("nginx@{index}")),
        registry.name("packed:1"),
        "oci:layout:nginx".to_owned(),
        "oci:packed".to_owned(),
        "docker-archive:nginx.tar".to_owned(),
    ] {
        let ended = rkt(&pods, "run --net=none").arg(&image).end();
        ended.expect_code(0);
        assert_eq!(said(&ended.stdout), ["hello from nginx"], "{image}: {}", ended.stderr);
    }
    // All layers were there, and nothing but configurations was asked for again.
    registry.expect_sent_once(blobs(&nginx).into_iter().skip(1));
    // The image of its lowest layer brings its configuration alone.
    let ended = rkt(&pods, "run --net=none").arg(registry.name("nginx:shell")).end();
    ended.expect_code(0);
    assert_eq!(said(&ended.stdout), ["hello"], "{}", ended.stderr);
    let (shell, _) = manifest(pods.path(), "layout", "shell");
    assert_eq!(shell["layers"].as_array().map(Vec::len), Some(1), "{shell}");
    registry.expect_sent_once(blobs(&shell));

    // A cold store unpacks what zstd has packed to the same trees.
    let cold = Pods::new();
    for name in ["ca.pem", "etc"] {
        std::os::unix::fs::symlink(pods.path().join(name), cold.path().join(name)).expect("a link");
    }
    let ended = rkt(&cold, "run --net=none").arg(registry.name("packed:1")).end();
    ended.expect_code(0);
    assert_eq!(said(&ended.stdout), ["hello from nginx"], "{}", ended.stderr);
    assert_eq!(trees(&cold), trees(&pods));
}

/// The names of all trees of layers, which are digests of what is in them.
fn trees(pods: &Pods) -> Vec<String> {
    let mut names = names(&pods.data().join("cas/tree"));
    names.retain(|name| name.starts_with("layer-") || name.starts_with("chain-"));
    names
}

fn wrong_passwords_are_told(pods: &Pods, registry: &Registry) {
    let image = registry.name("nginx:1");
    for password in [None, Some("wrong")] {
        if let Some(password) = password {
            login(&pods.path().join("etc"), &["127.0.0.78:5000"], password);
        }
        let ended = rkt(pods, "fetch").arg(&image).end();
        ended.expect_code(254);
        let refused =
            format!("fetch: image {image}: 127.0.0.78:5000/team/nginx: bad HTTP status code: 401\n");
        assert!(ended.stderr.contains(&refused), "{}", ended.stderr);
        assert!(ended.stderr.contains("fetch: hint: credentials for a registry"), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

/// Layers in which umoci has noted what of the lower ones is gone.
const WHITEOUTS: &str = r#"
umoci init --layout layout
umoci new --image layout:1
umoci unpack --image layout:1 bundle
root=bundle/rootfs
repack() { umoci repack --refresh-bundle --image layout:1 bundle; }
mkdir -p "$root"/{bin,deep/er/est,opaque/inner,gone,kind,moved/in,kept}
cp "$(command -v busybox)" "$root/bin"
echo low >"$root/deep/er/est/file"; echo low >"$root/opaque/old"; echo low >"$root/opaque/inner/old"
echo low >"$root/gone/file"; echo low >"$root/kind/file"; echo low >"$root/turned"; echo low >"$root/moved/both"
echo low >"$root/moved/in/file"
echo low >"$root/kept/low"; echo low >"$root/kept/both"; ln "$root/kept/low" "$root/kept/alias"
ln -s kept "$root/link"; chown 33:44 "$root/kept"; chmod 2750 "$root/kept"
repack
rm -r "$root/gone" "$root/kind" "$root/deep/er/est/file" "$root/turned" "$root/link" "$root/moved" \
  "$root/kept/alias"
echo now a file >"$root/kind"; mkdir "$root/turned"; echo in it >"$root/turned/file"; ln -s deep "$root/link"
# Its whiteouts are of what was below the directory, and say nothing of what the link leads to.
ln -s kept "$root/moved"
echo up >"$root/kept/both"; echo up >"$root/kept/up"
repack
mkdir -p source/new; echo up >source/new/file; chmod 711 source
umoci insert --opaque --image layout:1 source /opaque
umoci insert --whiteout --image layout:1 /deep/er
umoci insert --whiteout --image layout:1 /kept/up
umoci insert --image layout:1 source /deep/er
umoci config --image layout:1 --config.cmd /bin/busybox --config.cmd cat --config.cmd /link/er/new/file
umoci unpack --image layout:1 seen
"#;

/// All that is below a directory: kind, mode, owner, links, content.
fn list(dir: &Path) -> String {
    let script = "cd \"$0\" && find . ! -type d -printf '%P %y %m %U:%G %n %s %T@ %l\\n' -o -printf '%P %y %m %U:%G\\n' | \
                  sort && find . -type f -print0 | sort -z | xargs -0 sha256sum";
    Run::new("sh").args(["-c", script]).arg(dir).stdout()
}

#[test]
fn what_umoci_takes_away_is_not_there() {
    let _host = Host::take();
    let pods = Pods::new();
    script(pods.path(), &[WHITEOUTS]);
    let expected = list(&pods.path().join("seen/rootfs"));
    assert!(expected.contains("deep/er/new/file") && !expected.contains("gone"), "{expected}");
    let id = pods.rkt("fetch --full oci:layout").stdout();
    for flags in ["--no-overlay", ""] {
        let ended = pods.rkt("run --net=none").args(flags.split_whitespace()).arg(id.trim()).end();
        ended.expect_code(0);
        assert_eq!(said(&ended.stdout), ["up"], "{}", ended.stderr);
    }
    pods.rkt("image extract --rootfs-only").args([id.trim(), "extracted"]).end().expect_code(0);
    // What every ACI has, and a layer need not.
    std::fs::remove_dir_all(pods.path().join("extracted/dev")).expect("a directory of links");
    assert_eq!(list(&pods.path().join("extracted")), expected);
}

/// A way to a server that stops after some bytes of its answers, until it is let go: then the connection ends, and later
/// ones pass freely.
struct Gate {
    held: Receiver<()>,
    release: Sender<()>,
}

impl Gate {
    fn start(address: &str, server: SocketAddr, after: usize) -> Self {
        let listener = TcpListener::bind(address).expect("an address of the test's own");
        let (to_held, held) = channel();
        let (release, released) = channel();
        let hold = Arc::new(Mutex::new(Some((after, to_held, released))));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // While the server is away, the client finds its connection closed.
                let Ok(server) = TcpStream::connect(server) else { continue };
                let hold = Arc::clone(&hold);
                std::thread::spawn(move || drop(pass(&client, &server, &hold)));
            }
        });
        Self { held, release }
    }
}

type Hold = Mutex<Option<(usize, Sender<()>, Receiver<()>)>>;

fn pass(client: &TcpStream, server: &TcpStream, hold: &Hold) -> std::io::Result<()> {
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let (mut from, mut to) = (server, client);
    let (mut buffer, mut passed) = ([0; 16 << 10], 0);
    loop {
        let got = from.read(&mut buffer)?;
        passed += got;
        let held = hold.lock().expect("no thread panics with it").take_if(|(after, ..)| passed > *after);
        if let Some((_, to_held, released)) = held {
            let _told = to_held.send(());
            let _released = released.recv();
            return client.shutdown(Shutdown::Both).and(server.shutdown(Shutdown::Both));
        }
        if got == 0 {
            return client.shutdown(Shutdown::Both);
        }
        to.write_all(&buffer[..got])?;
    }
}

#[test]
fn a_registry_that_is_restarted_in_the_middle_is_gone_on_with() {
    let _host = Host::take();
    let pods = Pods::new();
    let noise = "umoci init --layout layout && umoci new --image layout:1 && mkdir source && \
                  head -c 8M /dev/urandom >source/noise && umoci insert --image layout:1 source / && \
                  umoci config --image layout:1 --config.cmd /none";
    script(pods.path(), &[noise]);
    let registry = Registry::start(pods.path(), "127.0.0.79");
    registry.push("oci:layout:1", "noise:1");
    login(&pods.path().join("etc"), &["127.0.0.79:5001"], "secret");
    let server = "127.0.0.79:5000".parse().expect("an address");
    let gate = Gate::start("127.0.0.79:5001", server, 3 << 20);

    let fetch = rkt(&pods, "fetch docker://127.0.0.79:5001/team/noise:1").start();
    gate.held.recv_timeout(Duration::from_secs(60)).expect("3 MiB of the layer");
    drop(registry);
    let registry = Registry::start(pods.path(), "127.0.0.79");
    gate.release.send(()).expect("it waits for that");
    fetch.end().expect_code(0);
    let (manifest, _) = manifest(pods.path(), "layout", "1");
    let layer = blobs(&manifest)[1];
    wait::until("the rest is in the log", || match registry.sent(layer, 206) {
        1 => Ok(()),
        count => Err(count),
    });
}
