//! Images for the tests, written here byte by byte: a busybox under the names of its applets, and a manifest.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::run::{Run, find_program};
use super::tar::{Member, Tar};

/// Applets that the tests' images have in /bin.
const APPLETS: [&str; 33] = [
    "busybox", "cat", "chmod", "dd", "echo", "env", "false", "grep", "head", "hostname", "id", "ifconfig",
    "kill", "ln", "ls", "mkdir", "mknod", "mount", "od", "printf", "ps", "pwd", "rm", "sh", "sleep", "stat",
    "stty", "tty", "touch", "tr", "true", "umount", "yes",
];

/// An image under construction: os and arch of this machine, version 1.0.0, user and group 0.
#[derive(Clone)]
pub(crate) struct Aci {
    manifest: Value,
    files: Vec<Member>,
    has_busybox: bool,
}

impl Aci {
    /// An image with the manifest's name `name` whose app executes `exec`.
    pub(crate) fn new(name: &str, exec: &[&str]) -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            other => other,
        };
        let manifest = json!({
            "acKind": "ImageManifest",
            "acVersion": "0.8.11",
            "name": name,
            "labels": [
                {"name": "version", "value": "1.0.0"},
                {"name": "os", "value": "linux"},
                {"name": "arch", "value": arch},
            ],
            "app": {"exec": exec, "user": "0", "group": "0"},
        });
        Self { manifest, files: Vec::new(), has_busybox: true }
    }

    /// Leaves out all files but those that are added.
    pub(crate) fn bare(mut self) -> Self {
        self.has_busybox = false;
        self
    }

    /// An image whose app is a line for a shell.
    pub(crate) fn shell(name: &str, line: &str) -> Self {
        Self::new(name, &["/bin/sh", "-c", line])
    }

    /// Sets a field of the manifest's app.
    pub(crate) fn app(mut self, field: &str, value: Value) -> Self {
        self.manifest["app"][field] = value;
        self
    }

    /// Sets a field of the manifest.
    pub(crate) fn field(mut self, field: &str, value: Value) -> Self {
        self.manifest[field] = value;
        self
    }

    /// Adds a file to the root file system.
    pub(crate) fn file(mut self, path: &str, mode: u32, data: impl AsRef<[u8]>) -> Self {
        let mut member = Member::new(format!("rootfs{path}"), b'0');
        member.mode = mode;
        member.data = data.as_ref().to_vec();
        self.files.push(member);
        self
    }

    /// Adds a file that belongs to a user and a group.
    pub(crate) fn file_of(mut self, path: &str, (uid, gid): (u64, u64)) -> Self {
        let mut member = Member::new(format!("rootfs{path}"), b'0');
        member.uid = super::tar::octal(uid, 8);
        member.gid = super::tar::octal(gid, 8);
        self.files.push(member);
        self
    }

    /// Adds a directory that belongs to a user and a group.
    pub(crate) fn directory_of(mut self, path: &str, mode: u32, (uid, gid): (u64, u64)) -> Self {
        let mut member = Member::new(format!("rootfs{path}"), b'5');
        member.mode = mode;
        member.uid = super::tar::octal(uid, 8);
        member.gid = super::tar::octal(gid, 8);
        self.files.push(member);
        self
    }

    /// Adds a symbolic link.
    pub(crate) fn link(mut self, path: &str, target: &str) -> Self {
        let mut member = Member::new(format!("rootfs{path}"), b'2');
        member.link = target.into();
        self.files.push(member);
        self
    }

    /// Adds a program of this machine and the libraries that ldd(1) names for it.
    pub(crate) fn host_program(mut self, program: &str) -> Self {
        let libraries = Run::new("ldd").arg(program).stdout();
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths.chain([program]) {
            let data = std::fs::read(path).unwrap_or_else(|cause| panic!("{path}: {cause}"));
            self = self.file(path, 0o755, data);
        }
        self
    }

    /// The archive.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let tar = Tar::default().manifest(&self.manifest.to_string()).dir("rootfs");
        let tar = if self.has_busybox { Self::with_busybox(tar) } else { tar };
        self.files.iter().fold(tar, |tar, file| tar.member(file)).end()
    }

    fn with_busybox(mut tar: Tar) -> Tar {
        for name in ["bin", "etc", "proc", "sys", "dev", "run", "tmp", "root"] {
            tar = tar.dir(format!("rootfs/{name}"));
        }
        let busybox = find_program("busybox").expect("busybox is installed (package busybox-static)");
        let mut program = Member::new("rootfs/bin/busybox", b'0');
        program.mode = 0o755;
        program.data = std::fs::read(busybox).expect("a readable busybox");
        tar = tar.member(&program);
        for applet in &APPLETS[1..] {
            tar = tar.symlink(format!("rootfs/bin/{applet}"), "busybox");
        }
        tar.file("rootfs/etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:/bin/sh\n")
            .file("rootfs/etc/group", "root:x:0:\nwww:x:44:\nlog:x:55:web\n")
    }

    /// Writes the archive to `NAME.aci` in `dir`, with the last part of the image's name.
    pub(crate) fn write(&self, dir: &Path) -> PathBuf {
        let name = self.manifest["name"].as_str().unwrap_or("image");
        let path = dir.join(format!("{}.aci", name.rsplit('/').next().unwrap_or(name)));
        std::fs::write(&path, self.bytes()).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
        path
    }
}
