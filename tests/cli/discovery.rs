//! Images by name: discovery pages, keys, what must fit, and rows B7, B12 and C8 of the threat table.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use crate::shop::{Goods, Shop};
use crate::support::keys::TestKey;
use crate::support::server::{Answer, Asked};

const PAGE: &str = "<!doctype html><html><head><title>x</title>\
    <meta name=\"ac-discovery\" content=\"example.com https://images.example.com/{name}-{version}-{os}-{arch}.{ext}\">\
    <meta name=\"ac-discovery-pubkeys\" content=\"example.com https://example.com/key.asc\"></head><body></body></html>";

/// The publisher's site: the page at the top, image and signature where its template says.
pub(crate) fn site(asked: &Asked, goods: &Goods) -> Option<Answer> {
    page_of(PAGE, asked, goods)
}

fn page_of(page: &str, asked: &Asked, goods: &Goods) -> Option<Answer> {
    let file = |name: &str| asked.path.starts_with("/example.com/app-") && asked.path.ends_with(name);
    match asked.url().as_str() {
        "https://example.com/?ac-discovery=1" => Some(Answer::ok(page)),
        "https://example.com/key.asc" => Some(Answer::ok(goods.key.public())),
        _ if file(".aci") => Some(Answer::file(asked, &goods.image, "\"one\"")),
        _ if file(".aci.asc") => Some(Answer::ok(goods.signature.clone())),
        _ => Some(Answer::status(404)),
    }
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    }
}

#[test]
fn an_image_is_found_by_its_name() {
    let it = Shop::new(1000, site);
    let image = format!("https://images.example.com/example.com/app-1.0.0-linux-{}.aci", arch());
    let ended = it.fetch("example.com/app:1.0.0");
    let exists = "image: keys already exist for prefix \"example.com/app\", not fetching again\n";
    ended.expect(0, &ended.stdout, &format!("{exists}{}", it.verified()));
    assert_eq!(
        it.server.take_log(),
        [
            "GET https://example.com/app?ac-discovery=1".to_owned(),
            "GET https://example.com/?ac-discovery=1".to_owned(),
            format!("GET {image}.asc"),
            format!("GET {image}"),
        ]
    );
    // In the store.
    it.fetch("--pull-policy=new example.com/app:1.0.0").expect(0, &ended.stdout, "");
    it.fetch("--pull-policy=never example.com/app").expect(0, &ended.stdout, "");
    assert_eq!(it.server.take_log(), [""; 0]);
    // Without a version it is the latest.
    it.fetch("example.com/app").expect(0, &ended.stdout, &format!("{exists}{}", it.verified()));
    let latest = image.replace("1.0.0", "latest");
    assert!(it.server.take_log().contains(&format!("GET {latest}")));
    // Without signatures no key matters, and none is looked for.
    it.run("--insecure-options=image fetch example.com/app:2").expect_code(0);
    assert!(it.server.take_log().iter().all(|line| !line.contains(".asc")));
}

#[test]
fn c8_keys_are_found_shown_and_stored_only_with_the_users_word() {
    let it = Shop::new(1000, site);
    std::fs::remove_dir_all(it.world.path().join("loc")).unwrap();
    let fpr = it.goods.key.fingerprint();
    let ended = it.fetch("example.com/app:1.0.0");
    ended.expect_code(254);
    assert!(
        ended.stderr.contains(
            "pubkey: prefix: \"example.com/app\"\nkey: \"https://example.com/key.asc\"\n\
             pubkey: To trust the key, do one of the following:\n\
             pubkey:  - call rkt with --trust-keys-from-https\n\
             pubkey:  - run: rkt trust --prefix \"example.com/app\"\n\
             pubkey: error reviewing key: unable to ask user to review fingerprint due to lack of tty\n"
        ),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.ends_with(&format!(
            "fetch: image \"example.com/app\" verification failed: openpgp: signature made by unknown entity, key {}\n\
             fetch: hint: If you expected the signing key to change, try running:\nfetch:     rkt trust --prefix \
             example.com/app\n",
            fpr.to_uppercase()
        )),
        "{}",
        ended.stderr
    );
    it.expect_nothing();
    assert!(!it.world.path().join("loc").exists());
    // The image of an unknown signer is not even asked for.
    assert!(it.server.take_log().iter().all(|line| !line.ends_with(".aci")));

    let ended = it.run("--trust-keys-from-https fetch example.com/app:1.0.0");
    ended.expect_code(0);
    assert!(it.world.path().join("loc/trustedkeys/prefix.d/example.com/app").join(&fpr).exists());
    assert!(
        ended.stdout.contains("for prefix \"example.com/app\" without fingerprint review."),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.contains("trusted for prefix \"example.com/app\"\n"), "{}", ended.stderr);
}

