//! Images by URL, from a server that does what it should not: rows B4 to B11 and F8, F22 to F26 of the threat tables.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::shop::{Goods, Shop, URL};
use crate::support::server::{Answer, Asked};

/// A route that answers as usual.
fn usual(_: &Asked, _: &Goods) -> Option<Answer> {
    None
}

/// Credentials of a host.
fn auth(domain: &str, password: &str) -> String {
    format!(
        r#"{{"rktKind":"auth","rktVersion":"v1","domains":["{domain}"],"type":"basic","credentials":{{"user":"u","password":"{password}"}}}}"#
    )
}

#[test]
fn an_image_comes_from_its_url_with_its_signature() {
    let it = Shop::new(10_000, usual);
    let ended = it.fetch(URL);
    ended.expect(0, &ended.stdout, &it.verified());
    let agents: Vec<_> = it.server.log().iter().map(|asked| asked.headers["user-agent"].clone()).collect();
    assert!(agents.iter().all(|agent| agent.starts_with("rkt/")), "{agents:?}");
    assert_eq!(it.server.take_log(), [format!("GET {URL}.asc"), format!("GET {URL}")]);
    assert_eq!((it.names("image").len(), it.names("tmp").len(), it.names("url").len()), (1, 0, 1));
    // The server still has the same: only asked.
    it.fetch(URL).expect(0, &ended.stdout, "");
    assert_eq!(it.server.take_log(), [format!("GET {URL}.asc"), format!("GET {URL}")]);
    // What is there is not asked for by these.
    for policy in ["new", "never"] {
        it.fetch(&format!("--pull-policy={policy} {URL}")).expect(0, &ended.stdout, "");
    }
    assert_eq!(it.server.take_log(), [""; 0]);
}

#[test]
fn a_server_may_say_how_long_an_image_is_good() {
    let it = Shop::new(1000, |asked, goods| {
        (asked.path == "/app.aci")
            .then(|| Answer::file(asked, &goods.image, "\"x\"").header("Cache-Control", "max-age=600"))
    });
    it.fetch(URL).expect_code(0);
    it.server.take_log();
    it.fetch(URL).expect_code(0);
    assert_eq!(it.server.take_log(), [""; 0]);
    // An image that came unsigned is no answer for who wants it signed.
    it.run("image rm example.com/app").expect_code(0);
    it.run(&format!("--insecure-options=image fetch {URL}")).expect_code(0);
    assert_eq!(it.server.take_log(), [format!("GET {URL}")]);
    it.fetch(URL).expect_code(0);
    assert_eq!(it.server.take_log(), [format!("GET {URL}.asc"), format!("GET {URL}")]);
}

#[test]
fn c9_a_missing_signature_on_a_server_is_not_an_unsigned_image() {
    let it = Shop::new(1000, |asked, _| asked.path.ends_with(".asc").then(|| Answer::status(404)));
    it.refused(
        URL,
        &format!(
            "fetch: error downloading the signature file: {URL}.asc: bad HTTP status code: 404\n\
             fetch: hint: an image without a signature is refused; if you trust it, skip the check with \
             --insecure-options=image\n"
        ),
    );
    assert_eq!(
        it.server.take_log(),
        [format!("GET {URL}.asc")],
        "404 is an answer, and the image is not asked for"
    );
    it.run(&format!("--insecure-options=image fetch {URL}")).expect_code(0);
}

#[test]
fn a_signature_may_come_later_once() {
    let asked_for = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked_for);
    let it = Shop::new(1000, move |asked, _| {
        let deferred = asked.path.ends_with(".asc") && count.fetch_add(1, Ordering::SeqCst) == 0;
        deferred.then(|| Answer::status(202))
    });
    let told = "image: server requested deferring the signature download\n";
    let ended = it.fetch(URL);
    ended.expect(0, &ended.stdout, &format!("{told}{}", it.verified()));
    assert_eq!(
        it.server.take_log(),
        [format!("GET {URL}.asc"), format!("GET {URL}"), format!("GET {URL}.asc")]
    );

    let it = Shop::new(1000, |asked, _| asked.path.ends_with(".asc").then(|| Answer::status(202)));
    it.refused(
        URL,
        &format!(
            "{told}fetch: error downloading the signature file: {URL}.asc: the server asked to defer the download again\n\
             fetch: hint: try again later\n"
        ),
    );
}

