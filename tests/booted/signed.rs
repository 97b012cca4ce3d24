//! Signed images of a real registry: what openssl has signed and curl has put beside the image is verified before the image is
//! run, and who has signed it is told by the pod.

use crate::host::Host;
use crate::pod::{Pods, said_by};
use crate::support::Run;
use crate::support::oci::{Image, digest};
use crate::support::registry::{Registry, login};

const HOST: &str = "127.0.0.80";

/// Signs the image with the digest $DIGEST as $NAME, and stores that as cosign does.
const SIGN: &str = r#"
curl() { command curl --silent --show-error --fail --user user:secret --cacert ca.pem "$@"; }
digest() { echo "sha256:$(sha256sum "$1" | cut -d' ' -f1)"; }
base=https://$HOST/v2/$REPOSITORY
blob() {
  place=$(curl --request POST --dump-header - --output /dev/null "$base/blobs/uploads/" |
    tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
  curl --request PUT --data-binary "@$1" --header 'Content-Type: application/octet-stream' "$place&digest=$(digest "$1")"
}
printf '{"critical":{"identity":{"docker-reference":"%s"},"image":{"docker-manifest-digest":"%s"},"type":"%s"}}' \
  "$HOST/$REPOSITORY" "$DIGEST" 'cosign container image signature' >payload
openssl dgst -sha256 -sign key.pem -out signature payload
printf '{}' >config
blob payload
blob config
printf '{"schemaVersion":2,"config":{"mediaType":"%s","digest":"%s","size":2},"layers":[
  {"mediaType":"%s","digest":"%s","size":%d,"annotations":{"dev.cosignproject.cosign/signature":"%s"}}]}' \
  application/vnd.oci.image.config.v1+json "$(digest config)" \
  application/vnd.dev.cosign.simplesigning.v1+json "$(digest payload)" "$(stat -c %s payload)" \
  "$(base64 --wrap=0 signature)" >signatures
curl --request PUT --data-binary @signatures --header 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
  "$base/manifests/${DIGEST/:/-}.sig"
"#;

const KEY: &str = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem
                   openssl pkey -in key.pem -pubout -out key.pub
                   openssl pkey -pubin -in key.pub -outform DER | sha256sum | cut -d' ' -f1";

#[test]
fn c6_what_openssl_has_signed_is_verified_and_run() {
    let _host = Host::take();
    let pods = Pods::new();
    let bash = |script: &str| {
        let run = Run::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(pods.path());
        run.env("HOST", format!("{HOST}:5000"))
    };
    let registry = Registry::start(pods.path(), HOST);
    login(&pods.path().join("etc"), &[&format!("{HOST}:5000")], "secret");
    let key = bash(KEY).stdout().trim().to_owned();
    // Returns the digest.
    let push = |name: &str| {
        let image = Image::new(&["/bin/sh", "-c", &format!("echo this is {name}")]).busybox();
        image.layout(Some("1")).write_dir(&pods.path().join(name));
        registry.push(&format!("oci:{name}:1"), &format!("{name}:1"));
        digest(&image.blobs().pop().expect("a manifest"))
    };
    let sign = bash(SIGN).env("DIGEST", push("signed")).env("REPOSITORY", "team/signed");
    sign.end().expect_code(0);
    push("unsigned");
    let rkt = |words: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let run = Run::rkt().env_clear().env("PATH", path).env("SSL_CERT_FILE", pods.path().join("ca.pem"));
        let run = run.arg("--dir").arg(pods.data()).arg("--local-config").arg(pods.path().join("etc"));
        run.args(words.split(' ')).current_dir(pods.path())
    };

    let prefix = format!("docker://{HOST}:5000/team");
    let ended = rkt(&format!("trust --prefix={prefix} --skip-fingerprint-review key.pub")).end();
    ended.expect_code(0);
    let shown = format!("ECDSA P-256 key, SHA-256 fingerprint is: {key}\n");
    assert!(ended.stdout.starts_with(&shown), "{}", ended.stdout);

    let uuid = pods.path().join("uuid");
    let ended = rkt("run --net=none").arg("--uuid-file-save").arg(&uuid).arg(registry.name("signed:1")).end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "signed"), ["this is signed"], "{}", ended.stderr);
    let verified = format!("image: signature verified:\n  key {key}, trusted for prefix \"{prefix}\"\n");
    assert!(ended.stderr.contains(&verified), "{}", ended.stderr);
    let uuid = std::fs::read_to_string(&uuid).expect("the UUID file");
    let status = rkt("status").arg(&uuid).stdout();
    assert!(status.contains(&format!("\nsigner-signed={key}\n")), "{status}");
    let list = rkt("image list --no-legend --fields=signer").stdout();
    assert_eq!(list, format!("{key}\n"));

    let image = registry.name("unsigned:1");
    let ended = rkt("run --net=none").arg(&image).end();
    ended.expect_code(254);
    let refused = format!("run: image {image} verification failed: it has no signature: there is no sha256-");
    assert!(ended.stderr.contains(&refused), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    assert_eq!(rkt("image list --no-legend --fields=signer").stdout(), list);
}