#[test]
fn c8_keys_are_not_fetched_where_anybody_could_have_put_them() {
    let by_http = PAGE.replace("https://example.com/key.asc", "http://example.com/key.asc");
    let it = Shop::new(1000, move |asked, goods| match asked.url().as_str() {
        "http://example.com/key.asc" => Some(Answer::ok(goods.key.public())),
        _ => page_of(&by_http, asked, goods),
    });
    std::fs::remove_dir_all(it.world.path().join("loc")).unwrap();
    for words in ["", "--insecure-options=http", "--insecure-options=pubkey"] {
        let ended = it.run(&format!("--trust-keys-from-https {words} fetch example.com/app:1.0.0"));
        ended.expect_code(254);
        let told = "pubkey: discovery failed for \"example.com/app\": http://example.com/key.asc is not reached by HTTPS\n";
        assert!(ended.stderr.contains(told), "{words}: {}", ended.stderr);
        assert!(!it.world.path().join("loc").exists());
    }
    it.server.take_log();
    // Without checked certificates none is looked for.
    it.run("--trust-keys-from-https --insecure-options=tls fetch example.com/app:1.0.0").expect_code(254);
    assert!(it.server.take_log().iter().all(|line| !line.contains("key.asc")));
    assert!(!it.world.path().join("loc").exists());
}

#[test]
fn what_comes_must_be_what_was_asked_for() {
    // Another image of the same publisher, under the name of the first one.
    let other = Goods::new("example.com/other", 10);
    let served = std::sync::Arc::clone(&other);
    let it = Shop::new(1000, move |asked, goods| match asked.path.as_str() {
        path if path.ends_with(".aci") => Some(Answer::ok(served.image.clone())),
        path if path.ends_with(".asc") && !path.ends_with("key.asc") => {
            Some(Answer::ok(served.signature.clone()))
        }
        _ => site(asked, goods),
    });
    it.trust(&other.key);
    let exists = "image: keys already exist for prefix \"example.com/app\", not fetching again\n";
    it.refused(
        "example.com/app:1.0.0",
        &format!(
            "{exists}fetch: error when reading the app name: \"example.com/app\" expected but \"example.com/other\" found\n"
        ),
    );
    let it = Shop::new(1000, site);
    it.refused(
        "example.com/app:2",
        &format!(
            "{exists}fetch: requested value for label \"version\": \"2\" differs from fetched aci label value: \
             \"1.0.0\"\n"
        ),
    );
}

#[test]
fn b12_only_the_head_of_a_page_counts_and_only_for_its_prefix() {
    let tag = "<meta name=ac-discovery content='example.com https://evil.example.net/{name}.{ext}'>";
    for page in [
        format!("<body>{tag}</body>"),
        format!("<p>hello</p>{tag}"),
        format!("<!-- {tag} -->"),
        format!("<title>{tag}</title>"),
        tag.replace("'example.com ", "'example.com/ap "),
        tag.replace("'example.com ", "'example.co "),
        tag.replace("{name}", "{channel}"),
        format!("{}{tag}", " ".repeat(1 << 20)),
    ] {
        let it = Shop::new(10, move |asked, goods| page_of(&page, asked, goods));
        let ended = it.fetch("example.com/app:1.0.0");
        ended.expect_code(254);
        assert!(
            ended.stderr.contains(
                "fetch: discovery failed for \"example.com/app\": bad HTTP status code: 404 (https://example.com/app); \
                 no meta tag 'ac-discovery' for it (https://example.com)\n"
            ),
            "{}",
            ended.stderr
        );
        assert!(it.server.take_log().iter().all(|line| !line.contains("evil")));
        it.expect_nothing();
    }
    // No page is asked for more often than the limit.
    let it = Shop::new(10, |_, _| Some(Answer::status(404)));
    it.fetch(&format!("example.com{}", "/a".repeat(40))).expect_code(254);
    assert_eq!(it.server.log().len(), 16);
}