#[test]
fn f22_a_cut_download_is_gone_on_with() {
    const SIZE: usize = 2_000_000;
    const EACH: usize = 300_000;
    let it = Shop::new(SIZE, |asked, goods| {
        (asked.path == "/app.aci").then(|| Answer::file(asked, &goods.image, "\"one\"").cut(EACH))
    });
    let ended = it.fetch(URL);
    ended.expect(0, &ended.stdout, &it.verified());
    let parts = it.server.log().iter().filter(|asked| asked.path == "/app.aci").count();
    assert_eq!(parts, it.goods.image.len().div_ceil(EACH));
    for asked in it.server.log().iter().filter(|asked| asked.path == "/app.aci").skip(1) {
        assert_eq!(asked.header("if-range"), Some("\"one\""));
    }
    // Nothing came twice but what was on its way.
    let most = it.goods.image.len() + it.goods.signature.len() + parts * (64 << 10);
    assert!(it.server.sent() <= most, "{} bytes for {most}", it.server.sent());
}

#[test]
fn f22_the_next_process_goes_on_unless_the_file_has_changed() {
    let phase = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&phase);
    let it = Shop::new(500_000, move |asked, goods| {
        if asked.path != "/app.aci" {
            return None;
        }
        let etag = if now.load(Ordering::SeqCst) == 2 { "\"two\"" } else { "\"one\"" };
        let answer = Answer::file(asked, &goods.image, etag);
        Some(match (now.load(Ordering::SeqCst), asked.header("range")) {
            (0, None) => answer.cut(200_000),
            // It is lost for good.
            (0, Some(_)) => answer.cut(0),
            _ => answer,
        })
    });
    let ended = it.fetch(URL);
    ended.expect_code(254);
    let last = ended.stderr.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("fetch: error downloading ACI: {URL}: the connection was cut: ")),
        "{last}"
    );
    assert_eq!(ended.stderr.matches("trying again in").count(), 4, "{}", ended.stderr);
    it.expect_nothing();
    assert_eq!(it.names("tmp").len(), 1, "a part is kept");
    let image_requests = |it: &Shop| -> Vec<Option<String>> {
        let log = it.server.log();
        log.iter()
            .filter(|asked| asked.path == "/app.aci")
            .map(|asked| asked.header("range").map(str::to_owned))
            .collect()
    };
    let before = image_requests(&it).len();
    phase.store(1, Ordering::SeqCst);
    it.fetch(URL).expect_code(0);
    let requests = image_requests(&it).split_off(before);
    assert_eq!(requests.len(), 1);
    assert!(requests[0].as_ref().is_some_and(|range| range.starts_with("bytes=")), "{requests:?}");
    assert_eq!(it.names("tmp"), [""; 0]);

    // Another version: the old part is thrown away.
    it.run("image rm example.com/app").expect_code(0);
    phase.store(0, Ordering::SeqCst);
    it.fetch(URL).expect_code(254);
    phase.store(2, Ordering::SeqCst);
    let ended = it.fetch(URL);
    ended.expect(0, &ended.stdout, &it.verified());
    assert_eq!(it.names("tmp"), [""; 0]);
}

