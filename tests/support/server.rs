//! A web server that can do what real ones must not: cut, stall, lie about ranges, ask to come back later. It is reached
//! at its own address, or as the proxy of the whole internet: then each host has a certificate of a CA made on the spot.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// `host` or `host:port`.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.host, self.path)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes after so many bytes of the body.
    Stall(usize),
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    fault: Fault,
    /// What is claimed as the length, if not the truth.
    claimed: Option<usize>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), fault: Fault::None, claimed: None }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(302).header("Location", to)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(self, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..self }
    }

    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.fault = Fault::Cut(after);
        self
    }

    pub(crate) fn stall(mut self, after: usize) -> Self {
        self.fault = Fault::Stall(after);
        self
    }

    pub(crate) fn claim_length(mut self, length: usize) -> Self {
        self.claimed = Some(length);
        self
    }

    /// A file of this entity tag, of which a range may be asked for.
    pub(crate) fn file(asked: &Asked, body: &[u8], etag: &str) -> Self {
        if asked.header("if-none-match") == Some(etag) {
            return Self::status(304).header("ETag", etag);
        }
        let from = asked
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let same = asked.header("if-range").is_none_or(|tag| tag == etag);
        let answer = match from {
            Some(from) if same && from >= body.len() => {
                Self::status(416).header("Content-Range", &format!("bytes */{}", body.len()))
            }
            Some(from) if same => Self { body: body[from..].to_vec(), ..Self::status(206) }
                .header("Content-Range", &format!("bytes {from}-{}/{}", body.len() - 1, body.len())),
            _ => Self::ok(body),
        };
        answer.header("ETag", etag).header("Accept-Ranges", "bytes")
    }
}

type Route = dyn Fn(&Asked) -> Answer + Send + Sync;

struct Shared {
    route: Box<Route>,
    ca: Ca,
    log: Mutex<Vec<Asked>>,
    sent: Mutex<usize>,
    over: AtomicBool,
}

/// A running server; dropped, it takes no more connections.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    _dir: tempfile::TempDir,
    ca_file: PathBuf,
}

impl Server {
    /// Starts a server that answers as `route` says.
    pub(crate) fn start(route: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let ca = Ca::new();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, ca.issuer.pem()).expect("our own file");
        let shared = Arc::new(Shared {
            route: Box::new(route),
            ca,
            log: Mutex::default(),
            sent: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let shared = Arc::clone(&serving);
                // A client that goes away ends its thread, and that is all.
                std::thread::spawn(move || drop(shared.serve(connection)));
            }
        });
        Self { address, shared, _dir: dir, ca_file }
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The environment in which all requests come here, and its CA is trusted.
    pub(crate) fn environment(&self) -> [(&'static str, String); 3] {
        let proxy = format!("http://{}", self.address);
        [("HTTPS_PROXY", proxy.clone()), ("HTTP_PROXY", proxy), self.trust()]
    }

    /// The variable with which its CA is trusted.
    pub(crate) fn trust(&self) -> (&'static str, String) {
        ("SSL_CERT_FILE", self.ca_file.display().to_string())
    }

    /// The requests so far.
    pub(crate) fn log(&self) -> Vec<Asked> {
        lock(&self.shared.log).clone()
    }

    /// The requests so far, as `METHOD URL`; forgets them.
    pub(crate) fn take_log(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *lock(&self.shared.log));
        asked.iter().map(|asked| format!("{} {}", asked.method, asked.url())).collect()
    }

    /// Bytes of bodies that were sent.
    pub(crate) fn sent(&self) -> usize {
        *lock(&self.shared.sent)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _woken = TcpStream::connect(self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        let mut first = [0];
        if connection.peek(&mut first)? == 1 && first[0] == 0x16 {
            let host = connection.local_addr()?.ip().to_string();
            return self.serve_tls(connection, &host);
        }
        let mut connection = BufReader::new(connection);
        loop {
            let Some((method, target, headers, body)) = read_request(&mut connection)? else { return Ok(()) };
            if method == "CONNECT" {
                let host = target.rsplit_once(':').map_or(target.as_str(), |(host, _)| host).to_owned();
                let mut plain = connection.into_inner();
                plain.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                return self.serve_tls(plain, &host);
            }
            // A proxy gets the whole URL.
            let path = match target.strip_prefix("http://") {
                Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
                None => target,
            };
            if !self.answer(connection.get_mut(), asked("http", method, path, headers, body))? {
                return Ok(());
            }
        }
    }

    fn serve_tls(&self, plain: TcpStream, host: &str) -> std::io::Result<()> {
        let config = self.ca.config(host);
        let tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
        let mut connection = BufReader::new(StreamOwned::new(tls, plain));
        while let Some((method, path, headers, body)) = read_request(&mut connection)? {
            if !self.answer(connection.get_mut(), asked("https", method, path, headers, body))? {
                let _told = connection.get_ref().sock.shutdown(std::net::Shutdown::Both);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers; tells whether the connection goes on.
    fn answer(&self, to: &mut (impl Read + Write), asked: Asked) -> std::io::Result<bool> {
        let answer = (self.route)(&asked);
        let is_head = asked.method == "HEAD";
        lock(&self.log).push(asked);
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if answer.status != 304 {
            head += &format!("Content-Length: {}\r\n", answer.claimed.unwrap_or(answer.body.len()));
        }
        to.write_all(format!("{head}\r\n").as_bytes())?;
        let body: &[u8] = if is_head { &[] } else { &answer.body };
        let end = match answer.fault {
            Fault::None => body.len(),
            Fault::Cut(after) | Fault::Stall(after) => after.min(body.len()),
        };
        for chunk in body[..end].chunks(64 << 10) {
            to.write_all(chunk)?;
            *lock(&self.sent) += chunk.len();
        }
        to.flush()?;
        match answer.fault {
            Fault::None => Ok(answer.claimed.is_none()),
            Fault::Cut(_) => Ok(false),
            Fault::Stall(_) => {
                // Until the client goes away.
                let _end = to.read(&mut [0]);
                Ok(false)
            }
        }
    }
}

fn asked(
    scheme: &'static str,
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
) -> Asked {
    let host = headers.get("host").cloned().unwrap_or_default();
    Asked { method, scheme, host, path, headers, body }
}

type Parts = (String, String, BTreeMap<String, String>, Vec<u8>);

fn read_request(from: &mut impl BufRead) -> std::io::Result<Option<Parts>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length: &String| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some((method, target, headers, body)))
}

/// An authority that the tests trust, and the certificates that it gives.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    configs: Mutex<BTreeMap<String, Arc<ServerConfig>>>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "The tests' authority");
        let key = KeyPair::generate().expect("a new key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Self { issuer, configs: Mutex::default() }
    }

    /// What a host shows. Some names say what is wrong with it.
    fn config(&self, host: &str) -> Arc<ServerConfig> {
        let mut configs = lock(&self.configs);
        Arc::clone(configs.entry(host.to_owned()).or_insert_with(|| Arc::new(self.new_config(host))))
    }

    fn new_config(&self, host: &str) -> ServerConfig {
        let name = if host.starts_with("wrong.") { "another.example" } else { host };
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        if host.starts_with("expired.") {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("a new key");
        let certificate = if host.starts_with("selfsigned.") {
            params.self_signed(&key)
        } else {
            params.signed_by(&key, &self.issuer)
        };
        let certificate = certificate.expect("a certificate").der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a key and its certificate")
    }
}
