//! Tables of the kernel's packet filter, by netlink (netlink(7), `linux/netfilter/nf_tables.h`, nft(8)).
//!
//! A [`Transaction`] is made as a whole or not at all. It has the few words that rkt needs; what they mean is what nft(8)
//! shows of them.

use std::net::Ipv4Addr;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// The family `ip` of tables (`NFPROTO_IPV4`).
const FAMILY_IP: u8 = 2;

/// The part of netfilter that a message is for (`NFNL_SUBSYS_NFTABLES`).
const SUBSYSTEM: u16 = 10;

/// A message is an answer to another (`NLMSG_ERROR`); with the error 0 it says that all went well.
const ANSWER: u16 = 2;

/// Types of messages.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;

/// Flags of messages (`NLM_F_…`).
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// An attribute's value is attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;

/// The hook after routing (`NF_INET_POST_ROUTING`), and the place in it where sources are rewritten
/// (`NF_IP_PRI_NAT_SRC`, nft's `srcnat`).
const POST_ROUTING: u32 = 4;
const SOURCE_NAT: u32 = 100;

/// The register in which a rule has what it compares (`NFT_REG_1`).
const REGISTER: u32 = 1;

/// Which packets a part of a rule lets through to the next one. A network is one of its addresses and its mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Those that come from this network.
    From(Ipv4Addr, Ipv4Addr),
    /// Those that do not go to this network.
    NotTo(Ipv4Addr, Ipv4Addr),
}

/// Changes of one table that are made together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The attribute that names the table: in each message the same.
    table: Vec<u8>,
    /// Type, flags and attributes of each.
    messages: Vec<(u16, u16, Vec<u8>)>,
}

impl Transaction {
    /// Makes the table `ip NAME`.
    pub fn add_table(name: &str) -> Self {
        Self::of(name, NEW_TABLE, CREATE)
    }

    /// Removes the table `ip NAME` with all that is in it.
    pub fn delete_table(name: &str) -> Self {
        Self::of(name, DELETE_TABLE, 0)
    }

    fn of(name: &str, kind: u16, flags: u16) -> Self {
        let table = string(1, name);
        Self { messages: vec![(kind, flags, table.clone())], table }
    }

    /// Adds the chain `postrouting { type nat hook postrouting priority srcnat; }`.
    #[must_use]
    pub fn add_source_nat_chain(mut self) -> Self {
        let hook = [number(1, POST_ROUTING), number(2, SOURCE_NAT)].concat();
        let body =
            [self.table.clone(), string(3, "postrouting"), nested(4, &hook), string(7, "nat")].concat();
        self.messages.push((NEW_CHAIN, CREATE, body));
        self
    }

    /// Adds to that chain a rule by which packets that meet all of `matches` leave with the host's address.
    #[must_use]
    pub fn add_masquerade(mut self, matches: &[Match]) -> Self {
        let mut expressions: Vec<u8> = matches.iter().flat_map(|part| part.expressions()).collect();
        expressions.extend(expression("masq", &[]));
        let body = [self.table.clone(), string(2, "postrouting"), nested(4, &expressions)].concat();
        self.messages.push((NEW_RULE, CREATE | APPEND, body));
        self
    }

    /// Makes the changes in the network namespace of this thread.
    ///
    /// # Errors
    /// When the kernel refuses one of them; then none is made.
    pub fn commit(&self) -> Result<(), Errno> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
        // What is not bound and not connected speaks with the kernel, which has answered when this returns.
        send(&socket, &self.batch(), SendFlags::empty())?;
        let mut answer = [0; 64];
        // The first answer is that to the first change that failed, if there is one.
        let (read, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
        match outcome(&answer[..read]) {
            Some(0) => Ok(()),
            Some(number) => Err(Errno::from_raw_os_error(-number)),
            None => Err(Errno::PROTO),
        }
    }

    /// The changes as the kernel reads them; only the last asks for an answer when all is well.
    fn batch(&self) -> Vec<u8> {
        let mut bytes = message(BATCH_BEGIN, REQUEST, 0, SUBSYSTEM, &[]);
        for (index, (kind, flags, body)) in self.messages.iter().enumerate() {
            let answer = if index + 1 == self.messages.len() { ACKNOWLEDGE } else { 0 };
            bytes.extend(message(*kind, REQUEST | flags | answer, FAMILY_IP, 0, body));
        }
        bytes.extend(message(BATCH_END, REQUEST, 0, SUBSYSTEM, &[]));
        bytes
    }
}