#[test]
fn image_gc_leaves_nothing_of_downloads_that_are_over() {
    let it = Shop::new(1000, usual);
    it.fetch(URL).expect_code(0);
    // What a power cut made of a record, and what a killed process has left of one and of a download.
    for file in ["url/0123", "url/.tmp-0123", "tmp/download-0-0123/body"] {
        it.put(&format!("data/cas/{file}"), "");
    }
    it.run("image gc").expect_code(0);
    assert_eq!((it.names("url").len(), it.names("tmp").len()), (1, 1), "what may be of use stays");
    let ended = it.fetch("--pull-policy=never https://example.com/app.aci");
    ended.expect(0, &ended.stdout, "");
    it.run("image gc --grace-period=0s").expect_code(0);
    assert_eq!((it.names("image").len(), it.names("url").len(), it.names("tmp").len()), (0, 0, 0));

    it.fetch(URL).expect_code(0);
    // By a newer version, for whatever it is good.
    it.put(
        "data/cas/url/4567",
        std::fs::read_to_string(it.store().join("url").join(&it.names("url")[0])).unwrap(),
    );
    let newer = it.store().join("url/4567");
    let text = std::fs::read_to_string(&newer).unwrap().replace("\"version\":1", "\"version\":2");
    std::fs::write(newer, text).unwrap();
    it.run("image rm example.com/app").expect_code(0);
    assert_eq!(it.names("url"), ["4567"]);
}

#[test]
fn f22_a_damaged_part_is_thrown_away_and_all_is_fetched_again() {
    let phase = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&phase);
    let it = Shop::new(500_000, move |asked, goods| {
        let first = asked.path == "/app.aci" && now.load(Ordering::SeqCst) == 0;
        first.then(|| {
            let answer = Answer::file(asked, &goods.image, "\"one\"");
            answer.cut(if asked.header("range").is_some() { 0 } else { 200_000 })
        })
    });
    it.fetch(URL).expect_code(254);
    let part = it.store().join("tmp").join(&it.names("tmp")[0]).join("body");
    let size = part.metadata().unwrap().len();
    // As after a power cut.
    std::fs::write(&part, vec![0; usize::try_from(size).unwrap()]).unwrap();
    phase.store(1, Ordering::SeqCst);
    let ended = it.fetch(URL);
    ended.expect(0, &ended.stdout, &it.verified());
    assert_eq!(it.names("tmp"), [""; 0]);
}

#[test]
fn f22_a_server_without_ranges_starts_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&times);
    let it = Shop::new(300_000, move |asked, goods| {
        if asked.path != "/app.aci" {
            return None;
        }
        let answer = Answer::ok(goods.image.clone()).header("ETag", "\"one\"");
        Some(if count.fetch_add(1, Ordering::SeqCst) == 0 { answer.cut(100_000) } else { answer })
    });
    let ended = it.fetch(URL);
    ended.expect(0, &ended.stdout, &it.verified());
    assert_eq!(times.load(Ordering::SeqCst), 2);
}

#[test]
fn f25_a_server_that_cannot_count_never_makes_a_wrong_image() {
    // A range that was not asked for, always.
    let it = Shop::new(300_000, |asked, goods| {
        (asked.path == "/app.aci").then(|| match asked.header("range") {
            None => Answer::file(asked, &goods.image, "\"one\"").cut(100_000),
            Some(_) => {
                let range = format!("bytes 5-{}/{}", goods.image.len() - 1, goods.image.len());
                let answer = Answer::status(206).header("Content-Range", &range);
                answer.body(&goods.image[5..])
            }
        })
    });
    let ended = it.fetch(URL);
    ended.expect_code(254);
    assert!(ended.stderr.contains(": the server sent the range \"bytes 5-"), "{}", ended.stderr);
    it.expect_nothing();

    // More promised than there is.
    let it = Shop::new(1000, |asked, goods| {
        (asked.path == "/app.aci").then(|| {
            let more = goods.image.len() + 100;
            Answer::file(asked, &goods.image, "\"one\"").claim_length(more)
        })
    });
    let ended = it.fetch(URL);
    ended.expect_code(254);
    assert!(ended.stderr.contains("fetch: error downloading ACI: "), "{}", ended.stderr);
    it.expect_nothing();

    // Less.
    let it = Shop::new(1000, |asked, goods| {
        (asked.path == "/app.aci").then(|| {
            let less = goods.image.len() - 100;
            Answer::file(asked, &goods.image, "\"one\"").claim_length(less)
        })
    });
    it.fetch(URL).expect_code(254);
    it.expect_nothing();

    // A part of it, unasked.
    let it = Shop::new(1000, |asked, goods| {
        (asked.path == "/app.aci").then(|| Answer::status(206).body(&goods.image[..500]))
    });
    it.refused(URL, &format!("fetch: error downloading ACI: {URL}: bad HTTP status code: 206\n"));
}

