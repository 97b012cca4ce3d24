//! `acbuild dependency`, `isolator`, `set-event-handler` and `replace-manifest` (spec build-tools.md 6.3).

use serde_json::{Value, json};

use crate::acbuild::Site;

/// The dependencies of the image.
fn dependencies(site: &Site) -> Value {
    site.manifest()["dependencies"].clone()
}

fn app(site: &Site, member: &str) -> Value {
    site.manifest()["app"][member].clone()
}

#[test]
fn a_dependency_is_added_replaced_and_removed() {
    let site = Site::begun();
    let id = format!("sha512-{}", "0a".repeat(32));
    site.ok("dependency add example.com/base:1.0,os=linux");
    site.ok("dependency add example.com/other --label arch=amd64 --size 7");
    let base = json!({"imageName": "example.com/base", "labels": [
        {"name": "version", "value": "1.0"}, {"name": "os", "value": "linux"},
    ]});
    let other =
        json!({"imageName": "example.com/other", "labels": [{"name": "arch", "value": "amd64"}], "size": 7});
    assert_eq!(dependencies(&site), json!([base, other]));
    site.ok(&format!("dependency add --image-id={id} example.com/base"));
    assert_eq!(dependencies(&site), json!([other, {"imageName": "example.com/base", "imageID": id}]));
    let history = "acbuild dependency add \"example.com/base:1.0,os=linux\"";
    assert_eq!(site.manifest()["annotations"][0]["value"], history);
    site.ok("dependency rm example.com/other");
    site.run("dependency remove example.com/other").expect(
        2,
        "",
        "dependency remove: element to be removed does not exist in this ACI\n",
    );
    for (line, error) in [
        ("example.com/x --label os", "no '=' character in \"os\""),
        ("example.com/x --label os=linux --label os=linux", "multiple os labels specified"),
        ("example.com/x:1 --label version=2", "multiple version labels specified"),
        (
            "example.com/x --image-id sha512-0",
            "couldn't parse image ID: \"sha512-0\" is not an image ID: 64 to 128 digits must follow \"sha512-\"",
        ),
        ("a:1:2", "couldn't parse dependency name: malformed app string - colon may appear at most once"),
    ] {
        site.fails(&format!("dependency add {line}"), &format!("dependency add: {error}\n"));
    }
    assert_eq!(dependencies(&site), json!([{"imageName": "example.com/base", "imageID": id}]));
}

#[test]
fn an_isolator_is_added_replaced_and_removed() {
    let site = Site::begun();
    site.file("limit.json", r#"{"request": "16Mi", "limit": "64Mi"}"#);
    site.ok("isolator add resource/memory limit.json");
    let memory = app(&site, "isolators")[0].clone();
    assert_eq!((&memory["name"], &memory["value"]["limit"]), (&json!("resource/memory"), &json!("64Mi")));
    assert_eq!(app(&site, "user"), "0", "an app is made for it");
    site.acbuild("isolator add os/linux/no-new-privileges -").input("true").end().expect(0, "", "");
    site.file("limit.json", r#"{"limit": "32Mi"}"#);
    site.ok("isolator add resource/memory limit.json");
    let names: Vec<_> = app(&site, "isolators")
        .as_array()
        .expect("a list")
        .iter()
        .map(|isolator| isolator["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(names, ["os/linux/no-new-privileges", "resource/memory"]);
    assert_eq!(app(&site, "isolators")[1]["value"]["limit"], "32Mi");
    site.ok("isolator rm resource/memory");
    site.fails(
        "isolator remove resource/memory",
        "isolator remove: element to be removed does not exist in this ACI\n",
    );
    site.file("twice.json", r#"{"limit": "1", "limit": "2"}"#);
    site.file("no.json", "true");
    for (line, error) in [
        ("resource/disk limit.json", "unknown isolator name: resource/disk"),
        ("resource/memory none.json", "opening none.json: No such file or directory"),
        ("resource/memory .", "reading .: Is a directory"),
        ("resource/memory twice.json", "twice.json: "),
        ("resource/memory no.json", "isolator resource/memory: "),
    ] {
        let ended = site.run(&format!("isolator add {line}"));
        assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{line}");
        assert!(ended.stderr.starts_with(&format!("isolator add: {error}")), "{}", ended.stderr);
    }
}

#[test]
fn event_handlers_are_set_one_for_each_event() {
    let site = Site::begun();
    site.ok("set-event-handler pre-start /bin/a");
    site.ok("set-eh post-stop -- /bin/b -x --y");
    site.ok("set-event-handler pre-start -- /bin/c -z");
    assert_eq!(
        app(&site, "eventHandlers"),
        json!([{"name": "pre-start", "exec": ["/bin/c", "-z"]}, {"name": "post-stop", "exec": ["/bin/b", "-x", "--y"]}])
    );
    site.run("set-event-handler later /x").expect_code(3);
    site.run("set-event-handler pre-start").expect_code(1);
}

#[test]
fn a_manifest_is_replaced_whole_or_not_at_all() {
    let site = Site::begun();
    site.ok("set-exec /bin/x");
    site.ok("label add version 1");
    let new = json!({"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/new"});
    site.file("new.json", &new.to_string());
    site.ok("replace-manifest --no-history new.json");
    assert_eq!(site.manifest(), new);
    site.file("bad.json", "{}");
    for (file, error) in [
        ("none.json", "no such file or directory: none.json"),
        (".", ". is a directory"),
        ("bad.json", "bad.json: manifest: missing or bad acKind (must be \"ImageManifest\")"),
    ] {
        site.fails(&format!("replace-manifest {file}"), &format!("replace-manifest: {error}\n"));
    }
    assert_eq!(site.manifest(), new);
}
