//! Requests signed for S3: AWS signature version 4 (docs.aws.amazon.com, "Authenticating Requests: Using the Authorization
//! Header"), for requests without a body.

use std::time::SystemTime;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use url::Url;

use super::authority;

/// SHA-256 of nothing.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Who signs.
pub(super) struct Key<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
    /// Empty if it follows from the host.
    pub(super) region: &'a str,
}

/// Adds the headers of a signed request.
pub(super) fn sign(headers: &mut HeaderMap, method: &str, url: &Url, key: &Key<'_>, now: SystemTime) {
    let time = match jiff::Timestamp::try_from(now) {
        Ok(now) => now.strftime("%Y%m%dT%H%M%SZ").to_string(),
        // No server takes a request from beyond the calendar.
        Err(_) => return,
    };
    let day = &time[..8];
    let region = if key.region.is_empty() {
        region(url.host_str().unwrap_or_default())
    } else {
        key.region.to_owned()
    };
    let scope = format!("{day}/{region}/s3/aws4_request");
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let request = format!(
        "{method}\n{}\n{}\nhost:{}\nx-amz-content-sha256:{NO_BODY}\nx-amz-date:{time}\n\n{signed}\n{NO_BODY}",
        url.path(),
        query(url),
        authority(url),
    );
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let mut secret = hmac(format!("AWS4{}", key.secret).as_bytes(), day.as_bytes());
    for part in [region.as_str(), "s3", "aws4_request", &text] {
        secret = hmac(&secret, part.as_bytes());
    }
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={signed},Signature={}",
        key.id,
        hex(&secret)
    );
    for (name, value) in [
        (AUTHORIZATION, value.as_str()),
        (HeaderName::from_static("x-amz-content-sha256"), NO_BODY),
        (HeaderName::from_static("x-amz-date"), &time),
    ] {
        // A key ID that is no header is of no use to the server.
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(name == AUTHORIZATION);
            headers.insert(name, value);
        }
    }
}

/// The region that a host of S3 belongs to (spec config.md 5.3.1).
fn region(host: &str) -> String {
    const DEFAULT: &str = "us-east-1";
    let Some(rest) = host.strip_suffix(".amazonaws.com") else { return DEFAULT.to_owned() };
    let last = rest.rsplit('.').next().unwrap_or_default();
    if last == "s3-external-1" {
        return DEFAULT.to_owned();
    }
    if let Some(region) = last.strip_prefix("s3-") {
        return region.to_owned();
    }
    // Only with a bucket in front.
    match rest.rsplitn(3, '.').collect::<Vec<_>>()[..] {
        [region, "s3", bucket] if !bucket.is_empty() => region.to_owned(),
        _ => DEFAULT.to_owned(),
    }
}

/// The parameters in the order of their names, each with a value.
fn query(url: &Url) -> String {
    let mut pairs: Vec<String> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// RFC 2104 with SHA-256.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_the_rfc() {
        // RFC 4231, test cases 2 and 6.
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn a_request_is_signed_as_in_amazons_example() {
        // "Example: GET Bucket Lifecycle" of the page named above.
        let url: Url = "https://examplebucket.s3.amazonaws.com/?lifecycle".parse().unwrap();
        let key = Key {
            id: "AKIAIOSFODNN7EXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
        };
        let now = super::super::retry::http_date("Fri, 24 May 2013 00:00:00 GMT").unwrap();
        let mut headers = HeaderMap::new();
        sign(&mut headers, "GET", &url, &key, now);
        assert_eq!(
            headers[AUTHORIZATION].to_str().unwrap(),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
             Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(headers["x-amz-date"], "20130524T000000Z");
    }

    #[test]
    fn the_region_follows_from_the_host() {
        for (host, expected) in [
            ("s3.amazonaws.com", "us-east-1"),
            ("s3-external-1.amazonaws.com", "us-east-1"),
            ("bucket.s3-external-1.amazonaws.com", "us-east-1"),
            ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
            ("bucket.s3-eu-west-1.amazonaws.com", "eu-west-1"),
            ("a.b.s3.eu-central-1.amazonaws.com", "eu-central-1"),
            ("s3.eu-central-1.amazonaws.com", "us-east-1"),
            ("bucket.s3.amazonaws.com", "us-east-1"),
            ("example.com", "us-east-1"),
        ] {
            assert_eq!(region(host), expected, "{host}");
        }
    }
}