#[test]
fn f24_a_server_that_says_later_is_asked_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&times);
    let it = Shop::new(1000, move |asked, _| {
        if asked.path != "/app.aci" {
            return None;
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Some(Answer::status(503).header("Retry-After", "1")),
            1 => Some(Answer::status(429).header("Retry-After", "-5")),
            2 => Some(Answer::status(500)),
            _ => None,
        }
    });
    let began = Instant::now();
    let ended = it.fetch(URL);
    ended.expect_code(0);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let waits: Vec<_> = ended.stderr.lines().filter(|line| line.contains("; trying again in ")).collect();
    assert_eq!(waits.len(), 3, "{}", ended.stderr);
    assert!(
        waits[0].starts_with(&format!("fetch: {URL}: 503 Service Unavailable; trying again in 1.0 s")),
        "{waits:?}"
    );

    for (status, after, requests) in
        [(503, "", 5), (429, "3600", 1), (404, "1", 1), (401, "", 1), (403, "", 1)]
    {
        let it = Shop::new(1000, move |asked, _| {
            let answer = Answer::status(status);
            let answer = if after.is_empty() { answer } else { answer.header("Retry-After", after) };
            (asked.path == "/app.aci").then_some(answer)
        });
        let ended = it.fetch(URL);
        ended.expect_code(254);
        let expected = format!("fetch: error downloading ACI: {URL}: bad HTTP status code: {status}\n");
        assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
        assert_eq!(it.server.log().len(), 1 + requests, "{status}");
        it.expect_nothing();
    }
}

#[test]
fn f23_silence_is_not_waited_for() {
    // Who says nothing at all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let it = Shop::new(1000, |asked, goods| {
        (asked.path == "/app.aci").then(|| Answer::file(asked, &goods.image, "\"one\"").stall(500))
    });
    let slow = it.rkt(&format!("fetch {URL}")).patience(Duration::from_secs(120)).start();
    let began = Instant::now();
    let ended = it.world.run(&format!("--dir=other --insecure-options=image fetch https://{address}/x.aci"));
    ended.expect(
        254,
        "",
        &format!(
            "fetch: error downloading ACI: connecting to {address}: no connection within 10 s\n\
             fetch: hint: check that the server runs, and the proxy in HTTPS_PROXY or HTTP_PROXY if one is needed\n"
        ),
    );
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    // Who begins and stops.
    slow.end().expect(
        254,
        "",
        &format!("fetch: error downloading ACI: {URL}: less than 30720 bytes within 30 s\n"),
    );
    it.expect_nothing();
}