impl Match {
    /// Loads an address of the packet, cuts it to the network, and compares.
    fn expressions(self) -> Vec<u8> {
        const NETWORK_HEADER: u32 = 1;
        const SOURCE: u32 = 12;
        const DESTINATION: u32 = 16;
        const LENGTH: u32 = 4;
        const EQUAL: u32 = 0;
        const NOT_EQUAL: u32 = 1;
        let (offset, comparison, address, mask) = match self {
            Self::From(address, mask) => (SOURCE, EQUAL, address, mask),
            Self::NotTo(address, mask) => (DESTINATION, NOT_EQUAL, address, mask),
        };
        let data = |value: Ipv4Addr| attribute(1, &value.octets());
        let load = [number(1, REGISTER), number(2, NETWORK_HEADER), number(3, offset), number(4, LENGTH)];
        let cut = [
            number(1, REGISTER),
            number(2, REGISTER),
            number(3, LENGTH),
            nested(4, &data(mask)),
            nested(5, &data(Ipv4Addr::UNSPECIFIED)),
        ];
        let compare = [number(1, REGISTER), number(2, comparison), nested(3, &data(address & mask))];
        [
            expression("payload", &load.concat()),
            expression("bitwise", &cut.concat()),
            expression("cmp", &compare.concat()),
        ]
        .concat()
    }
}

/// An element of a rule's list of expressions.
fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    nested(1, &[string(1, name), nested(2, data)].concat())
}

/// A header of netlink, one of netfilter, and attributes.
fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    const HEADERS: usize = 20;
    let length = u32::try_from(HEADERS + attributes.len()).expect("a message has a few hundred bytes");
    let mut bytes = Vec::with_capacity(HEADERS + attributes.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Number of the message and of the sender.
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    const HEADER: usize = 4;
    let length = u16::try_from(HEADER + value.len()).expect("an attribute has a few hundred bytes");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(HEADER), 0);
    bytes
}

fn nested(kind: u16, attributes: &[u8]) -> Vec<u8> {
    attribute(NESTED | kind, attributes)
}

fn string(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), b"\0"].concat())
}

/// Numbers of nf_tables have the network's order of bytes.
fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// The negative number of the error that an answer tells, or 0.
fn outcome(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == ANSWER && error <= 0).then_some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_ne_bytes([bytes[at], bytes[at + 1]])
    }

    /// Splits messages, or attributes, by the lengths that they begin with.
    fn parts(mut bytes: &[u8], length: fn(&[u8]) -> usize) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let length = length(bytes);
            parts.push(&bytes[..length]);
            bytes = &bytes[length.next_multiple_of(4)..];
        }
        parts
    }

    fn attributes(bytes: &[u8]) -> Vec<&[u8]> {
        parts(bytes, |bytes| number_at(bytes, 0).into())
    }

    #[test]
    fn every_length_in_a_batch_leads_to_the_next_part() {
        let host = Ipv4Addr::BROADCAST;
        let matches =
            [Match::From(Ipv4Addr::new(10, 1, 2, 3), host), Match::NotTo(Ipv4Addr::LOCALHOST, host)];
        let batch = Transaction::add_table("t").add_source_nat_chain().add_masquerade(&matches).batch();
        let messages =
            parts(&batch, |bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize);
        let kinds: Vec<u16> = messages.iter().map(|message| number_at(message, 4)).collect();
        assert_eq!(kinds, [BATCH_BEGIN, NEW_TABLE, NEW_CHAIN, NEW_RULE, BATCH_END]);
        let asked: Vec<u16> = messages.iter().map(|message| number_at(message, 6) & ACKNOWLEDGE).collect();
        assert_eq!(asked, [0, 0, 0, ACKNOWLEDGE, 0]);
        let of_the_rule = attributes(&messages[3][20..]);
        let expressions = attributes(&of_the_rule[2][4..]);
        let names: Vec<_> = expressions
            .iter()
            .map(|expression| String::from_utf8_lossy(&attributes(&expression[4..])[0][4..]).into_owned())
            .collect();
        assert_eq!(names.concat(), "payload\0bitwise\0cmp\0payload\0bitwise\0cmp\0masq\0");
    }

    #[test]
    fn an_answer_is_believed_only_when_it_is_one() {
        let answer = |kind: u16, error: i32| {
            let mut bytes = vec![0; 36];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..20].copy_from_slice(&error.to_ne_bytes());
            bytes
        };
        assert_eq!(outcome(&answer(ANSWER, 0)), Some(0));
        assert_eq!(outcome(&answer(ANSWER, -2)), Some(-2));
        assert_eq!(outcome(&answer(ANSWER, 2)), None);
        assert_eq!(outcome(&answer(NEW_TABLE, 0)), None);
        assert_eq!(outcome(&answer(ANSWER, 0)[..19]), None);
    }
}
