//! `rkt export`: what an app has left becomes an image, and a pod of that image has it (spec cli.md 1.2.11).

use std::path::Path;

use crate::host::Host;
use crate::pod::{Pods, said_by, shell_image};
use crate::support::Run;
use crate::support::aci::Aci;

/// What the app does to its root file system; everything of it must be there in the next pod.
const CHANGES: &str = "\
    echo changed > /srv/file && rm /srv/gone && rm -r /srv/dir && mkdir /srv/dir && echo new > /srv/dir/new && \
    ln /srv/file /srv/hard && ln -s ../etc/hostname /srv/link && mkdir -m 1777 /srv/own && chmod 4711 /srv/mode && \
    mknod -m 620 /srv/fifo p && touch -d @1000000000 /srv/file";

/// How the next pod looks at it.
const LOOK: &str = "\
    cat /srv/file; ls /srv /srv/dir; stat -c '%n %a %u %h %Y' /srv/file; stat -c '%n %a %F' /srv/own /srv/mode /srv/fifo; \
    ls -i /srv/file /srv/hard | tr -s ' ' | sed 's/ .*//' | uniq | grep -c .; cat /srv/link; cat /etc/hosts | head -n 1";

fn image() -> Aci {
    Aci::new("example.com/changing", &["/bin/sh"])
        .file("/srv/file", 0o640, "old")
        .file("/srv/gone", 0o644, "old")
        .file("/srv/dir/old", 0o644, "old")
        .file("/srv/mode", 0o755, "old")
}

fn shell(line: &str) -> [&str; 5] {
    ["--name=app", "--exec=/bin/sh", "--", "-c", line]
}

fn listed(aci: &Path) -> String {
    Run::new("tar").arg("--list").arg("--verbose").arg("--numeric-owner").arg("--file").arg(aci).stdout()
}

#[test]
fn what_an_app_changed_is_exported_and_runs_again() {
    let _host = Host::take();
    let pods = Pods::new();
    let file = image().write(pods.path());
    for roots in ["--no-overlay=false", "--no-overlay"] {
        let uuid_file = pods.path().join("uuid");
        let run = pods.run(roots).arg("--uuid-file-save").arg(&uuid_file).arg("--hostname=was").arg(&file);
        run.args(shell(CHANGES)).end().expect_code(0);
        let uuid = std::fs::read_to_string(&uuid_file).expect("the UUID file");
        let (one, two) = (pods.path().join("one.aci"), pods.path().join("two.aci"));
        for to in [&one, &two] {
            let _gone = std::fs::remove_file(to);
            let ended = pods.rkt("export").arg(&uuid).arg(to).end();
            ended.expect_code(0);
            assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""), "{roots}");
        }
        let (bytes, again) = (std::fs::read(&one).expect("an image"), std::fs::read(&two).expect("an image"));
        assert!(bytes == again, "{roots}: the same twice");
        assert_eq!(bytes[..2], [0x1f, 0x8b], "gzip");
        let list = listed(&one);
        for gone in ["srv/gone", "srv/dir/old", "c---------"] {
            assert!(!list.contains(gone), "{roots}: {gone} in {list}");
        }
        assert!(pods.rkt("list").stdout().contains("exited"), "{roots}: it is not held any more");

        let ended = pods.run("--hostname=next").arg(&one).args(shell(LOOK)).end();
        ended.expect_code(0);
        let hosts = "127.0.0.1 localhost localhost.domain localhost4 localhost4.localdomain4";
        assert_eq!(
            said_by(&ended.stdout, "app"),
            [
                "changed",
                "/srv:",
                "dir",
                "fifo",
                "file",
                "hard",
                "link",
                "mode",
                "own",
                "/srv/dir:",
                "new",
                "/srv/file 640 0 2 1000000000",
                "/srv/own 1777 directory",
                "/srv/mode 4711 regular file",
                "/srv/fifo 620 fifo",
                "1",
                // The pod's own, whatever the image has.
                "next",
                &format!("{hosts} was"),
            ],
            "{roots}"
        );
    }
}