#[test]
fn b12_plain_http_needs_the_switch() {
    let page = PAGE.replace("https://images", "http://images");
    let it = Shop::new(1000, move |asked, goods| page_of(&page, asked, goods));
    let ended = it.fetch("example.com/app:1.0.0");
    ended.expect_code(254);
    let told = "fetch: discovery failed for \"example.com/app\": http://images.example.com/example.com/app-1.0.0-linux-";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    it.run("--insecure-options=http fetch example.com/app:1.0.0").expect_code(0);

    let it = Shop::new(1000, |asked, goods| match asked.url().as_str() {
        "http://example.com/app?ac-discovery=1" => Some(Answer::ok(PAGE)),
        "https://example.com/?ac-discovery=1" => Some(Answer::status(404)),
        _ => site(asked, goods),
    });
    it.fetch("example.com/app:1.0.0").expect_code(254);
    assert!(it.server.take_log().iter().all(|line| !line.contains(" http://")));
    it.run("--insecure-options=http fetch example.com/app:1.0.0").expect_code(0);
}

#[test]
fn b7_a_page_cannot_send_us_to_ourselves() {
    for host in ["127.0.0.1", "169.254.169.254", "[::1]"] {
        let page = PAGE.replace("images.example.com", host);
        let it = Shop::new(1000, move |asked, goods| page_of(&page, asked, goods));
        let ended = it.fetch("example.com/app:1.0.0");
        ended.expect_code(254);
        assert!(ended.stderr.contains("is an address of this host or its link"), "{}", ended.stderr);
        it.expect_nothing();
    }
}

#[test]
fn passwords_go_along_with_discovery_but_not_with_keys() {
    let it = Shop::new(1000, site);
    std::fs::remove_dir_all(it.world.path().join("loc")).unwrap();
    it.put(
        "loc/auth.d/a.json",
        r#"{"rktKind":"auth","rktVersion":"v1","domains":["example.com"],"type":"oauth","credentials":{"token":"t"}}"#,
    );
    it.run("--trust-keys-from-https fetch example.com/app:1.0.0").expect_code(0);
    for asked in it.server.log() {
        let expected = (asked.host == "example.com" && asked.path != "/key.asc").then_some("Bearer t");
        assert_eq!(asked.header("authorization"), expected, "{}", asked.url());
    }
}

#[test]
fn a_signature_file_of_the_user_comes_first() {
    let it = Shop::new(1000, site);
    it.put("mine.asc", TestKey::new("other").sign(&it.goods.image));
    let ended = it.fetch("example.com/app:1.0.0 --signature=mine.asc");
    ended.expect_code(254);
    assert!(ended.stderr.contains("openpgp: signature made by unknown entity"), "{}", ended.stderr);
    it.put("mine.asc", &it.goods.signature);
    it.fetch("example.com/app:1.0.0 --signature=mine.asc").expect_code(0);
    assert!(it.server.log().iter().all(|asked| !asked.path.ends_with(".asc")));
}

#[test]
fn images_below_an_image_are_found_by_their_names_and_verified() {
    let base = Goods::new("example.com/base", 10);
    let members = r#"{"dependencies":[{"imageName":"example.com/base"}],"#;
    let text = crate::support::tar::manifest("example.com/app").replacen('{', members, 1);
    let top = crate::support::tar::Tar::default().manifest(&text).dir("rootfs").file("rootfs/top", "x").end();
    let key = TestKey::new("publisher of the top");
    let (signature, public) = (key.sign(&top), key.public());
    let served = std::sync::Arc::clone(&base);
    let it = Shop::new(10, move |asked, goods| match asked.path.as_str() {
        path if path.contains("/app-") && path.ends_with(".aci") => Some(Answer::ok(top.clone())),
        path if path.contains("/app-") => Some(Answer::ok(signature.clone())),
        path if path.contains("/base-") && path.ends_with(".aci") => Some(Answer::ok(served.image.clone())),
        path if path.contains("/base-") => Some(Answer::ok(served.signature.clone())),
        _ => site(asked, goods),
    });
    it.put(&format!("loc/trustedkeys/prefix.d/example.com/app/{}", key.fingerprint()), public);
    // The key of the image above is not that of the one below.
    let ended = it.fetch("example.com/app:1.0.0");
    ended.expect_code(254);
    assert!(
        ended.stderr.contains(
            "fetch: image \"example.com/base\" verification failed: openpgp: signature made by unknown"
        ),
        "{}",
        ended.stderr
    );
    it.trust(&base.key);
    it.fetch("example.com/app:1.0.0").expect_code(0);
    assert_eq!(it.names("image").len(), 2);
}
