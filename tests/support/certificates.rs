//! An authority made on the spot, and what it vouches for, as files for real servers.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Makes a CA and a certificate for `host` in `dir`: `ca.pem`, `host.pem` and `host.key`.
pub(crate) fn certificates(dir: &Path, host: &str) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Another name than the host's certificate has, which OpenSSL would take for a self-signed one.
    params.distinguished_name.push(DnType::CommonName, "The tests' authority");
    let ca =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let host = CertificateParams::new([host.to_owned()]).and_then(|params| params.signed_by(&key, &ca));
    for (name, text) in [
        ("ca.pem", ca.pem()),
        ("host.pem", host.expect("a certificate").pem()),
        ("host.key", key.serialize_pem()),
    ] {
        std::fs::write(dir.join(name), text).expect("our own directory");
    }
}
