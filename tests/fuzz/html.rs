//! A second reading of a web page's head, straight from the HTML standard (13.2.5, 13.2.6.4.4), for comparison.
//!
//! It reads as a browser with scripting does. It does not decode character references, and gives up where a template
//! holds elements that change how text is read (SVG, MathML, select).

/// What a page has in its head.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// The `name` and `content` of each `meta` that has both.
    pub(crate) metas: Vec<(String, String)>,
    /// Nothing but the elements of a usual head is there.
    pub(crate) is_plain: bool,
    /// There is something that this reading does not understand.
    pub(crate) is_unsure: bool,
    /// What was there, in a word or letter each.
    pub(crate) way: String,
}

enum Token {
    /// Whether there is more than white space.
    Text(bool),
    Start(Tag),
    End(Tag),
    /// A comment, a doctype, or what counts as one.
    Comment,
}

struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
    is_self_closing: bool,
}

/// Reads the head of a page.
pub(crate) fn head(page: &str) -> Head {
    let text = page.replace("\r\n", "\n").replace('\r', "\n");
    let mut scanner = Scanner { text: &text, at: 0 };
    let mut head = Head { is_plain: true, ..Head::default() };
    let mut templates = 0_usize;
    while let Some(token) = scanner.token() {
        let goes_on = match token {
            Token::Comment => {
                head.way.push('c');
                true
            }
            Token::Text(is_text) => {
                head.way.push(if is_text { 't' } else { 's' });
                !is_text || templates > 0
            }
            Token::Start(tag) => {
                head.is_plain &=
                    !tag.is_self_closing || matches!(tag.name.as_str(), "meta" | "link" | "base");
                start(&mut scanner, &mut head, &mut templates, &tag)
            }
            Token::End(tag) => {
                head.way.push('/');
                match tag.name.as_str() {
                    "template" => {
                        templates = templates.saturating_sub(1);
                        true
                    }
                    "head" | "body" | "html" | "br" => templates > 0,
                    _ => true,
                }
            }
        };
        if !goes_on || head.is_unsure {
            break;
        }
    }
    head.way.truncate(12);
    head
}

/// Tells whether the head goes on after a start tag.
fn start(scanner: &mut Scanner<'_>, head: &mut Head, templates: &mut usize, tag: &Tag) -> bool {
    head.is_plain &= matches!(
        tag.name.as_str(),
        "html" | "head" | "base" | "link" | "meta" | "title" | "style" | "script"
    ) || *templates == 0 && !is_of_the_head(&tag.name);
    head.way.push(tag.name.chars().next().unwrap_or('?'));
    match tag.name.as_str() {
        "title" | "style" | "noscript" | "noframes" => scanner.skip_text_of(&tag.name),
        "textarea" | "xmp" | "iframe" | "noembed" if *templates > 0 => scanner.skip_text_of(&tag.name),
        "script" => scanner.skip_script(),
        "plaintext" => scanner.at = scanner.text.len(),
        "svg" | "math" | "select" if *templates > 0 => head.is_unsure = true,
        "template" => *templates += 1,
        "meta" if *templates == 0 => {
            let attribute = |name: &str| {
                tag.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
            };
            head.metas.extend(attribute("name").zip(attribute("content")));
        }
        _ => {}
    }
    *templates > 0 || is_of_the_head(&tag.name)
}

fn is_of_the_head(name: &str) -> bool {
    matches!(
        name,
        "html"
            | "head"
            | "base"
            | "basefont"
            | "bgsound"
            | "link"
            | "meta"
            | "title"
            | "noframes"
            | "style"
            | "noscript"
            | "script"
            | "template"
    )
}