#[test]
fn f26_what_is_wrong_with_a_server_is_named() {
    let it = Shop::new(1000, usual);
    let authorities = "fetch: hint: add the authority to the system's certificates (package ca-certificates); \
                --insecure-options=tls goes on without knowing the server\n";
    for (host, problem) in [
        ("expired.example.com", "it has expired"),
        ("wrong.example.com", "it is for another host"),
        ("selfsigned.example.com", "it is signed by an authority that this host does not know"),
    ] {
        it.refused(
            &format!("https://{host}/app.aci"),
            &format!(
                "fetch: error downloading the signature file: the certificate of {host} is not accepted: {problem}\n{authorities}"
            ),
        );
        let ended = it.run(&format!("--insecure-options=tls fetch https://{host}/app.aci"));
        ended.expect_code(0);
        it.run("image rm example.com/app").expect_code(0);
        it.run("image gc").expect_code(0);
    }
    // Nobody there: a port that was free just now.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let direct = |url: &str| it.world.run(&format!("--dir=data --insecure-options=image fetch {url}"));
    let hint = "fetch: hint: check that the server runs, and the proxy in HTTPS_PROXY or HTTP_PROXY if one is needed\n";
    direct(&format!("https://{free}/x.aci")).expect(
        254,
        "",
        &format!("fetch: error downloading ACI: connecting to {free}: Connection refused\n{hint}"),
    );
    let ended = direct("https://no-such-host.invalid/x.aci");
    ended.expect_code(254);
    assert!(
        ended
            .stderr
            .starts_with("fetch: error downloading ACI: the host no-such-host.invalid was not found: "),
        "{}",
        ended.stderr
    );
    // A host that knows no authority.
    let unknown = |words: &str| {
        let run = it.rkt(&format!("--insecure-options=image fetch {words}"));
        run.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/no/such").end()
    };
    unknown(URL).expect(
        254,
        "",
        &format!(
            "fetch: error downloading ACI: the certificate of example.com is not accepted: it is signed by an authority \
             that this host does not know\n{authorities}"
        ),
    );
    unknown("http://example.com/app.aci").expect_code(0);
    it.run("image rm example.com/app").expect_code(0);
    it.run("image gc").expect_code(0);
    // A proxy that is down.
    let proxy = format!("http://{free}");
    let ended = it.world.rkt(&format!("--dir=data fetch {URL}")).env("HTTPS_PROXY", proxy).end();
    ended.expect_code(254);
    assert!(ended.stderr.contains("Connection refused"), "{}", ended.stderr);
    it.expect_nothing();
}

#[test]
fn a_server_at_an_address_that_the_user_typed_is_reached() {
    let it = Shop::new(1000, usual);
    let (name, value) = it.server.trust();
    let fetch = |scheme: &str| {
        let url = format!("{scheme}://{}/app.aci", it.server.address());
        it.world.rkt(&format!("{} fetch {url}", crate::shop::RKT)).env(name, value.clone()).end()
    };
    for scheme in ["https", "http"] {
        let ended = fetch(scheme);
        ended.expect(0, &ended.stdout, &it.verified());
    }
}

