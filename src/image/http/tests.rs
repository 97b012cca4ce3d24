use super::*;

#[test]
fn an_url_is_shown_without_a_password() {
    let url: Url = "https://user:secret@example.com:8443/x?y".parse().unwrap();
    assert_eq!(shown(&url), "https://example.com:8443/x?y");
    assert_eq!(authority(&url), "example.com:8443");
    assert_eq!(authority(&"https://example.com:443/".parse().unwrap()), "example.com");
}
