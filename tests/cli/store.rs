//! `fetch` of files and `image …` with the whole of what they say (spec cli.md 1.3), and the store when things go wrong.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use crate::hostile::noise;
use crate::support::names;
use crate::support::tar::{Member, Tar, manifest, octal};
use crate::support::{Run, wait};
use crate::world::World;

/// A world with the images `one.aci`, plain, and `two.aci`, packed, and what they print as IDs.
struct Shop {
    world: World,
    one: String,
    two: String,
}

const FETCH: &str = "--dir=data --insecure-options=image fetch";

impl Shop {
    fn new() -> Self {
        let world = World::new();
        let one = Tar::aci("example.com/one").file("rootfs/bin/one", vec![1; 5000]).end();
        let text = manifest("example.com/two").replace("1.0.0", "2");
        let two = Tar::default().manifest(&text).dir("rootfs").file("rootfs/two", vec![2; 100_000]).end();
        fs::write(world.path().join("one.aci"), one).unwrap();
        fs::write(world.path().join("two.aci"), gzip(&two)).unwrap();
        let fetched = world.run(&format!("{FETCH} --full one.aci two.aci"));
        fetched.expect(0, &fetched.stdout, "");
        let mut ids = fetched.stdout.lines().map(str::to_owned);
        let (one, two) = (ids.next().unwrap(), ids.next().unwrap());
        assert_eq!((one.len(), two.len(), ids.next()), (71, 71, None));
        Self { world, one, two }
    }

