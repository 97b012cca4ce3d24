//! What a plugin says after it has added a pod, in the forms of all versions of CNI.
//!
//! Up to 0.2 it is `ip4` and `ip6`, from 0.3 on a list `ips` and `routes` (CNI specification, "Result"). What is said
//! comes to files and command lines of the pod, so that every value is parsed.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};

/// What rkt needs of a result, and the result itself for the next plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct AddResult {
    /// The pod's first IPv4 address in the network, and the length of the network's prefix.
    pub ip4: Option<(Ipv4Addr, u8)>,
    /// The resolver that the network brings, if it does.
    pub dns: Option<Dns>,
    /// All of it.
    pub raw: Value,
}

/// The resolver that a network brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers.
    pub nameservers: Vec<IpAddr>,
    /// The domain of short names.
    pub domain: Option<String>,
    /// Domains that short names are looked up in.
    pub search: Vec<String>,
    /// Options of resolv.conf(5).
    pub options: Vec<String>,
}

impl AddResult {
    /// Reads what a plugin wrote.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(said: &[u8]) -> Result<Self, String> {
        let raw: Value = serde_json::from_slice(said).map_err(|error| error.to_string())?;
        let Value::Object(object) = &raw else { return Err("it is no JSON object".into()) };
        let ip4 = match (object.get("ips"), object.get("ip4")) {
            (Some(ips), _) => first_ip4(ips)?,
            (None, Some(Value::Object(ip4))) => Some(ip4_address(ip4.get("ip"))?),
            (None, None | Some(Value::Null)) => None,
            (None, Some(_)) => return Err("\"ip4\" is no object".into()),
        };
        let dns = match object.get("dns") {
            None | Some(Value::Null) => None,
            Some(Value::Object(dns)) => Some(Dns::read(dns)?).filter(|dns| *dns != Dns::default()),
            Some(_) => return Err("\"dns\" is no object".into()),
        };
        Ok(Self { ip4, dns, raw })
    }

    /// The result in a form of 0.3 and later, for a plugin that knows no older one.
    pub fn modern(&self, if_name: &str, netns: &str) -> Value {
        let old = |key: &str| self.raw.get(key).and_then(Value::as_object);
        if old("ip4").or(old("ip6")).is_none() {
            return self.raw.clone();
        }
        let mut ips = Vec::new();
        let mut routes = Vec::new();
        for (key, version) in [("ip4", "4"), ("ip6", "6")] {
            let Some(part) = old(key) else { continue };
            let mut ip = json!({"version": version, "interface": 0, "address": part.get("ip")});
            if let Some(gateway) = part.get("gateway") {
                ip["gateway"] = gateway.clone();
            }
            ips.push(ip);
            routes.extend(part.get("routes").and_then(Value::as_array).into_iter().flatten().cloned());
        }
        json!({
            "cniVersion": MODERN_VERSION,
            "interfaces": [{"name": if_name, "sandbox": netns}],
            "ips": ips,
            "routes": routes,
            "dns": self.raw.get("dns").cloned().unwrap_or_else(|| json!({})),
        })
    }
}

/// The version of [`AddResult::modern`] for a result of an older one.
pub const MODERN_VERSION: &str = "0.4.0";

fn first_ip4(ips: &Value) -> Result<Option<(Ipv4Addr, u8)>, String> {
    let Value::Array(ips) = ips else { return Err("\"ips\" is no list".into()) };
    for ip in ips {
        let address = ip.get("address").and_then(Value::as_str).ok_or("one of \"ips\" has no \"address\"")?;
        if address.contains(':') {
            continue;
        }
        return parse_cidr(address).map(Some);
    }
    Ok(None)
}

fn ip4_address(ip: Option<&Value>) -> Result<(Ipv4Addr, u8), String> {
    parse_cidr(ip.and_then(Value::as_str).ok_or("\"ip4\" has no \"ip\"")?)
}

fn parse_cidr(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let bad = || format!("{text:?} is no IPv4 address with the length of a prefix");
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    match (address.parse(), prefix.parse()) {
        (Ok(address), Ok(prefix @ 0..=32)) => Ok((address, prefix)),
        _ => Err(bad()),
    }
}

