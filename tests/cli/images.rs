//! The grammar of images, and the flags of pods (spec cli.md 1.2.1, 1.2.2, 1.3.1).

use crate::world::{RUN, World, usage};

#[test]
fn words_about_images_that_mean_nothing_are_told() {
    let world = World::new();
    for (line, error) in [
        ("-- x", "an image is required before any app arguments"),
        ("a -- b --- -- c", "only one set of app arguments allowed per image"),
        ("--exec=/x a", r#"invalid argument "/x" for --exec=/x: --exec must follow an image"#),
        (
            "a --exec /x --exec /y",
            r#"invalid argument "/y" for --exec=/y: --exec specified multiple times for the same image"#,
        ),
        ("a --bogus", "unknown flag: --bogus"),
        ("a --name", "flag needs an argument: --name"),
        ("a --no-overlay=x", r#"invalid argument "x" for --no-overlay=x: must be true or false"#),
        (
            "a --environment=x",
            r#"invalid argument "x" for --environment=x: invalid format of --environment flag "x""#,
        ),
        (
            "a --name=A",
            "invalid argument \"A\" for --name=A: \"A\" is not an AC name: \
             only lower-case letters, digits and \"-\" are allowed",
        ),
        (
            "a --memory=4095",
            "invalid argument \"4095\" for --memory=4095: \
             memory limit of 4095 bytes too low. Try a reasonable value, such as --memory=16M",
        ),
        (
            "--memory=16m a",
            "invalid argument \"16m\" for --memory=16m: \
             memory limit of 1 bytes too low. Try a reasonable value, such as --memory=16M",
        ),
    ] {
        for command in ["run", "prepare"] {
            let expected = format!("{command}: error parsing app image arguments: {error}\n");
            world.run(&format!("{command} {line}")).expect(254, "", &expected);
        }
    }
}

#[test]
fn a_bad_flag_before_the_images_gives_the_usage() {
    let world = World::new();
    for (line, error) in [
        ("--bogus a", "unknown flag: --bogus"),
        (
            "--port=x a",
            r#"invalid argument "x" for --port=x: "x" is not in name:[ip:]port format, such as http:8080 or http:127.0.0.1:8080; the name is that of a port of an image"#,
        ),
        ("--set-env=A a", r#"invalid argument "A" for --set-env=A: must be specified as key=value"#),
        ("--set-env=A=1 --set-env=A=2 a", r#"invalid argument "A=2" for --set-env=A=2: key "A" already set"#),
        ("--net= a", r#"invalid argument "" for --net=: netname must not be empty"#),
        ("--net=x,x a", r#"invalid argument "x,x" for --net=x,x: found duplicate netname "x""#),
        ("--net=x --net=x a", r#"invalid argument "x,x" for --net=x,x: found duplicate netname "x""#),
        (
            "--volume=a,kind=host,source=x a",
            "invalid argument \"a,kind=host,source=x\" for --volume=a,kind=host,source=x: \
             invalid value in --volume flag \"a,kind=host,source=x\": \
             source for host volume must be absolute path; a volume looks like NAME,kind=host,source=/PATH,readOnly=true \
             or NAME,kind=empty,mode=0755",
        ),
        (
            "--volume=data,kind=host a",
            "invalid argument \"data,kind=host\" for --volume=data,kind=host: \
             invalid value in --volume flag \"data,kind=host\": source for host volume cannot be empty; \
             a volume looks like NAME,kind=host,source=/PATH,readOnly=true or NAME,kind=empty,mode=0755",
        ),
        (
            "--volume=data,kind=empty,source=/x a",
            "invalid argument \"data,kind=empty,source=/x\" for --volume=data,kind=empty,source=/x: \
             invalid value in --volume flag \"data,kind=empty,source=/x\": source for empty volume must be empty",
        ),
        (
            "--stage1-path=a --stage1-url=b c",
            "invalid argument \"b\" for --stage1-url=b: \
             flags --stage1-path and --stage1-url are mutually exclusive",
        ),
        (
            "--stage1-path=a --stage1-path=b c",
            r#"invalid argument "b" for --stage1-path=b: --stage1-path already used"#,
        ),
    ] {
        world.run(&format!("run {line}")).expect(254, "", &format!("Error: {error}\n{}", usage(RUN)));
    }
}

#[test]
fn a_mount_without_a_volume_or_a_target_is_told() {
    let world = World::new();
    let volume = "--volume=data,kind=empty";
    for (line, error) in [
        (
            format!("{volume} a --mount=volume=logs,target=/l"),
            "dangling mount point \"/l\": volume \"logs\" not found\n\
             COMMAND: hint: define it with --volume logs,kind=host,source=/PATH",
        ),
        (
            "--mount=volume=logs,target=/l a".to_owned(),
            "dangling mount point \"/l\": volume \"logs\" not found\n\
             COMMAND: hint: define it with --volume logs,kind=host,source=/PATH",
        ),
        (
            format!("{volume} a --mount=volume=data"),
            "invalid argument \"volume=data\" for --mount=volume=data: target must be set; \
             a mount looks like volume=NAME,target=PATH",
        ),
    ] {
        for command in ["run", "prepare"] {
            let error = error.replace("COMMAND", command);
            let expected = format!("{command}: error parsing app image arguments: {error}\n");
            world.run(&format!("{command} {line}")).expect(254, "", &expected);
        }
    }
}

#[test]
fn arguments_of_an_image_are_taken_literally() {
    let world = World::new();
    // The error of the word behind `---` shows that everything before it was passed over.
    let error = "run: error parsing app image arguments: unknown flag: --bogus\n";
    world.run("run a -- --exec --bogus -- --help -h -x --- --bogus").expect(254, "", error);
}

#[test]
fn an_image_is_needed() {
    let world = World::new();
    for command in ["run", "prepare"] {
        let error = format!("{command}: must provide at least one image or specify the pod manifest\n");
        world.run(command).expect(254, "", &error);
        world.rkt(command).args(["", "---"]).end().expect(254, "", &error);
    }
    world.run("fetch").expect(254, "", "fetch: must provide at least one image\n");
}

#[test]
fn fetch_knows_only_signatures() {
    let world = World::new();
    for (line, error) in [
        ("fetch a -- b", "unable to parse arguments: app arguments unsupported"),
        ("fetch a --exec=/x", "unable to parse arguments: unknown flag: --exec"),
        (
            "--dir=data fetch a.aci --signature=/no/x",
            "error opening signature file: opening /no/x: No such file or directory\nfetch: hint: name the signature's \
             file with --signature, or, if you trust the image, skip the check with --insecure-options=image",
        ),
    ] {
        world.run(line).expect(254, "", &format!("fetch: {error}\n"));
    }
}
