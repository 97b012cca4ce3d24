//! A tar writer that can lie: every header field is a public value, nothing is checked, checksums come out right.

/// One header block and what follows it.
#[derive(Clone)]
pub struct Member {
    pub name: Vec<u8>,
    pub typeflag: u8,
    pub mode: u32,
    pub uid: Vec<u8>,
    pub gid: Vec<u8>,
    pub mtime: Vec<u8>,
    /// The size field, if it is not the length of the data.
    pub size: Option<Vec<u8>>,
    pub link: Vec<u8>,
    pub device: (u32, u32),
    pub data: Vec<u8>,
    /// Bytes of the header that are written over at the end, before the checksum.
    pub patches: Vec<(usize, Vec<u8>)>,
}

/// An octal field of `width` bytes with its NUL.
pub fn octal(value: u64, width: usize) -> Vec<u8> {
    format!("{value:0digits$o}\0", digits = width - 1).into_bytes()
}

impl Member {
    pub fn new(name: impl AsRef<[u8]>, typeflag: u8) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            typeflag,
            mode: if typeflag == b'5' { 0o755 } else { 0o644 },
            uid: octal(0, 8),
            gid: octal(0, 8),
            mtime: octal(1_000_000_000, 12),
            size: None,
            link: Vec::new(),
            device: (0, 0),
            data: Vec::new(),
            patches: Vec::new(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, &octal(self.mode.into(), 8));
        put(108, &self.uid);
        put(116, &self.gid);
        put(124, &self.size.clone().unwrap_or_else(|| octal(self.data.len() as u64, 12)));
        put(136, &self.mtime);
        put(156, &[self.typeflag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, &octal(self.device.0.into(), 8));
        put(337, &octal(self.device.1.into(), 8));
        for (at, bytes) in &self.patches {
            put(*at, bytes);
        }
        put(148, b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = block.to_vec();
        bytes.extend(&self.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// An archive under construction.
#[derive(Default, Clone)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    /// An image with a valid manifest and an empty `rootfs`.
    pub fn aci(name: &str) -> Self {
        Self::default().manifest(&manifest(name)).dir("rootfs")
    }

    pub fn member(mut self, member: &Member) -> Self {
        self.0.extend(member.bytes());
        self
    }

    /// Adds a member with a name of any length, by PAX.
    fn any(self, mut member: Member) -> Self {
        let mut records: Vec<(&str, Vec<u8>)> = Vec::new();
        if member.name.len() > 100 {
            records.push(("path", std::mem::replace(&mut member.name, b"long".to_vec())));
        }
        if member.link.len() > 100 {
            records.push(("linkpath", std::mem::replace(&mut member.link, b"long".to_vec())));
        }
        let tar = if records.is_empty() { self } else { self.pax(&records) };
        tar.member(&member)
    }

    pub fn manifest(self, text: &str) -> Self {
        self.file("manifest", text)
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        let mut member = Member::new(name, b'0');
        member.data = data.as_ref().to_vec();
        self.any(member)
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.any(Member::new(name, b'5'))
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let mut member = Member::new(name, b'2');
        member.link = target.as_ref().to_vec();
        self.any(member)
    }

    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let mut member = Member::new(name, b'1');
        member.link = target.as_ref().to_vec();
        self.any(member)
    }

    /// Adds a PAX header for the next member.
    pub fn pax(self, records: &[(&str, Vec<u8>)]) -> Self {
        let mut member = Member::new("pax", b'x');
        member.data = pax_records(records);
        self.member(&member)
    }

    /// The finished archive.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// PAX records with right lengths.
pub fn pax_records(records: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let body = 1 + key.len() + 1 + value.len() + 1;
        let mut length = body + 1;
        while body + length.to_string().len() != length {
            length = body + length.to_string().len();
        }
        bytes.extend(format!("{length} {key}=").bytes());
        bytes.extend(value);
        bytes.push(b'\n');
    }
    bytes
}

/// A manifest of an app that runs `/bin/true`.
pub fn manifest(name: &str) -> String {
    format!(
        concat!(
            r#"{{"acKind":"ImageManifest","acVersion":"0.8.11","name":"{}","labels":"#,
            r#"[{{"name":"version","value":"1.0.0"}},{{"name":"os","value":"linux"}},{{"name":"arch","value":"amd64"}}],"#,
            r#""app":{{"exec":["/bin/true"],"user":"0","group":"0"}}}}"#
        ),
        name
    )
}
