//! A system bus that is not one: enough of the D-Bus protocol to answer what rkt asks first (D-Bus Specification,
//! "Authentication Protocol" and "Message Protocol").

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Serves one client at `path` from a thread of its own: every call but Hello is answered with the text `answer` in a
/// variant, as Properties.Get does.
pub(crate) fn serve(path: &Path, answer: &'static str) {
    let listener = UnixListener::bind(path).expect("a socket in a new directory");
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        // The end of the client ends this, too.
        let _gone = talk(stream, answer);
    });
}

fn talk(stream: UnixStream, answer: &str) -> std::io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        input.read_until(b'\n', &mut line)?;
        let line = String::from_utf8_lossy(&line).trim_matches(['\0', '\r', '\n']).to_owned();
        match line.split(' ').next().unwrap_or_default() {
            "AUTH" => output.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")?,
            "NEGOTIATE_UNIX_FD" => output.write_all(b"AGREE_UNIX_FD\r\n")?,
            "BEGIN" => break,
            _ => return Ok(()),
        }
    }
    loop {
        let mut head = [0; 16];
        input.read_exact(&mut head)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (body, serial, fields) = (number(4), number(8), number(12));
        let mut rest = vec![0; fields.next_multiple_of(8) as usize + body as usize];
        input.read_exact(&mut rest)?;
        let is_hello = rest.windows(5).any(|window| window == b"Hello");
        let (signature, body) = if is_hello { ("s", text(":1.1")) } else { ("v", variant(answer)) };
        output.write_all(&reply(serial, signature, &body))?;
    }
}

/// A method's return: little-endian, version 1, with the fields REPLY_SERIAL, SENDER and SIGNATURE.
fn reply(to: u32, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = vec![5, 1, b'u', 0];
    fields.extend(to.to_le_bytes());
    fields.extend([7, 1, b's', 0]);
    fields.extend(text("org.freedesktop.DBus"));
    fields.resize(fields.len().next_multiple_of(8), 0);
    fields.extend([8, 1, b'g', 0, signature.len() as u8]);
    fields.extend(signature.bytes());
    fields.push(0);
    let mut message = vec![b'l', 2, 1, 1];
    message.extend((body.len() as u32).to_le_bytes());
    message.extend((to + 1000).to_le_bytes());
    message.extend((fields.len() as u32).to_le_bytes());
    message.extend(&fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text.bytes());
    bytes.push(0);
    bytes
}

fn variant(value: &str) -> Vec<u8> {
    let mut bytes = vec![1, b's', 0, 0];
    bytes.extend(text(value));
    bytes
}