impl Dns {
    fn read(object: &Map<String, Value>) -> Result<Self, String> {
        let nameservers = words(object, "nameservers")?
            .iter()
            .map(|text| text.parse().map_err(|_| format!("the name server {text:?} is no IP address")))
            .collect::<Result<_, _>>()?;
        let domain = match object.get("domain") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(value) => Some(word(value)?),
        };
        Ok(Self { nameservers, domain, search: words(object, "search")?, options: words(object, "options")? })
    }
}

fn words(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(word).collect(),
        Some(_) => Err(format!("{key:?} is no list")),
    }
}

/// A word of resolv.conf(5), in which a line end would begin a line of its own.
fn word(value: &Value) -> Result<String, String> {
    match value.as_str() {
        Some(text) if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) => Ok(text.to_owned()),
        _ => Err(format!("{value} is no word for a resolver")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_versions_are_understood() {
        let address = Some(("10.1.2.3".parse().unwrap(), 24));
        for (text, ip4) in [
            (
                r#"{"cniVersion":"0.1.0","ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1","routes":[{"dst":"0.0.0.0/0"}]},"dns":{}}"#,
                address,
            ),
            (r#"{"ip4":{"ip":"10.1.2.3/24"}}"#, address),
            (
                r#"{"cniVersion":"0.3.1","ips":[{"version":"6","address":"fd00::2/64"},{"version":"4","address":"10.1.2.3/24","interface":1}],"dns":null}"#,
                address,
            ),
            (
                r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"}],"routes":[]}"#,
                address,
            ),
            (r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}]}"#, None),
            ("{}", None),
        ] {
            let read = AddResult::parse(text.as_bytes()).unwrap();
            assert_eq!((read.ip4, read.dns), (ip4, None), "{text}");
        }
    }

    #[test]
    fn what_is_no_result_is_refused() {
        for (text, reason) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("ok", "expected value at line 1 column 1"),
            ("[]", "it is no JSON object"),
            (r#"{"ip4":1}"#, "\"ip4\" is no object"),
            (r#"{"ip4":{}}"#, "\"ip4\" has no \"ip\""),
            (r#"{"ip4":{"ip":"10.0.0.1"}}"#, "\"10.0.0.1\" is no IPv4 address with the length of a prefix"),
            (
                r#"{"ips":[{"address":"10.0.0.1/33"}]}"#,
                "\"10.0.0.1/33\" is no IPv4 address with the length of a prefix",
            ),
            (r#"{"ips":{}}"#, "\"ips\" is no list"),
            (r#"{"dns":{"nameservers":["x"]}}"#, "the name server \"x\" is no IP address"),
            (
                r#"{"dns":{"search":["a\nnameserver 6.6.6.6"]}}"#,
                r#""a\nnameserver 6.6.6.6" is no word for a resolver"#,
            ),
            (r#"{"dns":{"domain":"a b"}}"#, r#""a b" is no word for a resolver"#),
        ] {
            assert_eq!(AddResult::parse(text.as_bytes()).unwrap_err(), reason, "{text}");
        }
    }

    #[test]
    fn a_resolver_comes_along() {
        let text = r#"{"dns":{"nameservers":["10.0.0.1","fd00::1"],"domain":"a.example","search":["b.example"],"options":["ndots:2"]}}"#;
        assert_eq!(
            AddResult::parse(text.as_bytes()).unwrap().dns,
            Some(Dns {
                nameservers: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
                domain: Some("a.example".into()),
                search: vec!["b.example".into()],
                options: vec!["ndots:2".into()],
            })
        );
    }

    #[test]
    fn an_old_result_becomes_a_new_one_for_the_next_plugin() {
        let old = r#"{"ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00::2/64"},"dns":{}}"#;
        let new = AddResult::parse(old.as_bytes()).unwrap().modern("eth0", "/run/netns/x");
        assert_eq!(
            new,
            json!({
                "cniVersion": "0.4.0",
                "interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}],
                "ips": [
                    {"version": "4", "interface": 0, "address": "10.1.2.3/24", "gateway": "10.1.2.1"},
                    {"version": "6", "interface": 0, "address": "fd00::2/64"},
                ],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dns": {},
            })
        );
        let modern = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]});
        let read = AddResult::parse(modern.to_string().as_bytes()).unwrap();
        assert_eq!(read.modern("eth0", "/run/netns/x"), modern);
    }
}
