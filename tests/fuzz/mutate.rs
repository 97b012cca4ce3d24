//! Random numbers, and changes of bytes that know nothing of their meaning.

/// A source of random numbers (splitmix64); the seed decides all of them.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, and 0 if that is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).expect("a length");
        usize::try_from(self.next() % limit).expect("it is below a length")
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.below(list.len())]
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    /// A place in `length` bytes and what follows it, mostly short.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = if self.one_in(4) { length - start } else { (length - start).min(16) };
        start..start + self.below(longest + 1)
    }
}

/// Numbers at which something ends.
const EDGES: [&str; 14] = [
    "0",
    "1",
    "-1",
    "007",
    "65535",
    "65536",
    "4294967294",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e3",
    "99999999999999999999999999",
];

/// Bytes that mean something somewhere.
const BYTES: &[u8] = b"\0\n\r\t\x1b\x7f\xff\x80 \"'\\/.:,;=-_~%@{}[]<>!&#?*+09azAZ";

/// Changes `input` in a few places; `other` and `words` are what is put in.
pub(crate) fn bytes(rng: &mut Rng, input: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=rng.below(4) {
        step(rng, &mut bytes, other, words);
    }
    bytes
}

fn step(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    let at = rng.below(bytes.len());
    match rng.below(12) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
        1 if !bytes.is_empty() => bytes[at] = rng.byte(),
        2 if !bytes.is_empty() => bytes[at] = *rng.pick(BYTES),
        3 => bytes.insert(at, *rng.pick(BYTES)),
        4 => {
            let word = rng.pick(words).bytes();
            bytes.splice(at..at, word);
        }
        5 => {
            let range = rng.range(bytes.len());
            let word = rng.pick(words).bytes();
            bytes.splice(range, word);
        }
        6 => drop(bytes.drain(rng.range(bytes.len()))),
        7 => {
            let copied = bytes[rng.range(bytes.len())].to_vec();
            let times = if rng.one_in(20) { 1 + rng.below(300) } else { 1 };
            bytes.splice(at..at, copied.repeat(times));
        }
        8 => {
            let copied = other[rng.range(other.len())].to_vec();
            let range = rng.range(bytes.len());
            bytes.splice(range, copied);
        }
        9 => {
            // The next number becomes another.
            let is_digit = |byte: &u8| byte.is_ascii_digit();
            if let Some(start) = bytes[at..].iter().position(is_digit).map(|found| at + found) {
                let length = bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
                bytes.splice(start..start + length, rng.pick(&EDGES).bytes());
            }
        }
        10 if rng.one_in(4) => bytes.truncate(at),
        _ => {
            let (first, second) = (rng.below(bytes.len()), rng.below(bytes.len()));
            if !bytes.is_empty() {
                bytes.swap(first, second);
            }
        }
    }
}