#[test]
fn b6_credentials_stay_with_their_origin() {
    let it = Shop::new(1000, |asked, _| match (asked.host.as_str(), asked.path.as_str()) {
        ("example.com", "/app.aci") => Some(Answer::redirect("/moved.aci")),
        ("example.com", "/moved.aci") => Some(Answer::redirect("https://cdn.example.net/other.aci")),
        ("cdn.example.net", "/other.aci") => Some(Answer::redirect("https://example.com:8443/app.aci")),
        _ => None,
    });
    it.put("loc/auth.d/a.json", auth("example.com", "secret"));
    it.put("loc/auth.d/b.json", auth("cdn.example.net", "cdn"));
    let ended = it.fetch(URL);
    ended.expect(0, &ended.stdout, &it.verified());
    let seen: Vec<_> = it
        .server
        .log()
        .iter()
        .map(|asked| format!("{}{} {}", asked.host, asked.path, asked.header("authorization").unwrap_or("-")))
        .collect();
    assert_eq!(
        seen,
        [
            "example.com/app.aci.asc Basic dTpzZWNyZXQ=",
            "example.com/app.aci Basic dTpzZWNyZXQ=",
            "example.com/moved.aci Basic dTpzZWNyZXQ=",
            "cdn.example.net/other.aci -",
            "example.com:8443/app.aci -",
        ]
    );
    // Never by plain HTTP, whatever the port.
    let it = Shop::new(1000, usual);
    it.put("loc/auth.d/a.json", auth("example.com", "secret"));
    it.fetch("http://example.com/app.aci").expect_code(0);
    assert!(it.server.log().iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn b6_redirects_have_bounds() {
    let it = Shop::new(1000, |asked, _| match asked.path.as_str() {
        "/down.aci" => Some(Answer::redirect("http://example.com/app.aci")),
        "/file.aci" => Some(Answer::redirect("file:///etc/shadow")),
        "/user.aci" => Some(Answer::redirect("https://u:p@example.com/app.aci")),
        "/loop.aci" => Some(Answer::redirect("/loop.aci")),
        _ => None,
    });
    for (name, problem) in [
        ("down", "https://example.com/down.aci redirects to http://example.com/app.aci: it leaves HTTPS"),
        (
            "file",
            "https://example.com/file.aci redirects to file:///etc/shadow: it is neither http nor https",
        ),
        (
            "user",
            "https://example.com/user.aci redirects to https://example.com/app.aci: it has a user or password in it",
        ),
        ("loop", "https://example.com/loop.aci: more than 5 redirects"),
    ] {
        let ended = it.run(&format!("--insecure-options=image fetch https://example.com/{name}.aci"));
        ended.expect(254, "", &format!("fetch: error downloading ACI: {problem}\n"));
        it.expect_nothing();
    }
}

#[test]
fn b7_a_server_cannot_send_us_to_ourselves() {
    let it = Shop::new(1000, |asked, _| match asked.path.as_str() {
        "/loopback.aci" => Some(Answer::redirect("https://127.0.0.1:1/app.aci")),
        "/metadata.aci" => Some(Answer::redirect("https://169.254.169.254/latest/meta-data/x.aci")),
        "/mapped.aci" => Some(Answer::redirect("https://[::ffff:127.0.0.1]/app.aci")),
        _ => None,
    });
    let hint = "fetch: hint: if that is meant, name the image by its URL\n";
    for (name, host) in
        [("loopback", "127.0.0.1"), ("metadata", "169.254.169.254"), ("mapped", "[::ffff:7f00:1]")]
    {
        let ended = it.run(&format!("--insecure-options=image fetch https://example.com/{name}.aci"));
        ended.expect(
            254,
            "",
            &format!(
                "fetch: error downloading ACI: {host} is an address of this host or its link, and only a user may name \
                 it\n{hint}"
            ),
        );
        it.expect_nothing();
    }
    // Neither by a name that leads there.
    let port = it.server.address().port();
    let to = format!("http://localhost:{port}/app.aci");
    let other = Shop::new(1000, move |asked, _| (asked.path == "/name.aci").then(|| Answer::redirect(&to)));
    let url = format!("http://{}/name.aci", other.server.address());
    let ended = other.world.run(&format!("--dir=data --insecure-options=image fetch {url}"));
    ended.expect(
        254,
        "",
        &format!(
            "fetch: error downloading ACI: localhost is an address of this host or its link, and only a user may \
             name it\n{hint}"
        ),
    );
}

#[test]
fn a_password_in_an_url_is_not_shown() {
    let it = Shop::new(1000, |_, _| Some(Answer::status(404)));
    let ended = it.fetch("https://user:secret@example.com/app.aci");
    ended.expect_code(254);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
}

#[test]
fn f8_many_processes_make_one_download() {
    const PROCESSES: usize = 32;
    let it = Shop::new(2_000_000, usual);
    let running: Vec<_> = (0..PROCESSES).map(|_| it.rkt(&format!("fetch {URL}")).start()).collect();
    let ended: Vec<_> = running.into_iter().map(|run| run.end()).collect();
    for one in &ended {
        one.expect_code(0);
        assert_eq!(one.stdout, ended[0].stdout);
    }
    let whole = it
        .server
        .log()
        .into_iter()
        .filter(|asked| asked.path == "/app.aci" && asked.header("if-none-match").is_none());
    assert_eq!(whole.count(), 1);
    assert_eq!((it.names("image").len(), it.names("tmp").len()), (1, 0));
}