#[test]
fn what_can_not_be_exported_says_why_and_leaves_nothing() {
    let _host = Host::take();
    let pods = Pods::new();
    let to = pods.path().join("out.aci");
    let export = |uuid: &str, flags: &[&str]| pods.rkt("export").args(flags).arg(uuid).arg(&to).end();
    let pod = pods.start_shell("", "exec sleep 1000");
    let exited = "export: pod is not exited. Only exited pods can be exported\n\
        export: hint: `rkt stop` ends a running pod\n";
    export(&pod.uuid, &[]).expect(254, "", exited);
    let prepared = pods.rkt("prepare").arg(shell_image()).stdout().trim().to_owned();
    export(&prepared, &[]).expect(254, "", exited);
    pods.rkt("stop").arg(&pod.uuid).end().expect_code(0);
    pods.rkt("status --wait=20s").arg(&pod.uuid).end().expect_code(0);
    export(&pod.uuid, &["--app=other"]).expect(
        254,
        "",
        "export: unable to find app: app other is not present in pod\n",
    );
    pods.rkt("export").args([&pod.uuid, "out.tar"]).end().expect(
        254,
        "",
        "export: extension must be .aci (given out.tar)\n",
    );
    assert!(!to.exists());
    std::fs::write(&to, "mine").expect("a file");
    export(&pod.uuid, &[]).expect(
        254,
        "",
        "export: error building aci: target file exists (try --overwrite)\n",
    );
    assert_eq!(std::fs::read_to_string(&to).expect("a file"), "mine");
    export(&pod.uuid, &["--overwrite", "--app=app"]).expect(0, "", "");
    let left: Vec<_> = std::fs::read_dir(pods.path()).expect("a directory").flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".tmp")), "{left:?}");

    let run = pods.run("").arg(shell_image()).args(["--name=one", "--exec=/bin/true"]);
    run.arg(shell_image()).args(["--name=two", "--exec=/bin/true"]).end().expect_code(0);
    let uuid = pods.uuids().into_iter().find(|uuid| *uuid != pod.uuid && *uuid != prepared).expect("a pod");
    export(&uuid, &["--overwrite"]).expect(
        254,
        "",
        "export: unable to find app: specify app using \"rkt export --app= ...\"\n\
         export: hint: the pod has the apps one, two\n",
    );
    export(&uuid, &["--overwrite", "--app=two"]).expect(0, "", "");
}

#[test]
fn capabilities_attributes_and_the_place_of_sockets_are_as_they_were() {
    let _host = Host::take();
    let pods = Pods::new();
    pods.run_shell("", "cp /bin/busybox /own").end().expect_code(0);
    let uuid = pods.only();
    let overlay = pods.data().join("pods/run").join(&uuid).join("overlay");
    let tree = std::fs::read_dir(overlay).expect("the pod's layers").flatten().next().expect("one").path();
    let upper = tree.join("upper/app");
    // CAP_NET_RAW, permitted and effective (capabilities(7), "VFS_CAP_REVISION_2").
    let mut capability = [0; 20];
    capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    capability[4..8].copy_from_slice(&(1_u32 << 13).to_le_bytes());
    let attributes: [(&str, &[u8]); 2] = [("security.capability", &capability), ("user.mine", b"1")];
    for (name, value) in attributes {
        rustix::fs::setxattr(upper.join("own"), name, value, rustix::fs::XattrFlags::empty()).expect(name);
    }
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("socket"), rustix::fs::FileType::Socket, mode, 0)
        .expect("a socket");
    let to = pods.path().join("out.aci");
    let notice = "export: 1 socket(s) left out, as nobody listens there any more\n";
    pods.rkt("export").arg(&uuid).arg(&to).end().expect(0, "", notice);
    let id = pods.rkt("fetch --full").arg(&to).stdout().trim().to_owned();
    let out = pods.path().join("out");
    pods.rkt("image extract --rootfs-only").arg(&id).arg(&out).end().expect_code(0);
    for (name, value) in attributes {
        let mut found = [0; 64];
        let length = rustix::fs::getxattr(out.join("own"), name, &mut found[..]).expect(name);
        assert_eq!(&found[..length], value, "{name}");
    }
    assert!(!out.join("socket").exists());
}