struct Scanner<'p> {
    text: &'p str,
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn token(&mut self) -> Option<Token> {
        let rest = self.rest();
        if rest.is_empty() {
            return None;
        }
        if let Some(text) = rest.strip_prefix('<') {
            let is_letter = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
            if let Some(comment) = text.strip_prefix("!--") {
                let length = comment_length(comment)?;
                self.at += "<!--".len() + length;
                return Some(Token::Comment);
            }
            if is_letter(text) {
                self.at += 1;
                return self.tag().map(Token::Start);
            }
            if let Some(end) = text.strip_prefix('/') {
                if is_letter(end) {
                    self.at += 2;
                    return self.tag().map(Token::End);
                }
                if end.is_empty() {
                    self.at += 2;
                    return Some(Token::Text(true));
                }
            }
            if text.starts_with(['!', '?', '/']) {
                self.at += 1 + text.find('>')? + 1;
                return Some(Token::Comment);
            }
        }
        let behind = &rest.as_bytes()[1..];
        let length = 1 + behind.iter().position(|byte| *byte == b'<').unwrap_or(behind.len());
        let is_text = rest.bytes().take(length).any(|byte| !is_space(byte));
        self.at += length;
        Some(Token::Text(is_text))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take_until(&mut self, ends: impl Fn(u8) -> bool) -> String {
        let bytes = &self.text.as_bytes()[self.at..];
        let length = bytes.iter().position(|byte| ends(*byte)).unwrap_or(bytes.len());
        let taken = self.text[self.at..self.at + length].to_owned();
        self.at += length;
        taken
    }

    /// A tag from its name on; `None` if the page ends in it.
    fn tag(&mut self) -> Option<Tag> {
        let ends_name = |byte: u8| is_space(byte) || matches!(byte, b'/' | b'>');
        let name = self.take_until(ends_name).to_ascii_lowercase();
        let mut attributes: Vec<(String, String)> = Vec::new();
        loop {
            self.take_until(|byte| !is_space(byte));
            match self.peek()? {
                b'>' => {
                    self.at += 1;
                    return Some(Tag { name, attributes, is_self_closing: false });
                }
                b'/' => {
                    self.at += 1;
                    if self.peek()? == b'>' {
                        self.at += 1;
                        return Some(Tag { name, attributes, is_self_closing: true });
                    }
                }
                _ => {
                    let (name, value) = self.attribute()?;
                    if !attributes.iter().any(|(found, _)| *found == name) {
                        attributes.push((name, value));
                    }
                }
            }
        }
    }

    fn attribute(&mut self) -> Option<(String, String)> {
        let begin = self.at;
        if self.peek()? == b'=' {
            self.at += 1;
        }
        self.take_until(|byte| is_space(byte) || matches!(byte, b'/' | b'>' | b'='));
        let name = self.text[begin..self.at].to_ascii_lowercase();
        self.take_until(|byte| !is_space(byte));
        if self.peek()? != b'=' {
            return Some((name, String::new()));
        }
        self.at += 1;
        self.take_until(|byte| !is_space(byte));
        let value = match self.peek()? {
            quote @ (b'"' | b'\'') => {
                self.at += 1;
                let value = self.take_until(|byte| byte == quote);
                self.peek()?;
                self.at += 1;
                value
            }
            b'>' => String::new(),
            _ => self.take_until(|byte| is_space(byte) || byte == b'>'),
        };
        Some((name, value))
    }

    /// Where the end tag `name` begins, from `from` on.
    fn is_end_tag(&self, at: usize, name: &str) -> bool {
        let bytes = &self.text.as_bytes()[at..];
        bytes.starts_with(b"</")
            && bytes[2..].get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
            && bytes.get(2 + name.len()).is_some_and(|byte| is_space(*byte) || matches!(byte, b'/' | b'>'))
    }

    /// Goes to the end tag of an element that holds text only (RCDATA and RAWTEXT).
    fn skip_text_of(&mut self, name: &str) {
        let end = self.text.len();
        self.at = (self.at..end).find(|at| self.is_end_tag(*at, name)).unwrap_or(end);
    }

    /// Goes to the end tag of a script (13.2.5.4 and 13.2.5.15 to 13.2.5.31).
    fn skip_script(&mut self) {
        #[derive(PartialEq)]
        enum State {
            Plain,
            Escaped,
            DoubleEscaped,
        }
        let mut state = State::Plain;
        while self.at < self.text.len() {
            let bytes = &self.text.as_bytes()[self.at..];
            let is_script = |from: usize| {
                let letters = bytes[from..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
                bytes[from..from + letters].eq_ignore_ascii_case(b"script")
                    && bytes
                        .get(from + letters)
                        .is_some_and(|byte| is_space(*byte) || matches!(byte, b'/' | b'>'))
            };
            if state != State::DoubleEscaped && self.is_end_tag(self.at, "script") {
                return;
            }
            if state == State::Plain && bytes.starts_with(b"<!--") {
                state = State::Escaped;
                // Its dashes may be those that end it, too.
                self.at += 2;
                continue;
            }
            if state != State::Plain && bytes.starts_with(b"-->") {
                state = State::Plain;
                self.at += 3;
                continue;
            }
            if state == State::Escaped && bytes[0] == b'<' && is_script(1) {
                state = State::DoubleEscaped;
            } else if state == State::DoubleEscaped && bytes.starts_with(b"</") && is_script(2) {
                state = State::Escaped;
            }
            self.at += 1;
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\x0c' | b' ')
}

/// The length of a comment behind its `<!--`, with its end; `None` if it has none.
fn comment_length(comment: &str) -> Option<usize> {
    if comment.starts_with('>') {
        return Some(1);
    }
    if comment.starts_with("->") {
        return Some(2);
    }
    let usual = comment.find("-->").map(|at| at + 3);
    let with_bang = comment.find("--!>").map(|at| at + 4);
    usual.into_iter().chain(with_bang).min()
}