    fn names(&self, dir: &str) -> Vec<String> {
        names(&self.world.path().join("data/cas").join(dir))
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

#[test]
fn fetch_prints_ids_in_the_order_of_its_arguments() {
    let it = Shop::new();
    let short = format!("{}\n{}\n", &it.two[..39], &it.one[..39]);
    it.world.run(&format!("{FETCH} two.aci ./one.aci")).expect(0, &short, "");
    it.world.run(&format!("{FETCH} {} --full", &it.one[..20])).expect_code(0);
    let file = format!("file://{}/one.aci", it.world.path().display());
    it.world.run(&format!("{FETCH} --full {file}")).expect(0, &format!("{}\n", it.one), "");
    it.world.run("--dir=data --insecure-options=image image fetch one.aci").expect_code(0);
    assert_eq!(it.names("image").len(), 2);
    assert_eq!(it.names("tmp"), [""; 0]);
}

#[test]
fn what_cannot_be_fetched_says_why_and_what_to_do() {
    let world = World::new();
    fs::write(world.path().join("x.aci"), Tar::aci("example.com/x").end()).unwrap();
    let at = world.path().display();
    world.run("--dir=data fetch x.aci").expect(
        254,
        "",
        &format!(
            "fetch: error opening signature file: opening {at}/x.aci.asc: No such file or directory\n\
             fetch: hint: name the signature's file with --signature, or, if you trust the image, skip the check with \
             --insecure-options=image\n"
        ),
    );
    for (words, error) in [
        ("no.aci", format!("error opening ACI file: opening {at}/no.aci: No such file or directory\n")),
        ("/", "error opening ACI file: opening /: Not a regular file\n".to_owned()),
        ("file:///x", "invalid image string \"file:///x\"\nfetch: hint: the path of a file:// or http(s):// reference must end in .aci\n".to_owned()),
        ("docker://Busybox", "invalid docker URL \"docker://Busybox\"; expected syntax is docker://[REGISTRY_HOST[:REGISTRY_PORT]/]IMAGE_NAME[:TAG|@DIGEST]\n".to_owned()),
        ("https://example.com:x/y.aci", "invalid image string \"https://example.com:x/y.aci\": invalid port number\n".to_owned()),
        (
            "sha512-0000",
            "no image IDs found\nfetch: hint: `rkt image list` shows the images that are there\n".to_owned(),
        ),
        ("example.com/a:1:2", "malformed app string - colon may appear at most once\n".to_owned()),
    ] {
        world.run(&format!("{FETCH} {words}")).expect(254, "", &format!("fetch: {error}"));
    }
    world.run(&format!("{FETCH} --pull-policy=never docker://busybox")).expect(
        254,
        "",
        "fetch: unable to fetch docker image from URL \"docker://busybox\": it is not in the store, and the pull policy \
         is `never`\n",
    );
    world.run(&format!("{FETCH} --pull-policy=never https://example.com/x.aci")).expect(
        254,
        "",
        "fetch: unable to fetch image from URL \"https://example.com/x.aci\": it is not in the store, and the pull policy \
         is `never`\n",
    );
    world.run(&format!("{FETCH} --pull-policy=never example.com/none")).expect(
        254,
        "",
        "fetch: unable to fetch image from image name \"example.com/none\": it is not in the store, and the pull \
         policy is `never`\n",
    );
    let image = |problem: &str| format!("fetch: image {at}/bad.aci: {problem}\n");
    let whole = gzip(&Tar::aci("example.com/x").file("rootfs/f", noise(1_000_000)).end());
    for (bytes, error) in [
        (Vec::new(), image("the file is empty")),
        (b"GIF89a".to_vec(), image("neither a tar archive nor one packed with gzip, bzip2, xz or zstd")),
        (
            whole[..whole.len() / 2].to_vec(),
            image("unpacking gzip data: incomplete deflate stream (in entry \"rootfs/f\")"),
        ),
        (Tar::default().file("rootfs/f", "").end(), image("it is no image: it has no file `manifest`")),
        (Tar::default().manifest("{}").end(), image("it is no image: it has no directory `rootfs`")),
        (
            Tar::default().dir("rootfs").manifest(&manifest("Bad Name")).end(),
            image(
                "manifest: name: \"Bad Name\" is not an AC identifier: only lower-case letters, digits and the \
                 characters \"-._~/\" are allowed",
            ),
        ),
    ] {
        fs::write(world.path().join("bad.aci"), bytes).unwrap();
        world.run(&format!("{FETCH} bad.aci")).expect(254, "", &error);
    }
    for dir in ["image", "tmp", "tree"] {
        assert_eq!(names(&world.path().join("data/cas").join(dir)), [""; 0], "{dir}");
    }
    // The next command works.
    world.run(&format!("{FETCH} x.aci")).expect_code(0);
}

#[test]
fn image_list_is_a_table_or_json() {
    let world = World::new();
    world.run("--dir=none image list").expect(0, "ID\tNAME\tSIZE\tIMPORT TIME\tLAST USED\n", "");
    world.run("--dir=none image list --no-legend").expect(0, "\n", "");
    world.run("--dir=none image list --format=json").expect(0, "null\n", "");
    assert!(!world.path().join("none").exists(), "a look makes nothing");

    let it = Shop::new();
    let fields = "image list --fields=name,id,size --sort=name";
    let (one, two) = (&it.one[..19], &it.two[..19]);
    it.world.run(&format!("--dir=data {fields}")).expect(
        0,
        &format!(
            "NAME\t\t\tID\t\t\tSIZE\nexample.com/one:1.0.0\t{one}\t13KiB\nexample.com/two:2\t{two}\t199KiB\n"
        ),
        "",
    );
    it.world.run(&format!("--dir=data {fields} --order=desc --full --no-legend")).expect(
        0,
        &format!(
            "example.com/two:2\t{}\t{}\nexample.com/one:1.0.0\t{}\t{}\n",
            it.two,
            103_424 + 100_000,
            it.one,
            8192 + 5000
        ),
        "",
    );
    let json = it.world.run("--dir=data image list --format=json --sort=size").stdout;
    assert!(
        json.starts_with(&format!(r#"[{{"id":"{}","name":"example.com/one:1.0.0","import_time":"#, it.one))
    );
    for (flag, reason) in [
        ("--fields=id,bogus", "unknown option \"bogus\""),
        ("--fields=id,id", "duplicated option \"id\""),
        ("--sort=id", "unknown option \"id\""),
        ("--order=up", "wrong sort order"),
        ("--format=xml", "Invalid format option: xml"),
    ] {
        let ended = it.world.run(&format!("--dir=data image list {flag}"));
        ended.expect_code(254);
        assert!(ended.stderr.lines().next().unwrap().ends_with(reason), "{}", ended.stderr);
    }
}

#[test]
fn one_broken_image_hides_no_other() {
    let it = Shop::new();
    let image = it.world.path().join("data/cas/image").join(&it.two);
    fs::write(image.join("manifest"), "{").unwrap();
    let ended = it.world.run("--dir=data image list --fields=id --no-legend");
    let problem = ended.stderr.lines().nth(2).unwrap().to_owned();
    assert!(problem.starts_with(&format!("list: image {}: manifest: ", it.two)), "{problem}");
    let rule = "list: ----------------------------------------\n";
    let block = format!(
        "list: 1 error(s) encountered when listing images:\n{rule}{problem}\n{rule}list: misc:\n\
         list:   rkt's appc version: 0.8.11\nlist: \n"
    );
    ended.expect(0, &format!("{}\n", &it.one[..19]), &block);
    // It can be removed by its ID, or repaired.
    it.world.run(&format!("{FETCH} two.aci")).expect_code(0);
    assert_eq!(it.world.run("--dir=data image list --fields=id --no-legend").stderr, "");
}

#[test]
fn image_rm_removes_what_it_finds() {
    let it = Shop::new();
    let said = |id: &str| format!("successfully removed aci for image: \"{id}\"\n");
    it.world.run(&format!("--dir=data image rm nope {} example.com/one", &it.one[..15])).expect(
        0,
        &said(&it.one),
        "rm: cannot find image: cannot find aci satisfying name: nope and labels: [] in the local store\n\
         rm: hint: `rkt image list` shows the images that are there\n\
         rm: 1 image(s) successfully removed\n",
    );
    it.world.run(&format!("--dir=data image rm {} {}", it.two, it.two)).expect(
        0,
        &said(&it.two),
        "rm: 1 image(s) successfully removed\n",
    );
    it.world.run("--dir=data image rm").expect(254, "", "rm: must provide at least one image ID\n");
    assert_eq!((it.names("image").len(), it.names("tmp").len()), (0, 0));
    assert_eq!(it.names("tree").len(), 2, "trees are for gc");
}

#[test]
fn image_gc_takes_trees_at_once_and_images_after_the_grace_period() {
    let it = Shop::new();
    let trees = it.names("tree");
    let removed: String = trees.iter().map(|tree| format!("gc: removed treestore \"{tree}\"\n")).collect();
    it.world.run("--dir=data image gc").expect(0, "", &removed);
    it.world.run("--dir=data image gc").expect(0, "", "");
    let mut ids = [&it.one, &it.two];
    ids.sort();
    let said: String = ids.map(|id| format!("successfully removed aci for image: \"{id}\"\n")).concat();
    it.world.run("--dir=data image gc --grace-period=0s").expect(
        0,
        &said,
        "gc: 2 image(s) successfully removed\n",
    );
    it.world.run("--dir=data image gc --grace-period=0s").expect(0, "", "");
    assert_eq!((it.names("image").len(), it.names("tree").len(), it.names("tmp").len()), (0, 0, 0));
}

#[test]
fn image_cat_manifest_prints_json() {
    let it = Shop::new();
    let compact = manifest("example.com/one");
    it.world.run("--dir=data image cat-manifest --pretty-print=false example.com/one:1.0.0").expect(
        0,
        &format!("{compact}\n"),
        "",
    );
    let pretty = it.world.run(&format!("--dir=data image cat-manifest {}", it.one)).stdout;
    assert!(pretty.starts_with("{\n\t\"acKind\": \"ImageManifest\",\n"), "{pretty}");
    it.world.run("--dir=data image cat-manifest sha512-0").expect(
        254,
        "",
        "cat-manifest: cannot resolve image ID: image ID too short\n\
         cat-manifest: hint: give at least two hexadecimal digits after `sha512-`\n",
    );
    it.world.run("--dir=data image cat-manifest example.com/one,version=7").expect(
        254,
        "",
        "cat-manifest: cannot find image: cannot find aci satisfying name: example.com/one and labels: [version=7] in \
         the local store\n\
         cat-manifest: hint: `rkt image list` shows the images that are there\n",
    );
    for arguments in ["", "a b"] {
        let ended = it.world.run(&format!("--dir=data image cat-manifest {arguments}"));
        ended.expect(254, &ended.stdout, "");
        assert!(ended.stdout.starts_with("USAGE:\n"), "{}", ended.stdout);
    }
}

#[test]
fn image_export_writes_the_bytes_that_were_hashed() {
    let it = Shop::new();
    it.world.run("--dir=data image export example.com/one out.aci").expect(0, "", "");
    let out = it.world.path().join("out.aci");
    assert_eq!(fs::read(&out).unwrap(), fs::read(it.world.path().join("one.aci")).unwrap());
    let exists = "export: output ACI file exists (try --overwrite)\n";
    it.world.run("--dir=data image export example.com/two out.aci").expect(254, "", exists);
    it.world.run("--dir=data image export --overwrite example.com/two out.aci").expect(0, "", "");
    it.world.run(&format!("{FETCH} --full out.aci")).expect(0, &format!("{}\n", it.two), "");
}

#[test]
fn image_extract_and_render_make_a_directory() {
    let it = Shop::new();
    for command in ["extract", "render"] {
        it.world.run(&format!("--dir=data image {command} example.com/one {command}")).expect(0, "", "");
        let dir = it.world.path().join(command);
        assert_eq!(names(&dir), ["manifest", "rootfs"]);
        assert_eq!(fs::read(dir.join("rootfs/bin/one")).unwrap(), [1; 5000]);
        let exists = format!("{command}: output directory exists (try --overwrite)\n");
        it.world
            .run(&format!("--dir=data image {command} example.com/one {command}"))
            .expect(254, "", &exists);
        it.world
            .run(&format!("--dir=data image {command} --overwrite --rootfs-only example.com/two {command}"))
            .expect(0, "", "");
        assert_eq!(names(&dir), ["two"]);
        let root = format!("{command}: this would delete your root filesystem. Refusing.\n");
        it.world
            .run(&format!("--dir=data image {command} --overwrite example.com/two /"))
            .expect(254, "", &root);
    }
}

#[test]
fn a_damaged_blob_is_named_and_a_fetch_repairs_it() {
    let it = Shop::new();
    let blob = it.world.path().join("data/cas/image").join(&it.one).join("blob");
    let mut bytes = fs::read(&blob).unwrap();
    let data = bytes.iter().rposition(|byte| *byte == 1).unwrap();
    bytes[data] = 9;
    fs::write(&blob, bytes).unwrap();
    let ended = it.world.run("--dir=data image extract example.com/one out");
    let start = "extract: error extracting image: image hash does not match expected (sha512-";
    assert!(ended.stderr.starts_with(start), "{}", ended.stderr);
    let hint = format!(
        " != {0})\nextract: hint: fetch the image again, which repairs it, or remove it with `rkt image rm {0}`\n",
        it.one
    );
    assert!(ended.stderr.ends_with(&hint), "{}", ended.stderr);
    assert!(!it.world.path().join("out").exists());
    it.world.run(&format!("{FETCH} one.aci")).expect_code(0);
    it.world.run("--dir=data image extract example.com/one out").expect(0, "", "");
}

#[test]
fn thirty_two_fetches_of_one_image_at_once_all_succeed() {
    let world = World::new();
    fs::write(
        world.path().join("x.aci"),
        gzip(&Tar::aci("example.com/x").file("rootfs/f", vec![3; 300_000]).end()),
    )
    .unwrap();
    let running: Vec<_> = (0..32).map(|_| world.rkt(&format!("{FETCH} x.aci")).start()).collect();
    let mut printed: Vec<_> = running
        .into_iter()
        .map(|running| {
            let ended = running.end();
            ended.expect(0, &ended.stdout, "");
            ended.stdout
        })
        .collect();
    printed.dedup();
    assert_eq!(printed.len(), 1);
    let cas = world.path().join("data/cas");
    for (dir, count) in [("image", 1), ("tree", 1), ("tmp", 0)] {
        assert_eq!(names(&cas.join(dir)).len(), count, "{dir}");
    }
}

#[test]
fn a_killed_fetch_leaves_nothing_listed_and_the_next_one_cleans_up() {
    let world = World::new();
    let fifo = world.path().join("slow.aci");
    // A file that ends before its archive keeps nothing waiting; so the kill comes when the tree is being written.
    let big = Tar::aci("example.com/big").file("rootfs/f", vec![5; 200 << 20]).end();
    fs::write(&fifo, big).unwrap();
    let running = world.rkt(&format!("{FETCH} slow.aci")).start();
    let trees = world.path().join("data/cas/tree");
    wait::until("a tree that was begun", || match fs::read_dir(&trees).map(Iterator::count) {
        Ok(0) => Err("no tree"),
        Ok(_) => Ok(()),
        Err(_) => Err("no store"),
    });
    running.signal(rustix::process::Signal::KILL);
    running.end();
    let cas = world.path().join("data/cas");
    world.run("--dir=data image list --format=json").expect(0, "null\n", "");
    fs::write(world.path().join("small.aci"), Tar::aci("example.com/small").end()).unwrap();
    world.run(&format!("{FETCH} small.aci")).expect_code(0);
    assert_eq!((names(&cas.join("tmp")).len(), names(&cas.join("tree")).len()), (0, 1));
    world.run(&format!("{FETCH} slow.aci")).expect_code(0);
}

#[test]
fn memory_does_not_grow_with_the_image() {
    let world = World::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zeros = Member::new("rootfs/zeros", b'0');
    zeros.size = Some(octal(300 << 20, 12));
    packed.write_all(&Tar::aci("example.com/zeros").member(&zeros).0).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), (300 << 20) + 1024), &mut packed).unwrap();
    fs::write(world.path().join("zeros.aci"), packed.finish().unwrap()).unwrap();
    // RLIMIT_DATA counts every private page that can be written, in KiB.
    let limited = Run::new("bash")
        .args(["-c", "ulimit -d 65536 && exec \"$@\"", "bash", env!("CARGO_BIN_EXE_rkt")])
        .args(format!("{FETCH} zeros.aci").split(' '))
        .env_clear()
        .current_dir(world.path())
        .end();
    limited.expect(0, &limited.stdout, "");
    world.run("--dir=data image rm example.com/zeros").expect_code(0);
}

/// A file system of a few megabytes, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf) -> Self {
        assert!(rustix::process::geteuid().is_root(), "only root can mount: sudo -E cargo test --test cli");
        fs::create_dir(&path).unwrap();
        rustix::mount::mount("tmpfs", &path, "tmpfs", rustix::mount::MountFlags::empty(), c"size=4m")
            .unwrap();
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_named_and_what_was_begun_is_removed() {
    let world = World::new();
    let disk = SmallDisk::new(world.path().join("data"));
    let big = gzip(&Tar::aci("example.com/big").file("rootfs/big", vec![1; 8 << 20]).end());
    fs::write(world.path().join("big.aci"), big).unwrap();
    let ended = world.run(&format!("{FETCH} big.aci"));
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!((ended.code(), lines.len()), (254, 2), "{}", ended.stderr);
    let at = world.path().display();
    assert!(lines[0].starts_with(&format!("fetch: image {at}/big.aci: writing {at}/data/cas/tree/.tmp-")));
    assert!(lines[0].ends_with("/rootfs/big: No space left on device"), "{}", lines[0]);
    assert_eq!(
        lines[1],
        "fetch: hint: free some space, for example with `rkt gc --grace-period=0s` and `rkt image gc`"
    );
    for dir in ["image", "tmp", "tree"] {
        assert_eq!(names(&disk.0.join("cas").join(dir)), [""; 0], "{dir}");
    }
    // On a disk that others have filled, collecting still works.
    fs::write(world.path().join("small.aci"), Tar::aci("example.com/small").end()).unwrap();
    world.run(&format!("{FETCH} small.aci")).expect_code(0);
    let mut filler = fs::File::create(disk.0.join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    world.run("--dir=data image gc --grace-period=0s").expect_code(0);
    world.run("--dir=data image list --format=json").expect(0, "null\n", "");
}

#[test]
fn a_read_only_store_is_read_and_writers_say_why() {
    let it = Shop::new();
    let data = it.world.path().join("data");
    rustix::mount::mount_bind(&data, &data).unwrap();
    let flags = rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY;
    rustix::mount::mount_remount(&data, flags, "").unwrap();
    let list = it.world.run("--dir=data image list --fields=id --no-legend");
    let fetch = it.world.run(&format!("{FETCH} one.aci"));
    rustix::mount::unmount(&data, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!((list.code(), list.stdout.lines().count()), (0, 2));
    let lines: Vec<_> = fetch.stderr.lines().collect();
    assert!(lines[0].ends_with(": Read-only file system"), "{}", fetch.stderr);
    assert_eq!(
        lines[1],
        "fetch: hint: remount the file system read-write, or choose another data directory with --dir"
    );
    assert_eq!((fetch.code(), lines.len()), (254, 2));
}

#[test]
fn who_is_not_root_imports_into_a_store_of_their_own_without_trees() {
    let world = World::new();
    let mut closed = Member::new("rootfs/closed", b'5');
    closed.mode = 0o555;
    closed.uid = octal(0, 8);
    let archive = Tar::aci("example.com/x").member(&closed).file("rootfs/closed/f", "x").end();
    fs::write(world.path().join("x.aci"), archive).unwrap();
    fs::create_dir(world.path().join("mine")).unwrap();
    std::os::unix::fs::chown(world.path().join("mine"), Some(65_534), Some(65_534)).unwrap();
    let fetch = "--dir=mine/data --insecure-options=image fetch x.aci";
    let ended = world.run_as_nobody(fetch);
    ended.expect(0, &ended.stdout, "");
    let cas = world.path().join("mine/data/cas");
    assert_eq!((names(&cas.join("image")).len(), names(&cas.join("tree")).len()), (1, 0));
    world.run_as_nobody("--dir=mine/data image list --no-legend --fields=name").expect(
        0,
        "example.com/x:1.0.0\n",
        "",
    );
    world.run_as_nobody("--dir=mine/data image extract example.com/x mine/out").expect(0, "", "");
    assert_eq!(fs::read(world.path().join("mine/out/rootfs/closed/f")).unwrap(), b"x");
    world.run_as_nobody("--dir=mine/data image gc --grace-period=0s").expect_code(0);
    world.run_as_nobody("--dir=data fetch x.aci").expect(
        254,
        "",
        &format!(
            "fetch: cannot open store: creating {}/data: Permission denied\n\
             fetch: hint: only root and members of the group rkt may write to the store\n",
            world.path().display()
        ),
    );
}

#[test]
fn what_gnu_tar_writes_is_read_as_gnu_tar_reads_it() {
    let world = World::new();
    let tree = world.path().join("tree");
    let deep = format!("rootfs/{}", "directory-with-a-long-name/".repeat(8));
    fs::create_dir_all(tree.join(&deep)).unwrap();
    fs::write(tree.join("manifest"), manifest("example.com/gnu")).unwrap();
    fs::write(tree.join("rootfs/file"), noise(70_000)).unwrap();
    fs::write(tree.join("rootfs/empty"), "").unwrap();
    fs::hard_link(tree.join("rootfs/file"), tree.join("rootfs/hard")).unwrap();
    std::os::unix::fs::symlink("../../somewhere", tree.join("rootfs/link")).unwrap();
    let run =
        |program: &str, words: &[&str]| Run::new(program).args(words).current_dir(world.path()).stdout();
    run("mkfifo", &["-m", "620", "tree/rootfs/fifo"]);
    run("chmod", &["4711", "tree/rootfs/file"]);
    run("chmod", &["1777", "tree/rootfs"]);
    run("chown", &["12345:54321", "tree/rootfs/empty"]);
    run("touch", &["-h", "-d", "2001-02-03 04:05:06.789", "tree/rootfs/link", "tree/rootfs/empty"]);
    for (format, is_long) in
        [("v7", false), ("ustar", false), ("oldgnu", true), ("gnu", true), ("posix", true)]
    {
        if is_long {
            fs::write(tree.join(&deep).join("x".repeat(200)), "long").unwrap();
            let sparse = fs::File::create(tree.join("rootfs/sparse")).unwrap();
            for part in 0..40 {
                std::os::unix::fs::FileExt::write_at(&sparse, &[1; 4096], part << 20).unwrap();
            }
            sparse.set_len(50 << 20).unwrap();
        } else {
            // Names that an old header can hold, and no FIFO, which v7 does not know.
            fs::remove_dir_all(tree.join("rootfs/directory-with-a-long-name")).unwrap();
            fs::create_dir_all(tree.join(&deep)).unwrap();
        }
        let mut words = vec!["--numeric-owner", "--format", format, "-cf", "gnu.aci", "-C", "tree"];
        if is_long {
            words.push("--sparse");
        }
        if format == "v7" {
            words.extend(["--exclude=fifo", "--exclude=directory-with*"]);
        }
        words.extend(["manifest", "rootfs"]);
        run("tar", &words);
        world.run(&format!("{FETCH} gnu.aci")).expect_code(0);
        world.run("--dir=data image extract --overwrite example.com/gnu out").expect(0, "", "");
        // Compares content, mode, owner, times, links and holes' bytes, and fails on a difference.
        run("tar", &["--numeric-owner", "-df", "gnu.aci", "-C", "out", "rootfs"]);
        let out = world.path().join("out/rootfs");
        assert_eq!(
            std::os::unix::fs::MetadataExt::nlink(&out.join("hard").metadata().unwrap()),
            2,
            "{format}"
        );
        if is_long {
            let blocks = std::os::unix::fs::MetadataExt::blocks(&out.join("sparse").metadata().unwrap());
            assert!(blocks < 2000, "{format}: holes stay holes: {blocks}");
        }
        world.run("--dir=data image rm example.com/gnu").expect_code(0);
    }
}

#[test]
fn an_interrupted_fetch_cleans_up_and_dies_of_the_signal() {
    use rustix::process::Signal;
    use std::os::unix::process::ExitStatusExt as _;
    let world = World::new();
    fs::write(
        world.path().join("big.aci"),
        Tar::aci("example.com/big").file("rootfs/f", vec![5; 200 << 20]).end(),
    )
    .unwrap();
    let cas = world.path().join("data/cas");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let running = world.rkt(&format!("{FETCH} big.aci")).start();
        wait::until("a tree that was begun", || match fs::read_dir(cas.join("tree")).map(Iterator::count) {
            Ok(0) => Err("no tree"),
            Ok(_) => Ok(()),
            Err(_) => Err("no store"),
        });
        running.signal(signal);
        let ended = running.end();
        assert_eq!(
            (ended.status.signal(), ended.stdout.as_str()),
            (Some(signal.as_raw()), ""),
            "{}",
            ended.stderr
        );
        for dir in ["image", "tmp", "tree"] {
            assert_eq!(names(&cas.join(dir)), [""; 0], "{dir}");
        }
    }
}
